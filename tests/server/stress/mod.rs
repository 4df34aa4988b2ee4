//! Random loads and trouble, from a printed seed.

mod cluster_storm;
mod convergence;
mod room;
mod storms;
