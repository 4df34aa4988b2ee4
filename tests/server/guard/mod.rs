//! LOCK.GUARD: what it runs, for whom, and what becomes of that.

mod cluster;
mod ownership;
mod passed_on;
mod refused;
mod replies;
mod rights;
mod scripts;
mod slow_scripts;
mod writes;
