#!/usr/bin/env bash
# Shows what a fault of the module leaves behind: a module that panics at chosen points is loaded, and tests/faults.rs looks.
set -euo pipefail
. "$(dirname "$0")/common.sh"

cargo build --profile proof --features faults
REDIS_LOCK_MODULE=$target/proof/$library cargo test --test faults -- --include-ignored
