//! Faults on purpose, for tests: with the feature `faults`, turns at a key named `fault:POINT:SPARED:...` panic at that
//! point, except the first SPARED ones. Without the feature this module does nothing.

#[cfg(feature = "faults")]
thread_local! {
    /// How often turns at each of these keys have reached their point.
    static SEEN: std::cell::RefCell<std::collections::HashMap<Vec<u8>, usize>> = std::cell::RefCell::default();
}

/// Panics if the name of the key asks for it.
#[cfg(feature = "faults")]
#[allow(clippy::panic, reason = "it is what this is for")]
pub(crate) fn point(key: &[u8], point: &str) {
    let mut words = key.split(|byte| *byte == b':');
    if words.next() != Some(b"fault") || words.next() != Some(point.as_bytes()) {
        return;
    }
    let spared = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok()).unwrap_or(0);
    let seen = SEEN.with_borrow_mut(|seen| {
        let seen = seen.entry(key.to_vec()).or_insert(0_usize);
        *seen = seen.saturating_add(1);
        *seen
    });
    if seen > spared {
        panic!("asked for");
    }
}

/// Nothing.
#[cfg(not(feature = "faults"))]
pub(crate) fn point(_key: &[u8], _point: &str) {}
