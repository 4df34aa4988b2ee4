//! What other commands do to the key of a lock.

mod damaged_payloads;
mod touched;
mod ttl;
