//! The state of the module that is not in keys.

use lock_core::Table;

use crate::server::ffi::MainThread;

/// The table. It is lent to one turn or event at a time, and never while the module calls the server.
pub(crate) static TABLE: MainThread<Table> = MainThread::new(Table::new());
