//! Leases and clocks.

mod expiry;
mod leases;
mod wall_clock;
