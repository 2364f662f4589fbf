#!/bin/sh
# Prints a kubeconfig for the account of account.yaml, from the cluster that kubectl talks to now.
set -eu
NAMESPACE=${1:-slipway-endpoints}
CLUSTER='{.clusters[0].cluster'
config() { kubectl config view --raw --flatten --minify -o jsonpath="$CLUSTER$1"; }
TOKEN=$(kubectl -n "$NAMESPACE" get secret slipway-token -o jsonpath='{.data.token}' | base64 -d)
cat <<END
apiVersion: v1
kind: Config
clusters:
  - name: target
    cluster:
      server: $(config '.server}')
      certificate-authority-data: $(config '.certificate-authority-data}')
users:
  - name: slipway
    user:
      token: $TOKEN
contexts:
  - name: target
    context:
      cluster: target
      user: slipway
      namespace: $NAMESPACE
current-context: target
END
