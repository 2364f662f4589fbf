#!/usr/bin/env bash
# Makes an image with BuildKit for the user 1000, laid out as the rootless images of its project are, once for all
# checkouts of this machine:
#
#   tests/cluster/setup/buildkit/build.sh    into $SLIPWAY_TEST_CACHE (default /var/cache/slipway-test)/buildkit/<version>
#
# Needs root, Go 1.26 or newer on PATH or in /usr/local/go/bin, docker, and Debian's runc, uidmap, libcap2-bin
# and busybox-static.
# SLIPWAY_BUILD_JOBS=1 keeps the machine free for others.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/usr/local/go/bin" HOME=${HOME:-/root}

CACHE=${SLIPWAY_TEST_CACHE:-/var/cache/slipway-test}/buildkit
VERSION=$(sed -n 's/^[[:space:]]*github\.com\/moby\/buildkit \(v[0-9.]*\).*$/\1/p' go.mod)
[ -n "$VERSION" ] || { echo "go.mod names no version of github.com/moby/buildkit" >&2; exit 1; }
PLACE=$CACHE/$VERSION
STAMP=$(cat go.mod build.sh | sha256sum | cut -c1-16)
IMAGE=slipway-test/buildkit:$VERSION

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*"; }

# A program of this machine, with the libraries that it needs, so that it fits whatever system the machine has.
bring() {
    local program found
    program=$(command -v "$1") || { echo "$1 is not installed" >&2; exit 1; }
    install -m 755 "$program" "$ROOT/usr/bin/"
    ldd "$program" | grep -o '/[^ ]*' | while read -r found; do
        install -D "$found" "$ROOT$found"
    done
}

mkdir -p "$CACHE"
exec 9>"$CACHE/build.lock"
flock 9
if [ "$(cat "$PLACE/stamp" 2>/dev/null || true)" = "$STAMP" ]; then
    say "buildkit: $VERSION is present"
    exit 0
fi
command -v go >/dev/null || { say "buildkit: Go is not installed"; exit 1; }
say "buildkit: building $VERSION (once)"
BUILD=$CACHE/build
ROOT=$BUILD/root
rm -rf "$ROOT"
mkdir -p "$BUILD" "$ROOT"/{bin,etc,proc,sys,dev,tmp,run/user/1000,usr/bin,home/user/.local/share/buildkit,home/user/.local/tmp}
export GOPATH=$BUILD/go GOCACHE=$BUILD/cache CGO_ENABLED=0 GOTOOLCHAIN=local
export GOFLAGS="-modcacherw -mod=readonly -buildvcs=false -trimpath -p=${SLIPWAY_BUILD_JOBS:-$(nproc)}"
go build -o "$ROOT/usr/bin/" -ldflags "-s -w -X github.com/moby/buildkit/version.Version=$VERSION" tool
SOURCE=$(go list -m -f '{{.Dir}}' github.com/moby/buildkit)
install -m 755 "$SOURCE/examples/buildctl-daemonless/buildctl-daemonless.sh" "$ROOT/usr/bin/"
bring runc
bring newuidmap
bring newgidmap
install -m 755 "$(command -v busybox)" "$ROOT/bin/busybox"
for name in awk cat cp expr id mkdir mktemp rm sh sleep; do
    ln -s busybox "$ROOT/bin/$name"
done
printf 'root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n' >"$ROOT/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$ROOT/etc/group"
printf 'user:100000:65536\n' | tee "$ROOT/etc/subuid" >"$ROOT/etc/subgid"
chmod 1777 "$ROOT/tmp"
chown -R 1000:1000 "$ROOT/home/user" "$ROOT/run/user/1000"
chmod 700 "$ROOT/run/user/1000"
# Debian builds them to need CAP_SYS_ADMIN when they have the set-user-id bit; with a capability of their own they do not.
setcap cap_setuid=ep "$ROOT/usr/bin/newuidmap"
setcap cap_setgid=ep "$ROOT/usr/bin/newgidmap"
tar --xattrs --xattrs-include=security.capability -C "$ROOT" -c . | docker import --change 'USER 1000:1000' --change 'ENV HOME=/home/user USER=user' \
    --change 'ENV XDG_RUNTIME_DIR=/run/user/1000 TMPDIR=/home/user/.local/tmp' \
    --change 'ENV BUILDKIT_HOST=unix:///run/user/1000/buildkit/buildkitd.sock' - "$IMAGE" >/dev/null
mkdir -p "$BUILD/out"
docker save -o "$BUILD/out/image.tar" "$IMAGE"
docker rmi "$IMAGE" >/dev/null
echo "$IMAGE" >"$BUILD/out/name"
echo "$STAMP" >"$BUILD/out/stamp"
rm -rf "$PLACE"
mv "$BUILD/out" "$PLACE"
rm -rf "$BUILD"
say "buildkit: $PLACE"
