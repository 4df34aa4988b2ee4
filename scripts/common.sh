# What the scripts share. Sourced, never run.
# shellcheck shell=bash disable=SC2034  # the variables are for those who source this

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit

target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$root/$target

case $(uname -s) in
    Darwin) library=libredis_lock.dylib ;;
    *) library=libredis_lock.so ;;
esac
module=$target/release/$library

server=${REDIS_SERVER:-redis-server}

# Where servers.sh puts the servers to test on, and what it says of those that cannot be had.
fetched=$root/target/servers
not_fetched=$fetched/skipped

have() {
    command -v "$1" >/dev/null
}

# What a server is, as in "redis 7.0.15". Nothing, and not true, where it does not run.
version_of() {
    [[ $("$1" --version 2>/dev/null) =~ ^([A-Za-z]+)\ .*v=([^ ]+) ]] && echo "${BASH_REMATCH[1],,} ${BASH_REMATCH[2]}"
}

die() {
    printf '%s\n' "$@" >&2
    exit 1
}
