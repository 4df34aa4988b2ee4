//! Which requests were seen waiting: LOCK.INFO has shown their tokens in a queue.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Answer, Ask, History};

/// A look at a queue that has shown a request in it. Both are places in [`History::ops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The request that waits.
    pub wait: usize,
    /// The LOCK.INFO that has shown it, of the same server.
    pub look: usize,
}

/// Every sighting, in the order in which the looks were sent. Where more than one request can be the one that was seen
/// with its token, there is none; nor where it can be a place in the queue that no request waits in any more.
pub fn sightings(history: &History) -> Vec<Sighting> {
    let mut waits: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    let with_places: BTreeSet<(&str, &str)> = history
        .ops()
        .iter()
        .filter(|op| op.ask.queues())
        .filter_map(|op| op.ask.key().zip(op.ask.token()))
        .collect();
    for (place, op) in history.ops().iter().enumerate() {
        if let Ask::Acquire { key, token, block_ms: Some(_), .. } = &op.ask
            && !with_places.contains(&(key.as_str(), token.as_str()))
        {
            waits.entry((key, token)).or_default().push(place);
        }
    }
    let mut sightings = Vec::new();
    for (look, seen) in history.ops().iter().enumerate() {
        let (Ask::Look { key }, Answer::Queue(tokens)) = (&seen.ask, &seen.answer) else { continue };
        for token in tokens {
            let of_token = waits.get(&(key.as_str(), token.as_str())).map_or(&[][..], Vec::as_slice);
            let mut possible = of_token.iter().filter(|place| {
                history.op(**place).is_some_and(|op| op.may_fall_into(seen.sent, seen.answered))
            });
            if let (Some(wait), None) = (possible.next(), possible.next())
                && history.op(*wait).is_some_and(|op| op.node == seen.node)
            {
                sightings.push(Sighting { wait: *wait, look });
            }
        }
    }
    sightings
}
