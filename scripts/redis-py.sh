#!/usr/bin/env bash
# Runs tests/redis_py with the redis-py that its requirements.txt names, in an environment under target. Takes names of
# files there as arguments. Wants REDIS_LOCK_MODULE, as scripts/with-module.sh gives it.
set -euo pipefail
. "$(dirname "$0")/common.sh"

environment=$target/redis-py
wanted=tests/redis_py/requirements.txt

if ! cmp -s "$wanted" "$environment/installed"; then
    rm -rf "$environment"
    python3 -m venv "$environment" ||
        die 'python3 cannot make an environment for redis-py: its module venv or ensurepip fails, see above.'
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" ||
        die "pip cannot get $(paste -sd ' ' "$wanted"), see above: is there a network, or a package index that pip may use?"
    cp "$wanted" "$environment/installed"
fi
# What judges the histories of others too.
cargo build --quiet --package lock-checker
export REDIS_LOCK_CHECKER=$target/debug/check-history
export REDIS_SERVER=$server
exec "$environment/bin/python" -B tests/redis_py "$@"
