//! What locks protect: something that is written to, and remembers the highest fence it has seen.

use std::collections::BTreeMap;
use std::sync::Mutex;

use lock_checker::{Answer, Micros};

use crate::history_client::Clock;

/// One such thing for each lock. It takes every write that does not come too late by its fence.
#[derive(Default)]
pub(crate) struct Resource {
    highest: Mutex<BTreeMap<String, u64>>,
}

impl Resource {
    /// A holder writes, if its lease certainly runs until `lease_end`, as a careful client does. When, and what came of it.
    pub(crate) fn write(
        &self,
        clock: Clock,
        key: &str,
        fence: u64,
        lease_end: Micros,
    ) -> Option<(Micros, Answer)> {
        let mut highest = self.highest.lock().unwrap();
        let now = clock.now();
        if now >= lease_end {
            return None;
        }
        let seen = highest.entry(key.to_owned()).or_insert(0);
        if fence < *seen {
            return Some((now, Answer::Stale));
        }
        *seen = fence;
        Some((now, Answer::Done))
    }
}
