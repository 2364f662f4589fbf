#!/usr/bin/env bash
# Builds what the test cluster runs and Debian does not have, once for all checkouts of this machine:
#
#   tests/cluster/setup/build.sh        into $SLIPWAY_TEST_CACHE (default /var/cache/slipway-test)/kubernetes/<version>
#
# Needs Go 1.26 or newer on PATH or in /usr/local/go/bin, and docker with the tests' image (.ci/install).
# SLIPWAY_BUILD_JOBS=1 keeps the machine free for others.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$PATH:/usr/local/go/bin" HOME=${HOME:-/root}

CACHE=${SLIPWAY_TEST_CACHE:-/var/cache/slipway-test}/kubernetes
VERSION=$(sed -n 's/^\(require\)\?[[:space:]]*k8s\.io\/kubernetes \(v[0-9.]*\)$/\2/p' kubernetes/go.mod)
[ -n "$VERSION" ] || { echo "kubernetes/go.mod names no version of k8s.io/kubernetes" >&2; exit 1; }
PROGRAMS="kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl"
PLACE=$CACHE/$VERSION
STAMP=$(cat kubernetes/go.mod kubernetes/main.go metrics-server/go.mod pause/main.go | sha256sum | cut -c1-16)

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*"; }

mkdir -p "$CACHE"
exec 9>"$CACHE/build.lock"
flock 9
if [ "$(cat "$PLACE/stamp" 2>/dev/null || true)" = "$STAMP" ]; then
    say "kubernetes: $VERSION is present"
    exit 0
fi
command -v go >/dev/null || { say "kubernetes: Go is not installed"; exit 1; }
say "kubernetes: building $VERSION (once)"
BUILD=$CACHE/build
mkdir -p "$BUILD/bin"
export GOPATH=$BUILD/go GOCACHE=$BUILD/cache CGO_ENABLED=0 GOTOOLCHAIN=local
export GOFLAGS="-modcacherw -mod=readonly -buildvcs=false -trimpath -p=${SLIPWAY_BUILD_JOBS:-$(nproc)}"
WORDS=k8s.io/component-base/version
MINOR=${VERSION#v1.}
(cd kubernetes && go build -o "$BUILD/bin/kubernetes" -ldflags "-s -w -X $WORDS.gitVersion=$VERSION -X $WORDS.gitMajor=1
    -X $WORDS.gitMinor=${MINOR%%.*} -X $WORDS.gitTreeState=clean" .)
(cd metrics-server && go build -o "$BUILD/bin/metrics-server" -ldflags "-s -w" tool)
go build -o "$BUILD/bin/pause" -ldflags "-s -w" pause/main.go
for program in $PROGRAMS; do
    ln -sf kubernetes "$BUILD/bin/$program"
done
tar -C "$BUILD/bin" -c pause | docker import --change 'ENTRYPOINT ["/pause"]' - slipway-test/pause:1 >/dev/null
docker save -o "$BUILD/bin/pause.tar" slipway-test/pause:1
rm -rf "$PLACE"
mv "$BUILD/bin" "$PLACE"
echo "$STAMP" >"$PLACE/stamp"
rm -rf "$BUILD"
say "kubernetes: $PLACE"
