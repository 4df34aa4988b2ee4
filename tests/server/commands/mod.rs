//! The commands one by one: their words, replies and errors, and the table that the server shows of them.

mod acquire;
mod break_holds;
mod check;
mod command_table;
mod config;
mod extend;
mod hostile;
mod info;
mod ownership;
mod release;
mod retry;
mod shared_and_limits;
mod weights;
