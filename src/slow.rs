//! Slow waits, for the server's own latency monitor: `lock-wait`, for waits of at least `latency-monitor-threshold`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::server::ffi::{Context, add_latency};

/// How long a wait must have been, in milliseconds. 0 while the monitor is off.
static THRESHOLD_MS: AtomicU64 = AtomicU64::new(0);

/// The settings of the server may have changed.
pub(crate) fn look(context: &Context) {
    let threshold = context.setting(c"latency-monitor-threshold").and_then(|number| number.parse().ok());
    THRESHOLD_MS.store(threshold.unwrap_or(0), Ordering::Relaxed);
}

/// A request has waited so long, and was granted then.
pub(crate) fn waited(span_ms: u64) {
    let threshold_ms = THRESHOLD_MS.load(Ordering::Relaxed);
    if threshold_ms > 0 && span_ms >= threshold_ms {
        add_latency(c"lock-wait", span_ms);
    }
}
