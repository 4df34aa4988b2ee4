//! LOCK.ACQUIRE key [PX ms | EX s] [TOKEN token] [SHARED | LIMIT n] [OWNER label]
//!
//! Replies `[token, fence]` when granted, a null array when not available.
//!
//! From a master, or while loading, it comes as `LOCK.ACQUIRE key holds`: see [`crate::replication`].

use lock_core::token::SEED_TEXT_LEN;
use lock_core::{Hold, Limit, Lock, Refusal, Terms, Verdict, codec, request};

use super::{number, open};
use crate::config;
use crate::perform;
use crate::server::ffi::{Args, Command, Context};
use crate::server::{clock, entropy};

pub(crate) struct Acquire;

impl Command for Acquire {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        if args.len() == 3 && context.obeys() {
            return apply(context, args);
        }
        let request = request::Acquire::parse(args.from(2), config::leases())?;
        let now = clock::now();
        let open = open(context, args)?;
        let judge = |lock: &Lock| lock.judge(request.token.as_ref(), request.limit, now);
        match (open.lock().map_or(Verdict::Grant, judge), &request.token) {
            (Verdict::Renew, Some(token)) => {
                let fence = open.renew(token, &request, now).ok_or(Refusal::Internal)?;
                context.reply_array(2);
                context.reply_bytes(token.text(&mut [0; SEED_TEXT_LEN]));
                context.reply_integer(number(fence.get()));
            }
            (Verdict::Grant, _) => {
                let fence = perform::draw_fence().ok_or(Refusal::FencesExhausted)?;
                let terms = Terms {
                    token: request.token.unwrap_or_else(entropy::new_token),
                    limit: request.limit.unwrap_or(Limit::EXCLUSIVE),
                    lease_ms: request.lease_ms,
                    owner: request.owner,
                };
                let hold = Hold::grant(terms, fence, now);
                context.reply_array(2);
                context.reply_bytes(hold.token_text(&mut [0; SEED_TEXT_LEN]));
                context.reply_integer(number(fence.get()));
                open.grant(hold, now);
            }
            _ => context.reply_null_array(),
        }
        Ok(())
    }
}

/// Carries out what another server decided.
fn apply(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
    let holds = codec::decode(args.bytes(2), clock::now()).map_err(|damage| {
        context.warn(&format!("a grant from the master or the append-only file is unreadable: {damage}"));
        Refusal::Syntax
    })?;
    open(context, args)?.apply(holds);
    context.reply_integer(1);
    Ok(())
}
