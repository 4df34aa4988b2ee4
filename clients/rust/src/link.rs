//! One connection, used until the first thing goes wrong on it.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

enum State {
    Opening,
    Open(MultiplexedConnection),
    Closed(RedisError),
}

pub(crate) struct Link {
    state: watch::Sender<State>,
    timeout: Duration,
}

impl Link {
    /// Opens it in the background. `hear` is given what the server says unasked, and says whether the connection is of
    /// use after that.
    pub(crate) fn open(
        timeout: Duration,
        client: impl Future<Output = RedisResult<Client>> + Send + 'static,
        hear: impl Fn(PushInfo) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        let link = Arc::new(Self { state: watch::Sender::new(State::Opening), timeout });
        let heard_by = Arc::downgrade(&link);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                let of_use = push.kind != PushKind::Disconnection && hear(push);
                if let (false, Some(link)) = (of_use, heard_by.upgrade()) {
                    link.close(no_reply("the connection was closed"));
                }
                Ok::<(), ()>(())
            });
        let opening = link.clone();
        tokio::spawn(async move {
            let opened = match client.await {
                Ok(client) => client.get_multiplexed_async_connection_with_config(&config).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok(connection) => opening.go_on(State::Open(connection)),
                Err(error) => opening.close(error),
            }
        });
        link
    }

    /// The replies to these commands, with nothing between them. Closes the connection when they have not come after
    /// `patience`: what the server has not read yet, it must not read later.
    pub(crate) async fn ask(&self, commands: &Pipeline, patience: Duration) -> RedisResult<Vec<Value>> {
        // Opening has a timeout of its own, and goes on for those who ask next.
        let late = |_| Err(no_reply("no connection was made in time"));
        let mut connection = timeout(self.timeout, self.opened()).await.unwrap_or_else(late)?;
        let late = |_| Err(no_reply("no reply has come in time"));
        let replies = tokio::select! {
            biased;
            replies = timeout(patience, connection.send_packed_commands(commands, 0, commands.len())) => {
                replies.unwrap_or_else(late)
            }
            error = self.closed() => Err(error),
        };
        if let Err(error) = &replies {
            self.close(error.clone());
        }
        replies?.into_iter().map(Value::extract_error).collect()
    }

    /// Whoever waits for a reply gets this error.
    pub(crate) fn close(&self, error: RedisError) {
        self.go_on(State::Closed(error));
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), State::Closed(_))
    }

    /// Waits until it is closed, and says why.
    pub(crate) async fn closed(&self) -> RedisError {
        loop {
            if let Err(error) = self.after(|state| matches!(state, State::Closed(_))).await {
                return error;
            }
        }
    }

    async fn opened(&self) -> RedisResult<MultiplexedConnection> {
        self.after(|state| !matches!(state, State::Opening)).await
    }

    async fn after(&self, is_so: impl FnMut(&State) -> bool) -> RedisResult<MultiplexedConnection> {
        match self.state.subscribe().wait_for(is_so).await.as_deref() {
            Ok(State::Open(connection)) => Ok(connection.clone()),
            Ok(State::Closed(error)) => Err(error.clone()),
            Ok(State::Opening) | Err(_) => Err(no_reply("there is no connection")),
        }
    }

    /// What is closed stays so.
    fn go_on(&self, next: State) {
        self.state.send_if_modified(|state| {
            let goes_on = !matches!(state, State::Closed(_));
            if goes_on {
                *state = next;
            }
            goes_on
        });
    }
}

pub(crate) fn no_reply(what: &'static str) -> RedisError {
    io::Error::new(io::ErrorKind::NotConnected, what).into()
}
