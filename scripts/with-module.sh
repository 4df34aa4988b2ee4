#!/usr/bin/env bash
# Builds the module, then runs the command given, which finds it through REDIS_LOCK_MODULE.
set -euo pipefail
. "$(dirname "$0")/common.sh"

cargo build --release
if (($# == 0)); then
    echo "Built $module"
else
    REDIS_LOCK_MODULE=$module exec "$@"
fi
