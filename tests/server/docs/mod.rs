//! The README and the pages in docs, held to their word.

mod pages;
mod readme;
mod runbooks;
