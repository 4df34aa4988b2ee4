#!/usr/bin/env bash
# Shows that `make history` can find what it looks for: with the rule of admission broken on purpose, the fences, levels, releases or
# places in the queue, it must fail, and say why.
set -euo pipefail
. "$(dirname "$0")/common.sh"

setups=(a_server_that_keeps_its_append_only_file a_replica_that_has_caught_up a_cluster_keeps)

for broken in admission fence level release place; do
    cargo build --profile proof --features "broken-$broken"
    for setup in "${setups[@]}"; do
        if found=$(REDIS_LOCK_MODULE=$target/proof/$library cargo test --test history "$setup" 2>&1); then
            die "With its $broken broken, nothing was found in $setup."
        fi
        grep -A 12 -m 1 "^$broken: " <<<"$found" || die "Something else than a broken $broken was found:" "$found"
    done
done
echo 'Everything that was broken on purpose was found.'
