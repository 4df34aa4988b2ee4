//! Servers whose data are in files of each kind, and ways in which they read them again.

use super::{Builder, Data, Server};

/// An append-only file of commands alone.
pub(crate) fn commands_only() -> Builder {
    Server::builder().aof().config("aof-use-rdb-preamble no")
}

/// An append-only file that begins with a snapshot once it was rewritten.
pub(crate) fn with_snapshot() -> Builder {
    Server::builder().aof().config("aof-use-rdb-preamble yes")
}

/// A way in which a server's data are read again.
pub(crate) type Way = fn(&mut Server);

pub(crate) fn snapshot(server: &mut Server) {
    server.restart(Data::Save);
}

pub(crate) fn replay(server: &mut Server) {
    server.restart(Data::NoSave);
}

pub(crate) fn power_cut(server: &mut Server) {
    server.kill9();
    server.start_again();
}

pub(crate) fn rewrite_and_power_cut(server: &mut Server) {
    server.rewrite_aof();
    power_cut(server);
}

pub(crate) fn debug_reload(server: &mut Server) {
    server.client().ok("DEBUG RELOAD");
}
