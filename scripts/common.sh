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

die() {
    printf '%s\n' "$@" >&2
    exit 1
}
