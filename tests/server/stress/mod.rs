//! Random loads and trouble, from a printed seed.

mod convergence;
mod moving_slots;
mod random_work;
mod room;
