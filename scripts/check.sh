#!/usr/bin/env bash
# Format and lints, every warning an error.
set -euo pipefail
. "$(dirname "$0")/common.sh"

# A minimal toolchain has neither.
for tool in fmt clippy; do
    cargo $tool --version >/dev/null 2>&1 || rustup component add rustfmt clippy ||
        die "cargo $tool is not there. With rustup: rustup component add rustfmt clippy"
done

set -x
cargo fmt --all --check
# The tests of packages are no part of all targets, since cargo test leaves them out.
cargo clippy --workspace --all-targets --test packages -- -D warnings
