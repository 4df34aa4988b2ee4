#!/usr/bin/env bash
# Makes clean machines to install packages on, in target/roots: a Debian with nothing but redis-server, one with nothing but
# valkey-server, and one with what building needs. Takes root and debootstrap. What is there already stays.
set -euo pipefail
. "$(dirname "$0")/common.sh"

roots=$root/target/roots

[[ $(id -u) == 0 ]] || die 'A clean machine is made by debootstrap, which takes root.'
have debootstrap || "$root/scripts/setup.sh" packages

# The address from which this machine gets its own packages.
archive() {
    local main=(indextargets --format "\$(REPO_URI)" 'Origin: Debian' 'Label: Debian' 'Component: main' 'Created-By: Packages')
    [[ -n $(apt-get "${main[@]}") ]] || apt-get update --quiet --quiet >&2
    apt-get "${main[@]}" | head -n 1
}

# machine NAME SUITE PACKAGE...
machine() {
    local name=$1 suite=$2 at=$roots/$1 from
    shift 2
    if [[ ! -d $at ]]; then
        from=$(archive)
        [[ -n $from ]] || die 'None of the package sources of this machine is the Debian archive.'
        echo "$name: making it"
        rm -rf "$at.part"
        debootstrap --variant=minbase --include="$(IFS=,; echo "${packages[*]} $*" | tr ' ' ,)" "$suite" "$at.part" "$from" >"$roots/$name.log" 2>&1 ||
            die "$name: debootstrap failed, see $roots/$name.log"
        mv "$at.part" "$at"
    fi
    echo "$name: $at"
}

# What apt needs to reach the archive from within.
packages=(ca-certificates)

mkdir -p "$roots"
machine redis bookworm redis-server
machine valkey trixie valkey-server
machine source bookworm make
