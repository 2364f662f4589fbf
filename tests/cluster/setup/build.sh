#!/usr/bin/env bash
# Builds what the test cluster runs and Debian does not have, once for all checkouts of this machine:
#
#   tests/cluster/setup/build.sh        into $SLIPWAY_TEST_CACHE (default /var/cache/slipway-test)/kubernetes/<version>
#                                       and .../kubernetes/traefik-<version>; KEDA's definitions into .../keda
#   tests/cluster/setup/build.sh keda   that, and KEDA's programs into .../keda/<version>
#
# Needs Go 1.26 or newer on PATH or in /usr/local/go/bin, and docker with the tests' image (.ci/install).
# SLIPWAY_BUILD_JOBS=1 keeps the machine free for others. With GOPATH set its modules are used, else fetched for the build.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$PATH:/usr/local/go/bin" HOME=${HOME:-/root}

KEDA=${SLIPWAY_TEST_CACHE:-/var/cache/slipway-test}/keda
CACHE=${SLIPWAY_TEST_CACHE:-/var/cache/slipway-test}/kubernetes
PROGRAMS="kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl"
BUILD=$CACHE/build
KEDA_MODULE=github.com/kedacore/keda/v2

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*"; }

# The version of a module that a go.mod file names.
version_of() {
    sed -n "s|^\(require\)\?[[:space:]]*$2 \(v[0-9.]*\)\( // indirect\)\?\$|\2|p" "$1/go.mod" | grep . ||
        { echo "$1/go.mod names no version of $2" >&2; exit 1; }
}

stamp_of() { cat "$@" | sha256sum | cut -c1-16; }

# Whether $1 holds what stamp $2 stands for; if not, the tools are made ready to build it.
is_present() {
    if [ "$(cat "$1/stamp" 2>/dev/null || true)" = "$2" ]; then
        say "kubernetes: ${1##*/} is present"
        return
    fi
    command -v go >/dev/null || { say "kubernetes: Go is not installed"; exit 1; }
    say "kubernetes: building ${1##*/} (once)"
    mkdir -p "$BUILD/bin"
    export GOPATH=${GOPATH:-$BUILD/go} GOCACHE=${GOCACHE:-$BUILD/cache} CGO_ENABLED=0 GOTOOLCHAIN=local
    export GOFLAGS="-modcacherw -mod=readonly -buildvcs=false -trimpath -p=${SLIPWAY_BUILD_JOBS:-$(nproc)}"
    return 1
}

# What was built takes its place.
keep() {
    rm -rf "$1"
    mv "$BUILD/bin" "$1"
    echo "$2" >"$1/stamp"
    say "kubernetes: $1"
}

build_kubernetes() {
    local version place stamp program words=k8s.io/component-base/version minor
    version=$(version_of kubernetes k8s.io/kubernetes)
    place=$CACHE/$version
    stamp=$(stamp_of kubernetes/go.mod kubernetes/main.go metrics-server/go.mod pause/main.go)
    is_present "$place" "$stamp" && return
    minor=${version#v1.}
    (cd kubernetes && go build -o "$BUILD/bin/kubernetes" -ldflags "-s -w -X $words.gitVersion=$version
        -X $words.gitMajor=1 -X $words.gitMinor=${minor%%.*} -X $words.gitTreeState=clean" .)
    (cd metrics-server && go build -o "$BUILD/bin/metrics-server" -ldflags "-s -w" tool)
    go build -o "$BUILD/bin/pause" -ldflags "-s -w" pause/main.go
    for program in $PROGRAMS; do
        ln -sf kubernetes "$BUILD/bin/$program"
    done
    tar -C "$BUILD/bin" -c pause | docker import --change 'ENTRYPOINT ["/pause"]' - slipway-test/pause:1 >/dev/null
    docker save -o "$BUILD/bin/pause.tar" slipway-test/pause:1
    keep "$place" "$stamp"
}

# Traefik serves Ingress and Gateway API; the latter's resource definitions lie in a module of their own. What asks DNS
# providers for certificates, hundreds of modules of theirs, is left out.
build_ingress() {
    local lego=github.com/go-acme/lego/v4 place stamp version source
    place=$CACHE/traefik-$(version_of traefik github.com/traefik/traefik/v3)
    stamp=$(stamp_of traefik/go.mod traefik/dns/none.go)
    is_present "$place" "$stamp" && return
    version=$(version_of traefik $lego)
    source=$(cd / && go mod download -json "$lego@$version" | sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')
    mkdir "$BUILD/traefik"
    cp traefik/go.mod traefik/go.sum "$BUILD/traefik"
    cp -r --no-preserve=mode "$source" "$BUILD/lego"
    cp traefik/dns/none.go "$BUILD/lego/providers/dns/zz_gen_dns_providers.go"
    (cd "$BUILD/traefik" && go build -o "$BUILD/bin/traefik" -ldflags "-s -w" tool)
    source=$(cd "$BUILD/traefik" && go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)
    mkdir "$BUILD/bin/gateway-api"
    cp "$source"/config/crd/standard/*.k8s.io_*.yaml "$BUILD/bin/gateway-api/"
    keep "$place" "$stamp"
}

# The definitions of KEDA's objects, which a cluster takes without KEDA's programs.
fetch_keda() {
    local version place stamp source
    version=$(version_of keda $KEDA_MODULE)
    place=$KEDA/definitions-$version
    stamp=$(stamp_of keda/go.mod)
    is_present "$place" "$stamp" && return
    source=$(cd / && go mod download -json "$KEDA_MODULE@$version" | sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')
    cp --no-preserve=mode "$source"/config/crd/bases/*.yaml "$BUILD/bin/"
    keep "$place" "$stamp"
}

# Ten minutes of two processors: it knows the interfaces of all clouds.
build_keda() {
    local place stamp
    place=$KEDA/$(version_of keda $KEDA_MODULE)
    stamp=$(stamp_of keda/go.mod)
    is_present "$place" "$stamp" && return
    (cd keda && go build -o "$BUILD/bin/" -ldflags "-s -w" $KEDA_MODULE/cmd/operator $KEDA_MODULE/cmd/adapter)
    keep "$place" "$stamp"
}

mkdir -p "$CACHE" "$KEDA"
exec 9>"$CACHE/build.lock"
flock 9
build_kubernetes
build_ingress
fetch_keda
[ "${1:-}" != keda ] || build_keda
rm -rf "$BUILD"
