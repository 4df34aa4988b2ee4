//! The README and the pages in docs, held to their word.

mod dependencies;
mod migration;
mod pages;
mod readme;
mod runbooks;
mod sections;
