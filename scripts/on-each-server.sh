#!/usr/bin/env bash
# Runs the command given once for each server to test on, which the command finds through REDIS_SERVER: redis-server and
# those fetched by servers.sh. With REDIS_SERVER set it runs on that one alone. Fails if one of the runs does.
set -euo pipefail
. "$(dirname "$0")/common.sh"

servers=("$server")
if [[ -z ${REDIS_SERVER:-} ]]; then
    for fetched in "$root"/target/servers/*/server; do
        [[ ! -x $fetched ]] || servers+=("$fetched")
    done
fi

failed=()
for each in "${servers[@]}"; do
    echo "On $each: $("$each" --version)"
    REDIS_SERVER=$each "$@" || failed+=("$each")
done
((${#failed[@]} == 0)) || die "Failed on:" "${failed[@]/#/  }"
