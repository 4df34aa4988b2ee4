#!/usr/bin/env bash
# Runs tests/history on each server, a minute for each set-up, and ends with tables of what was lost where Redis may lose it.
set -euo pipefail
. "$(dirname "$0")/common.sh"

export REDIS_LOCK_HISTORY_SECONDS=${REDIS_LOCK_HISTORY_SECONDS:-60}
failed=0
scripts/on-each-server.sh all cargo test --test history -- --nocapture || failed=$?

for log in "$root"/target/report/*.log; do
    printf '\n%s\n\n' "On $(basename "$log" .log), $REDIS_LOCK_HISTORY_SECONDS s for each set-up:"
    echo '| set-up | faults | grants | second holders | lost holds | fences that fell | late writes | let through by fences | turned away by fences |'
    echo '|---|---|---|---|---|---|---|---|---|'
    grep '^| ' "$log" | sort
done
exit "$failed"
