//! How many connections this machine allows.

use std::fs;

/// How many files this process may have open; where that is not known, as many as can be relied on anywhere.
pub(crate) fn open_files() -> usize {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = text.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(256)
}

/// Files that are open besides the connections of which a scenario has many.
pub(crate) const OTHER_FILES: usize = 200;

/// Whether so many connections may be.
pub(crate) fn may_be_open(connections: usize) -> bool {
    connections <= open_files().saturating_sub(OTHER_FILES)
}
