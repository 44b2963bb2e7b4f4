#!/usr/bin/env bash
# Makes a minimal Debian as a docker image, where no registry is reachable (debootstrap), once: its name says how it was
# made, and is all that is printed. Needs root, docker and debootstrap; complains and fails without.
# usage: tools/base-image.sh FOLDER     (downloads are kept there; BASE_SUITE, BASE_MIRROR)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$1; suite=${BASE_SUITE:-bookworm}; mirror=${BASE_MIRROR:-http://deb.debian.org/debian}
packages=ca-certificates,git,make,python3
image=covey-base:$suite-$(sha256sum "$here/base-image.sh" | cut -c1-12)

[ "$(id -u)" = 0 ] || { echo "a base image is made by root (debootstrap, docker)" >&2; exit 1; }
docker info >/dev/null 2>&1 || { echo "no docker daemon answers" >&2; exit 1; }
if ! docker image inspect "$image" >/dev/null 2>&1; then
    echo "making the base image $image" >&2
    command -v debootstrap >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
    mkdir -p "$work/debs"; work=$(cd "$work" && pwd); rm -rf "$work/rootfs"
    debootstrap --variant=minbase --cache-dir="$work/debs" --include="$packages" "$suite" "$work/rootfs" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    rm -f "$work"/rootfs/var/cache/apt/archives/*.deb
    # as the images of Debian's own: dpkg need not wait for the disk after each file, and nobody reads manuals in a container
    printf '%s\n' force-unsafe-io path-exclude=/usr/share/{doc,info,locale,man}/\* >"$work/rootfs/etc/dpkg/dpkg.cfg.d/container"
    echo 'Acquire::Languages "none";' >"$work/rootfs/etc/apt/apt.conf.d/container"
    # the certificates that this machine trusts, so that a company's proxy works inside too
    [ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$work/rootfs/etc/ssl/certs/ca-certificates.crt"
    tar -C "$work/rootfs" --numeric-owner -c . |
        docker import -c 'ENV LANG=C.UTF-8' -c 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' - "$image" >/dev/null
    rm -rf "$work/rootfs"
fi
echo "$image"
