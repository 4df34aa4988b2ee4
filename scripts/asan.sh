#!/usr/bin/env bash
# asan.sh [FILTER...]: runs tests on a server whose module is built for AddressSanitizer. It sees what the module and the server
# do with memory that they allocate: both allocate through the sanitizer then. Without FILTER it runs the tests that load the
# module most: those of waiting, of files and replicas, of strings, of what happens to keys, and of hostile bytes.
#
# Leaks are not looked for: a server that ends leaves its data to the system.
set -euo pipefail
. "$(dirname "$0")/common.sh"

triple=x86_64-unknown-linux-gnu
built=$root/target/asan
runtime=$(gcc -print-file-name=libasan.so)
filters=("$@")
((${#filters[@]} > 0)) || filters=(waiting durability strings keyspace commands::hostile)

[[ $(uname -sm) == 'Linux x86_64' ]] || die 'This is set up for Linux on x86_64.'
[[ -e $runtime ]] || die "There is no libasan beside gcc: install libasan of the same version."

# A word that chooses no test is a mistake, and must not pass for success.
listed=$(cargo test --quiet --test server -- --list)
for filter in "${filters[@]}"; do
    grep -qF -- "$filter" <<<"$listed" || die "No test is called $filter."
done

# The flag is one of a nightly compiler. The stable one takes it where it is told to.
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$built \
    cargo build --quiet --target "$triple" --profile proof --lib

rm -rf "$built/reports"
mkdir -p "$built/reports"
# The sanitizer comes first among the libraries that are loaded ahead; some tests bring others.
cat >"$built/server" <<END
#!/bin/sh
export LD_PRELOAD="$runtime\${LD_PRELOAD:+:\$LD_PRELOAD}"
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:log_path=$built/reports/report"
exec "$(command -v "$server")" "\$@"
END
chmod +x "$built/server"

result=0
REDIS_SERVER=$built/server REDIS_LOCK_MODULE=$built/$triple/proof/$library \
    cargo test --test server -- "${filters[@]}" || result=$?
if compgen -G "$built/reports/*" >/dev/null; then
    cat "$built"/reports/*
    die 'AddressSanitizer has found something, see above.'
fi
exit "$result"
