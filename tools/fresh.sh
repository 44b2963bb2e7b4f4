#!/usr/bin/env bash
# The README's two commands as a newcomer types them: in a new minimal Debian (debootstrap → docker
# image, kept by the hash of this file), on a clone of HEAD. Needs root, docker and debootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${FRESH_SUITE:-bookworm}
mirror=${FRESH_MIRROR:-http://deb.debian.org/debian}
work=${FRESH_DIR:-$PWD/build-fresh}
image=covey-fresh:$suite-$(sha256sum "$0" | cut -c1-12)

[ "$(id -u)" = 0 ] || { echo "make fresh needs root (debootstrap, docker)" >&2; exit 1; }
docker info >/dev/null 2>&1 || { echo "make fresh needs a docker daemon that answers" >&2; exit 1; }
command -v debootstrap >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null

mkdir -p "$work"
if ! docker image inspect "$image" >/dev/null 2>&1; then
    echo "making the base image $image"
    rm -rf "$work/rootfs"; mkdir -p "$work/debs"
    debootstrap --variant=minbase --cache-dir="$work/debs" --include=ca-certificates,git,make,python3 "$suite" "$work/rootfs" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    rm -f "$work"/rootfs/var/cache/apt/archives/*.deb
    # the certificates that this machine trusts, so that a company's proxy works inside too
    [ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$work/rootfs/etc/ssl/certs/ca-certificates.crt"
    tar -C "$work/rootfs" --numeric-owner -c . | docker import - "$image" >/dev/null
    rm -rf "$work/rootfs"
fi

rm -rf "$work/covey.git"
git clone -q --bare . "$work/covey.git"
cid=$(docker create --network=host --cap-add=SYS_ADMIN --cap-add=NET_ADMIN --cap-add=SYS_PTRACE --security-opt apparmor=unconfined -e LANG=C.UTF-8 \
    -e PIP_CERT=/etc/ssl/certs/ca-certificates.crt -v "$work/covey.git:/src.git:ro" "$image" \
    bash -euc 'git config --global --add safe.directory /src.git; git clone -q /src.git /root/covey; cd /root/covey
        for command in "make demo" "make test" "make demo"; do
            echo "== $command"; start=$(date +%s); $command; echo "== $command: $(($(date +%s) - start)) s"
        done')
trap 'docker rm -f "$cid" >/dev/null 2>&1 || true' EXIT
docker start -a "$cid"
