//! Places in the queue that need no connection: clients that share one, what a place takes of the memory, and how long a
//! hand-over takes from one to the next.

mod contest;
mod hand_over;
mod memory;
mod shared;

pub(crate) use contest::run as contest;
pub(crate) use hand_over::run as hand_over;
pub(crate) use memory::run as memory;

use crate::support::Server;

/// How long a place is kept, in milliseconds: longer than anything here takes.
const KEPT_MS: &str = "3600000";

/// What a request is answered with that has got a place: its ticket, `?` standing for any byte.
pub(super) const TICKET: &str = ":????????????????\r\n";

/// Length of a ticket, in decimal digits.
const TICKET_DIGITS: usize = 16;

/// A server that lets so many wait.
fn server_for(places: usize) -> Server {
    Server::builder().module_args(&format!("max-waiters {places} max-waiters-per-key {places}")).start()
}
