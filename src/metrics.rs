//! Figures for INFO: what there is now, how often what has happened, how long requests waited and holds lasted.
//!
//! What has happened is counted by the core ([`lock_core::Figures`]), behind each turn. Here spans are put into
//! histograms, which stay small whatever happens.

use std::ffi::CStr;

use histogram::Histogram;
use lock_core::outcome::{Ended, Ending};
use lock_core::{Fence, Moment};

use crate::config;
use crate::server::clock;
use crate::server::ffi::{Describe, MainThread, Section};
use crate::slow;
use crate::state::TABLE;

/// Spans in milliseconds.
struct Spans {
    /// `None` until the first is recorded.
    histogram: Option<Histogram>,
    longest: u64,
}

/// A span is known to one part in 2^5, about 3 %; up to 64 ms exactly.
const GROUPING_POWER: u8 = 5;

/// Spans of more than 2^36 ms, about two years, count as that long. So a histogram takes 8 KB.
const LONGEST_POWER: u8 = 36;

const LONGEST: u64 = (1 << LONGEST_POWER) - 1;

impl Spans {
    const fn new() -> Self {
        Self { histogram: None, longest: 0 }
    }

    fn record(&mut self, span_ms: u64) {
        self.longest = self.longest.max(span_ms);
        if self.histogram.is_none() {
            self.histogram = Histogram::new(GROUPING_POWER, LONGEST_POWER).ok();
        }
        // Every span up to the longest fits.
        let _ = self.histogram.as_mut().map(|histogram| histogram.increment(span_ms.min(LONGEST)));
    }

    /// The span that this part of all spans does not exceed, or a little more; 0 if there is none.
    fn quantile(&self, part: f64) -> u64 {
        let bucket = self.histogram.as_ref().and_then(|histogram| histogram.quantile_bucket(part).ok()?);
        bucket.map_or(0, |bucket| bucket.end().min(self.longest))
    }
}

struct Recorded {
    /// How long requests waited that were granted then.
    waits: Spans,
    /// How long holds lasted that have ended.
    holds: Spans,
}

static RECORDED: MainThread<Recorded> =
    MainThread::new(Recorded { waits: Spans::new(), holds: Spans::new() });

/// Records how long a request has waited that was granted what it waited for.
#[inline(never)] // most turns record nothing
pub(crate) fn record_wait(since: Moment, now: Moment) {
    let span_ms = now.ms_since(since);
    RECORDED.with(|recorded| recorded.waits.record(span_ms));
    slow::waited(span_ms);
}

/// Records how long a hold has lasted. One whose client was never told of it counts for nothing.
#[inline(never)] // likewise
pub(crate) fn record_end(ended: Ended, now: Moment) {
    if ended.why != Ending::Undone {
        RECORDED.with(|recorded| recorded.holds.record(now.ms_since(ended.held_since)));
    }
}

/// The section of INFO.
pub(crate) struct Metrics;

impl Describe for Metrics {
    fn describe(section: &Section) {
        TABLE.with(|table| {
            let queues = table.queues();
            let figures = table.figures();
            let now = clock::now();
            let grace_end = table.grace_until(config::restart_grace_ms());
            let numbers: [(&CStr, u64); 27] = [
                (c"keys", count(table.deadlines().len())),
                (c"holds", table.holds()),
                (c"waiters_blocked", count(queues.blocked())),
                (c"waiters_queued", count(queues.len().saturating_sub(queues.blocked()))),
                (c"longest_queue", count(queues.longest())),
                (c"last_fence", table.last_fence().map_or(0, Fence::get)),
                (c"restart_grace_left_ms", grace_end.map_or(0, |end| now.ms_until(end))),
                (c"grants", figures.grants),
                (c"grants_after_wait", figures.grants_after_wait),
                (c"refusals", figures.refusals),
                (c"timeouts", figures.timeouts),
                (c"queue_full", figures.queue_full),
                (c"deadlocks", figures.deadlocks),
                (c"releases", figures.releases),
                (c"refused_releases", figures.refused_releases),
                (c"extensions", figures.extensions),
                (c"refused_extensions", figures.refused_extensions),
                (c"released", figures.released),
                (c"lapsed", figures.lapsed),
                (c"unclaimed", figures.unclaimed),
                (c"broken", figures.broken),
                (c"sessions_closed", figures.sessions_closed),
                (c"undone", figures.undone),
                (c"evicted", figures.evicted),
                (c"removed", figures.removed),
                (c"moved", figures.moved),
                (c"holds_ended", figures.ended()),
            ];
            numbers.iter().for_each(|(name, number)| section.number(name, *number));
        });
        RECORDED.with(|Recorded { waits, holds }| {
            section.number(c"wait_ms_p50", waits.quantile(0.5));
            section.number(c"wait_ms_p99", waits.quantile(0.99));
            section.number(c"wait_ms_max", waits.longest);
            section.number(c"hold_ms_p50", holds.quantile(0.5));
            section.number(c"hold_ms_p99", holds.quantile(0.99));
            section.number(c"hold_ms_max", holds.longest);
        });
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_for_short_spans_and_close_for_long_ones() {
        let mut spans = Spans::new();
        assert_eq!((spans.quantile(0.5), spans.longest), (0, 0));
        (0..100).for_each(|_| spans.record(7));
        assert_eq!((spans.quantile(0.5), spans.quantile(0.99)), (7, 7));
        (0..101).for_each(|_| spans.record(100_000));
        let long = spans.quantile(0.99);
        assert!((100_000..103_200).contains(&long) || long == spans.longest, "{long}");
        spans.record(u64::MAX);
        assert_eq!((spans.longest, spans.quantile(1.0)), (u64::MAX, LONGEST));
    }
}
