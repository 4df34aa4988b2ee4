//! The time after a restart or a promotion in which grants may have been lost.
//!
//! What a server did last before it failed may be missing from what it loads, or from what a promoted replica had
//! received: grants among it. Then a key at which there is no lock may be somebody's all the same; and so may a lock that is
//! known, by a hold that came after those that are. Until every lease that may have been granted then has run out, nobody
//! is granted anything that somebody else might have. (Redlock asks the same of its nodes, as "delayed restarts".)

use crate::time::Moment;

/// When the data came to be what they are. How long the grace lasts from then is a setting, and may change meanwhile.
#[derive(Debug, Default)]
pub struct Grace {
    since: Option<Moment>,
}

impl Grace {
    /// None.
    pub const fn new() -> Self {
        Self { since: None }
    }

    /// Data were loaded, or this server was promoted: whatever is not known from then may have been lost.
    pub fn begin(&mut self, now: Moment) {
        self.since = Some(now);
    }

    /// When it is over, if it lasts `span_ms`; `None` where there is none.
    pub fn until(&self, span_ms: u64) -> Option<Moment> {
        self.since.map(|since| since.plus_ms(span_ms))
    }

    /// Whether it lasts still.
    pub fn is_on(&self, span_ms: u64, now: Moment) -> bool {
        self.until(span_ms).is_some_and(|until| now < until)
    }

    /// Ends it if its time is over. True if it has come to its end now, so that those who had to wait for that are to be
    /// served.
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
