#!/usr/bin/env bash
# Runs the tests of the clients, with environments under target that their languages' own package managers make. Takes names
# of files of clients/python/tests as arguments. Wants REDIS_LOCK_MODULE, as scripts/with-module.sh gives it.
set -euo pipefail
. "$(dirname "$0")/common.sh"

python=$target/clients/python
tests=clients/python/tests
wanted=$tests/requirements.txt

if ! cmp -s "$wanted" "$python/installed"; then
    rm -rf "$python"
    python3 -m venv "$python" ||
        die 'python3 cannot make an environment for the client: its module venv or ensurepip fails, see above.'
    "$python/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" ||
        die "pip cannot get what $wanted names, see above: is there a network, or a package index that pip may use?"
    cp "$wanted" "$python/installed"
fi
# As it comes to whoever installs it from the folder. The build leaves its traces beside the sources, so it has a copy.
rm -rf "$python/source"
cp -r clients/python "$python/source"
"$python/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall \
    "$python/source"
(cd clients/python && "$python/bin/mypy" --cache-dir "$python/mypy")

# The tests of redis-py are in its source distribution alone. Without it they are skipped, and the reason is said.
redis_py=$(sed -n 's/^redis==//p' "$wanted")
if [[ ! -d $python/redis-$redis_py ]]; then
    if "$python/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary redis \
        --dest "$python" "redis==$redis_py"; then
        tar -xzf "$python/redis-$redis_py.tar.gz" -C "$python"
    fi
fi
if [[ -d $python/redis-$redis_py ]]; then
    export REDIS_PY_TESTS=$python/redis-$redis_py
fi

# What judges histories.
cargo build --quiet --package lock-checker
export REDIS_LOCK_CHECKER=$target/debug/check-history
export REDIS_SERVER=$server
exec "$python/bin/python" -B "$tests" "$@"
