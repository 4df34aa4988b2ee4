//! The loops of docs/clients.md: what is asked of a server and when, whatever the connections are.

use crate::ask::{Ask, QUEUE, Reply};
use crate::remote::OneServer;
use crate::{Error, later};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between a request that failed and the next one.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// How long an acquire that does not wait tries again what passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Grant {
    pub(crate) fence: u64,
    /// By our own clock.
    pub(crate) ends: Instant,
}

/// None when it was not available in time. An error, or dropping this, has to be followed by [`releasing`].
pub(crate) async fn acquiring(at: &OneServer, ask: &Ask) -> Result<Option<Grant>, Error> {
    let began = Instant::now();
    let deadline = ask.wait.map(|wait| later(began, wait));
    let mut left_something = false;
    let mut seat = None;
    loop {
        let sent = Instant::now();
        let left = deadline.map(|deadline| deadline - sent);
        let reply = if ask.level == 1 && left != Some(Duration::ZERO) {
            left_something = true;
            at.ask_in_turn(ask, left, &mut seat).await
        } else {
            at.ask(ask, ask.acquire(ask.lease)).await
        };
        let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let error = match reply {
            Ok(Reply::Granted { fence }) => match confirmed(at, ask, fence, sent).await {
                Ok(None) => {
                    if ask.several && ask.level == 1 {
                        // Of several it may still hold some, with which it must not wait for the others.
                        let _ = releasing(at, ask, None).await;
                    }
                    continue;
                }
                Ok(grant) => return Ok(grant),
                Err(error) => error,
            },
            Ok(Reply::Nil) if ask.level > 1 => return Err(Error::Lost),
            Ok(Reply::Number(_)) if !over => continue,
            Ok(_) => {
                if left_something {
                    // Whether it was held matters to nobody.
                    let _ = releasing(at, ask, None).await;
                }
                return Ok(None);
            }
            Err(error) => error.into(),
        };
        let patient = !over || began.elapsed() < PATIENCE;
        if !(patient && error.passes()) {
            return Err(error);
        }
        left_something = true;
        sleep(PAUSE).await;
    }
}

/// Extends at once a grant whose lease may have begun long ago by our clock, or that replicas are to confirm.
async fn confirmed(at: &OneServer, ask: &Ask, fence: u64, sent: Instant) -> Result<Option<Grant>, Error> {
    if ask.replicas == 0 && sent.elapsed() < ask.lease / 10 {
        return Ok(Some(Grant { fence, ends: later(sent, ask.lease) }));
    }
    let ends = extending(at, ask, ask.lease, None).await?;
    Ok(ends.map(|ends| Grant { fence, ends }))
}

/// When the lease ends by our clock, or none when the token does not hold the lock. The error is what came last, when it
/// is too late to try again, or at once without `until`.
pub(crate) async fn extending(
    at: &OneServer,
    ask: &Ask,
    lease: Duration,
    until: Option<Instant>,
) -> Result<Option<Instant>, Error> {
    loop {
        let sent = Instant::now();
        let error = match at.ask_replicas(ask, ask.renew(lease)).await.map_err(Error::from) {
            Ok((reply, confirmed)) if ask.is_yes(reply) && confirmed < u64::from(ask.replicas) => {
                Error::TooFewReplicas { confirmed, wanted: ask.replicas.into() }
            }
            Ok((reply, _)) => return Ok(ask.is_yes(reply).then(|| later(sent, lease))),
            Err(Error::WrongType(_)) => return Ok(None),
            Err(error) => error,
        };
        // A session ends with its connection, and there is no other one to ask by.
        let patient = !ask.session && until.is_some_and(|until| later(Instant::now(), PAUSE) < until);
        if !(patient && (error.passes() || matches!(error, Error::TooFewReplicas { .. }))) {
            return Err(error);
        }
        sleep(PAUSE.min(lease / 10)).await;
    }
}

/// Whether the token held the lock until now; an error when no server says so. With `keep_until` the lease ends then, and
/// not at once.
pub(crate) async fn releasing(at: &OneServer, ask: &Ask, keep_until: Option<Instant>) -> Result<bool, Error> {
    if ask.several && ask.level > 1 {
        return releasing_each(at, ask).await;
    }
    match releasing_at_once(at, ask, keep_until).await {
        Err(Error::WrongType(_)) => {
            if ask.several {
                // One of the keys holds something else. Of the others nothing was released.
                let _ = releasing_each(at, ask).await;
            }
            Ok(false)
        }
        released => released,
    }
}

/// One by one, since there is no command that gives back a level of several.
async fn releasing_each(at: &OneServer, ask: &Ask) -> Result<bool, Error> {
    let mut outcome = Ok(true);
    for name in &ask.names {
        match releasing_at_once(at, &ask.of(name), None).await {
            Ok(true) => {}
            Ok(false) | Err(Error::WrongType(_)) => outcome = outcome.and(Ok(false)),
            // It was tried for as long as the others could last.
            Err(error) if error.passes() => return Err(error),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

async fn releasing_at_once(at: &OneServer, ask: &Ask, keep_until: Option<Instant>) -> Result<bool, Error> {
    // By then the lease, or the place in the queue, has ended anyway.
    let until = later(Instant::now(), ask.lease.max(QUEUE));
    let mut lost_a_reply = false;
    loop {
        match at.ask_by_others(ask, ask.give_back(keep_until)).await.map_err(Error::from) {
            // After a lost reply 0 says nothing: the first request may have released it.
            Ok(reply) => return Ok(ask.is_yes(reply) || lost_a_reply && matches!(reply, Reply::Number(0))),
            Err(error) if !error.passes() || Instant::now() >= until => return Err(error),
            Err(error) => lost_a_reply |= error.is_no_reply(),
        }
        sleep(PAUSE).await;
    }
}
