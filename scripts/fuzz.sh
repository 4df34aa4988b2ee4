#!/usr/bin/env bash
# Fuzzes the core with random and mutated input, FUZZ_SECONDS (60) for each target of fuzz/, with debug assertions. What it finds
# is in fuzz/artifacts, and the command that runs it again is printed. What it has learned stays in target/fuzz-corpus.
#
# cargo-fuzz asks for flags of a nightly compiler. The stable one takes them where it is told to.
set -euo pipefail
. "$(dirname "$0")/common.sh"

seconds=${FUZZ_SECONDS:-60}
tools=$root/target/tools

[[ $(uname -sm) == 'Linux x86_64' ]] || die 'Fuzzing is set up for Linux on x86_64.'
cargo install --quiet --locked --root "$tools" cargo-fuzz --version 0.13.2
export PATH=$tools/bin:$PATH RUSTC_BOOTSTRAP=1

for each in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$each" .rs)
    corpus=$target/fuzz-corpus/$name
    mkdir -p "$corpus"
    echo "== $name, $seconds s"
    # Without a sanitizer: the core has no unsafe code, so that what there is to find panics.
    cargo fuzz run --fuzz-dir fuzz --sanitizer none "$name" "$corpus" "fuzz/seeds/$name" -- \
        -max_total_time="$seconds" -timeout=10 -max_len=4096 -print_final_stats=1 2>&1 |
        grep -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE|pulse|RELOAD)|# Uses: |^###### ' || die "$name: found something, see above"
done
