#!/usr/bin/env bash
# Builds the images of contrib/containers with buildah, in target/containers, and leaves them mounted for the tests of
# tests/packages, which it then runs. No image is fetched: what stands for the official ones are the clean machines of
# scripts/roots.sh, which have Debian's servers at the same places. Takes root.
set -euo pipefail
. "$(dirname "$0")/common.sh"

containers=$root/target/containers
roots=$root/target/roots
sysroot=$(rustc --print sysroot)

[[ $(id -u) == 0 ]] || die 'Building images in this way takes root.'

buildah() {
    command buildah --root "$containers/storage" --runroot "$containers/run" --storage-driver vfs "$@"
}

# base NAME ROOT: an image that is a clean machine, with this machine's certificates.
base() {
    local container
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$roots/$2" / >/dev/null
    buildah add --quiet "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ >/dev/null
    buildah config --env "PATH=$sysroot/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$container"
    buildah commit --quiet --rm "$container" "$1" >/dev/null
}

# image NAME USER: the image, and what it is made of.
image() {
    local name=$1 user=$2 container
    buildah build --quiet --format docker --isolation chroot --network host --layers=false \
        --volume "$sysroot:$sysroot:ro" --file contrib/containers/Dockerfile \
        --build-arg RUST=localhost/stand-in-rust --build-arg "SERVER=localhost/stand-in-$name" \
        --build-arg "SERVER_USER=$user" --tag "redis-lock-$name" . >"$containers/$name.log" 2>&1 ||
        die "The image of $name was not built: see $containers/$name.log"
    container=$(buildah from "redis-lock-$name")
    buildah inspect "$container" >"$containers/$name.json"
    buildah mount "$container" >"$containers/$name.root"
    echo "$name: $(cat "$containers/$name.root")"
}

remove_all() {
    buildah unmount --all >/dev/null 2>&1 || true
    buildah rm --all >/dev/null 2>&1 || true
}

"$root/scripts/roots.sh"
mkdir -p "$containers"
trap remove_all EXIT
remove_all
base stand-in-rust source
base stand-in-redis redis
base stand-in-valkey valkey
image redis redis
image valkey valkey
"$root/scripts/with-module.sh" cargo test --test packages container
