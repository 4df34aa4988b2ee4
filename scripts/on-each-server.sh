#!/usr/bin/env bash
# on-each-server.sh WHICH COMMAND: runs the command on one server after the other, which it finds through REDIS_SERVER, and
# ends with a report: how many tests passed on each, and what was left out there. Fails if one of the runs does.
#
# WHICH is `installed` for redis-server, or what REDIS_SERVER names; `newest` for the newest Redis and the newest Valkey of
# those that servers.sh has put to target/servers; `between` for the rest of them, without the version of the installed
# one; `all` for every one, and with REDIS_SERVER set for that one alone. `newest` and `between` go on with the report of the
# last run. What each run printed stays in target/report.
set -euo pipefail
. "$(dirname "$0")/common.sh"

which=$1
shift
report=$root/target/report

# What is right on the oldest and on the newest servers is right on those between them, but for what servers do each in their
# own way: how they block clients, replicate, and share slots.
newest=(redis-8.6 valkey-9.1.2)

# is_meant SERVER: whether this one of target/servers is among WHICH.
is_meant() {
    local name
    name=$(basename "$(dirname "$1")")
    case $which in
        newest) [[ " ${newest[*]} " == *" $name "* ]] ;;
        between) [[ " ${newest[*]} " != *" $name "* ]] ;;
        all) [[ -z ${REDIS_SERVER:-} ]] ;;
        *) false ;;
    esac
}

servers=()
if [[ $which == installed || $which == all ]]; then
    servers+=("$server")
    rm -rf "$report"
fi
installed=$(version_of "$server")
for each in "$fetched"/*/server; do
    if [[ -x $each && $(version_of "$each") != "$installed" ]] && is_meant "$each"; then
        servers+=("$each")
    fi
done

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
if [[ $which == between && -s $not_fetched ]]; then
    cat "$not_fetched"
fi
# Last, so that it is seen where only the end of a long output is shown: what each test that failed said first.
for each in ${failed[@]+"${failed[@]}"}; do
    echo "On $each:"
    awk '/^---- .* stdout ----$/ { left = 30 } /^failures:$/ { left = 0 } !/^ +(at |[0-9]+: )/ && left-- > 0' \
        "$report/${each/ /-}.log" | cut -c -400
done
((${#failed[@]} == 0)) || die "Failed on: ${failed[*]}"
