//! What operators see: figures, the list of who is waited for, events, and lines of the log.

mod figures;
mod latency;
mod log;
mod notifications;
mod top;
