//! Blocked clients.
//!
//! A blocked client is unblocked in one of these ways, each with its own callback:
//!
//! - The module answers ([`BlockedClient::answer`]). The server asks for the reply a little later. If the client has
//!   disconnected by then, the server does not ask, and the answer comes back as undelivered.
//! - CLIENT UNBLOCK with TIMEOUT. The module replies at once.
//! - The connection is closed, CLIENT UNBLOCK with ERROR, or the server becomes a replica. The server replies if the
//!   client is still connected, and the module is told.
//!
//! In each case the module gives the handle back to the server, exactly once: see [`BlockedClient`].

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};

use redis_module::raw::{RedisModuleBlockedClient, RedisModuleCtx, RedisModuleString};

use super::guard::guard;
use super::{Context, ERR, OK};

/// How the module handles blocked clients.
pub(crate) trait Waiting {
    /// The answer to a client.
    type Answer;

    /// Replies an answer.
    fn reply(context: &Context, answer: Self::Answer);
    /// An answer was given, but the client disconnected before the reply was sent.
    fn undelivered(answer: Self::Answer);
    /// CLIENT UNBLOCK has ended the wait: replies what the client gets instead. The handle must still be given back.
    fn timed_out(context: &Context, client: u64);
    /// The client waits no longer, and the module must not reply. The handle must still be given back.
    fn disconnected(client: u64);
}

/// The handle of a blocked client. It must be given back to the server exactly once, by [`BlockedClient::answer`] or
/// [`BlockedClient::give_back`]. Until then the server keeps about 35 KB for the reply.
#[must_use]
pub(crate) struct BlockedClient(NonNull<RedisModuleBlockedClient>);

impl BlockedClient {
    /// Blocks the client of the running command, without a timeout.
    ///
    /// Must not be called where a client cannot wait ([`Context::can_wait`]): there the server replies an error of its
    /// own, or crashes.
    pub(crate) fn block<W: Waiting>(context: &Context) -> Option<Self> {
        // SAFETY: the context is a command's, of a client that can wait. The callbacks take what the server passes,
        // and `free` takes what `answer` makes.
        unsafe {
            let blocked = api!(RedisModule_BlockClient(
                context.raw(),
                Some(reply::<W>),
                Some(timeout::<W>),
                Some(free::<W>),
                0
            ));
            let blocked = NonNull::new(blocked)?;
            api!(RedisModule_SetDisconnectCallback(blocked.as_ptr(), Some(disconnect::<W>)));
            Some(Self(blocked))
        }
    }

    /// Answers the client. The server asks for the reply after the running callback has returned.
    pub(crate) fn answer<W: Waiting>(self, answer: W::Answer) {
        let answer: *mut Option<W::Answer> = Box::into_raw(Box::new(Some(answer)));
        self.unblock(answer.cast());
    }

    /// Gives back the handle of a client that already has a reply, or is gone.
    pub(crate) fn give_back(self) {
        self.unblock(ptr::null_mut());
    }

    fn unblock(self, data: *mut c_void) {
        // SAFETY: `self` is the handle, given back for the first time, since it is taken; the data are null or what
        // the callbacks take them for.
        unsafe { api!(RedisModule_UnblockClient(self.0.as_ptr(), data)) };
    }
}

unsafe extern "C" fn reply<W: Waiting>(
    context: *mut RedisModuleCtx,
    _argv: *mut *mut RedisModuleString,
    _argc: c_int,
) -> c_int {
    let replied = guard(|| {
        // SAFETY: the server lends the context to this callback; the data are what `answer` made, and are freed after
        // this callback, not during it.
        let (context, answer) = unsafe {
            let data = api!(RedisModule_GetBlockedClientPrivateData(context)).cast::<Option<W::Answer>>();
            (Context::new(context)?, data.as_mut()?.take()?)
        };
        W::reply(&context, answer);
        Some(())
    });
    if replied.flatten().is_some() { OK } else { ERR }
}

unsafe extern "C" fn free<W: Waiting>(_context: *mut RedisModuleCtx, data: *mut c_void) {
    guard(|| {
        if data.is_null() {
            return;
        }
        // SAFETY: the data are what `answer` made, given back here, once.
        let answer = unsafe { Box::from_raw(data.cast::<Option<W::Answer>>()) };
        if let Some(answer) = *answer {
            W::undelivered(answer);
        }
    });
}

unsafe extern "C" fn timeout<W: Waiting>(
    context: *mut RedisModuleCtx,
    _argv: *mut *mut RedisModuleString,
    _argc: c_int,
) -> c_int {
    // SAFETY: the server lends the context to this callback.
    guard(|| unsafe { Context::new(context) }.map(|context| W::timed_out(&context, context.client())));
    OK
}

unsafe extern "C" fn disconnect<W: Waiting>(
    context: *mut RedisModuleCtx,
    _blocked: *mut RedisModuleBlockedClient,
) {
    // SAFETY: the server lends the context to this callback.
    guard(|| unsafe { Context::new(context) }.map(|context| W::disconnected(context.client())));
}
