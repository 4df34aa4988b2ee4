#!/usr/bin/env bash
# on-each-server.sh WHICH COMMAND: runs the command on one server after the other, which it finds through REDIS_SERVER, and
# ends with a report: how many tests passed on each, and what was left out there. Fails if one of the runs does.
#
# WHICH is `installed` for redis-server, or what REDIS_SERVER names; `others` for those that servers.sh has put to
# target/servers, without the version of the installed one; `all` for both, and with REDIS_SERVER set for that one alone.
# `others` goes on with the report of the last run. What each run printed stays in target/report.
set -euo pipefail
. "$(dirname "$0")/common.sh"

which=$1
shift
report=$root/target/report

servers=()
if [[ $which != others ]]; then
    servers+=("$server")
    rm -rf "$report"
fi
if [[ $which == others || ($which == all && -z ${REDIS_SERVER:-}) ]]; then
    installed=$(version_of "$server")
    for each in "$fetched"/*/server; do
        if [[ -x $each && $(version_of "$each") != "$installed" ]]; then
            servers+=("$each")
        fi
    done
fi

# run_on SERVER COMMAND: its line of the report has the totals that cargo test prints for each file of tests.
run_on() {
    local server=$1 name log totals result=ok
    shift
    name=$(version_of "$server") || die "$server does not run."
    log=$report/${name/ /-}
    mkdir -p "$report"
    : >"$log.skipped"
    echo "On $server: $name"
    SECONDS=0
    REDIS_SERVER=$server REDIS_LOCK_SKIPPED=$log.skipped "$@" 2>&1 | tee "$log.log" || result=FAILED
    totals=$(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { printf "%d passed, %d failed, %d ignored", p, f, i }' \
        "$log.log")
    # A test that tries several things in turn may say it of each.
    sort -u -o "$log.skipped" "$log.skipped"
    {
        echo "$name: $result, $totals, $(wc -l <"$log.skipped") skipped, $SECONDS s"
        sed 's/^/    skipped /' "$log.skipped"
        sed -nE 's/^test (.*) \.\.\. ignored(, )?/    ignored \1: /p' "$log.log"
    } >>"$report/summary"
    [[ $result == ok ]] || failed+=("$name")
}

# Tests mostly wait for leases to end, so more of them run side by side than there are cores.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}

failed=()
for each in ${servers[@]+"${servers[@]}"}; do
    run_on "$each" "$@"
done
echo
cat "$report/summary"
if [[ $which == others && -s $not_fetched ]]; then
    cat "$not_fetched"
fi
((${#failed[@]} == 0)) || die "Failed on: ${failed[*]}"
