//! LOCK.ACQUIRE key [PX ms | EX s] [TOKEN token] [SHARED | LIMIT n] [BLOCK ms] [OWNER label] [SESSION] [LEVEL n]
//!
//! Replies `[token, fence]` when granted, a null array when not available; with BLOCK, once it is granted or the time is
//! up.
//!
//! From a master, or while loading, it comes as `LOCK.ACQUIRE key holds`: see [`crate::replication`].

use std::fmt::Display;

use lock_core::turn::{Acquired, Patience};
use lock_core::{Fence, Hold, Moment, Place, Refusal, codec, request};

use crate::config;
use crate::listeners;
use crate::perform::{self, OpenLock};
use crate::server::ffi::{Args, Command, Context};
use crate::server::{clock, entropy};
use crate::waiting;

pub(crate) struct Acquire;

impl Command for Acquire {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        // A server that nobody listens to has no master, and what it loads is decided in three words.
        if (args.len() == 3 || listeners::may_be_there()) && context.obeys() {
            return apply(context, args);
        }
        let request = request::Acquire::parse(args.from(2), config::leases())?;
        if request.session && !waiting::is_open(context.client()) {
            return Err(Refusal::NoConnection);
        }
        let now = clock::now();
        let patience = patience(context, &request, now);
        let acquired = super::open(context, args)?
            .turn(now, |turn| turn.acquire(&request, || context.client(), patience, entropy::new_token))?;
        match acquired {
            Acquired::Granted(token, fence) => waiting::reply_grant(context, &token, fence),
            Acquired::NotAvailable => context.reply_null_array(),
            Acquired::Waits(joining) => {
                let place = Place { database: context.database(), key: args.bytes(1) };
                if !waiting::wait(context, place, *joining) {
                    context.reply_null_array();
                }
            }
        }
        Ok(())
    }
}

/// Where a client cannot wait, BLOCK is as if not given.
fn patience(context: &Context, request: &request::Acquire<'_>, now: Moment) -> Option<Patience> {
    let block_ms = request.block_ms.filter(|_| context.can_wait())?;
    let until = (block_ms > 0).then(|| now.plus_ms(block_ms));
    Some(Patience { client: context.client(), until, limits: config::waiter_limits() })
}

/// Carries out what another server decided.
fn apply(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
    let now = clock::now();
    if args.len() != 3 {
        return Err(Refusal::Syntax);
    }
    let refuse = |why: &dyn Display| {
        context.warn(&format!("a grant from the master or the append-only file is not applied: {why}"));
        Refusal::Syntax
    };
    let holds = codec::decode(args.bytes(2), now).map_err(|damage| refuse(&damage))?;
    let fences: Vec<Fence> = holds.iter().map(Hold::fence).collect();
    let key =
        args.name(1).and_then(|name| OpenLock::open_to_replace(context, name)).ok_or(Refusal::Internal)?;
    key.turn(now, |turn| turn.apply(holds)).map_err(|rule| refuse(&format!("it breaks a rule: {rule}")))?;
    fences.into_iter().for_each(perform::raise_fence);
    context.reply_integer(1);
    Ok(())
}
