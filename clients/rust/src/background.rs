//! What goes on when nobody may wait for it: releases.

use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

/// Read by each task that goes on.
pub(crate) type GoingOn = Arc<RwLock<()>>;

#[derive(Clone)]
pub(crate) struct Background {
    going_on: GoingOn,
    runtime: Handle,
}

impl Background {
    /// Of the runtime that this is called in. What begins later may begin outside of it.
    pub(crate) fn here(going_on: &GoingOn) -> Self {
        Self { going_on: going_on.clone(), runtime: Handle::current() }
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        // There is none only while somebody waits for those that began before.
        let goes_on = self.going_on.clone().try_read_owned();
        self.runtime.spawn(async move {
            let done = task.await;
            drop(goes_on);
            done
        })
    }
}
