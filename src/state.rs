//! What the module remembers besides the keys.

use lock_core::Table;

use crate::server::ffi::MainThread;

/// All of it. It is lent to one turn or event at a time, and never while the server is asked for anything.
pub(crate) static TABLE: MainThread<Table> = MainThread::new(Table::new());
