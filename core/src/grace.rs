//! The restart grace (G7): a time after a restart or a promotion in which nobody is granted more than it is known to
//! hold.
//!
//! The last writes of a server that failed may be missing from the files that it loads, and from what a promoted
//! replica has received. Grants may be among them. So a key without a lock may be held by a client that is not known,
//! and a lock with known holders may have another one. When every lease that may have been lost has ended, the grace is
//! over. (Redlock has the same idea: "delayed restarts".)

use crate::time::Moment;

/// When the grace began. How long it lasts is a setting, which may change meanwhile.
#[derive(Debug, Default)]
pub struct Grace {
    since: Option<Moment>,
}

impl Grace {
    /// No grace.
    pub const fn new() -> Self {
        Self { since: None }
    }

    /// Data were loaded, or this server was promoted: the grace begins.
    pub fn begin(&mut self, now: Moment) {
        self.since = Some(now);
    }

    /// When the grace ends, if it lasts `span_ms`. `None` if there is none.
    pub fn until(&self, span_ms: u64) -> Option<Moment> {
        self.since.map(|since| since.plus_ms(span_ms))
    }

    /// Whether the grace still lasts.
    pub fn is_on(&self, span_ms: u64, now: Moment) -> bool {
        self.until(span_ms).is_some_and(|until| now < until)
    }

    /// Ends the grace if its time is over. True if it ended now: then the queues must be served.
    pub fn end(&mut self, span_ms: u64, now: Moment) -> bool {
        let is_over = self.until(span_ms).is_some_and(|until| until <= now);
        if is_over {
            self.since = None;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_as_long_as_is_set_and_ends_once() {
        let at = |ms| Moment::from_micros(0).plus_ms(ms);
        let mut grace = Grace::new();
        assert!(!grace.is_on(100, at(0)) && !grace.end(100, at(0)));
        grace.begin(at(10));
        assert!(grace.is_on(100, at(109)) && !grace.is_on(100, at(110)));
        assert!(!grace.is_on(20, at(50)), "a shorter one is over sooner");
        assert!(!grace.end(100, at(109)));
        assert!(grace.end(100, at(110)));
        assert!(!grace.end(100, at(110)) && !grace.is_on(100, at(0)));
    }
}
