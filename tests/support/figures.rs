//! What `INFO lock` counts.

use std::collections::BTreeMap;

use super::Client;

/// What is counted from the start on.
pub(crate) const TOTALS: [&str; 20] = [
    "grants",
    "grants_after_wait",
    "refusals",
    "timeouts",
    "queue_full",
    "deadlocks",
    "releases",
    "refused_releases",
    "extensions",
    "refused_extensions",
    "released",
    "lapsed",
    "unclaimed",
    "broken",
    "sessions_closed",
    "undone",
    "evicted",
    "removed",
    "moved",
    "holds_ended",
];

/// The section as `INFO section` has it.
pub(crate) fn figures(client: &mut Client, section: &str) -> BTreeMap<String, i64> {
    let text = client.run(&format!("INFO {section}")).text();
    let fields = text.lines().filter_map(|line| line.strip_prefix("lock_")?.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().parse().expect("a number"))).collect()
}
