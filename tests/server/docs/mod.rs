//! The transcripts in README and docs.

mod readme;
