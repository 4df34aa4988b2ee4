#!/usr/bin/env bash
# Builds the module, then runs the command given, which finds it through REDIS_LOCK_MODULE.
set -euo pipefail
. "$(dirname "$0")/common.sh"

cargo build --release
if (($# == 0)); then
    echo "Built $module"
else
    # The benchmark has ten thousand clients wait; where that many files are not allowed it leaves those rows out.
    ulimit -n "$(ulimit -Hn)" || true
    REDIS_LOCK_MODULE=$module exec "$@"
fi
