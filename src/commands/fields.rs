//! Fields of maps that several commands reply.

use lock_core::ClientId;

use crate::server::ffi::Context;

pub(super) fn reply_field(context: &Context, name: &str, value: i64) {
    context.reply_bytes(name.as_bytes());
    context.reply_integer(value);
}

pub(super) fn reply_null_field(context: &Context, name: &str) {
    context.reply_bytes(name.as_bytes());
    context.reply_null();
}

pub(super) fn reply_owner(context: &Context, owner: Option<&[u8]>) {
    context.reply_bytes(b"owner");
    match owner {
        Some(owner) => context.reply_bytes(owner),
        None => context.reply_null(),
    }
}

/// The connection that keeps a hold alive, and its address; null where there is none.
pub(super) fn reply_session(context: &Context, session: Option<ClientId>) {
    match session {
        Some(client) => reply_field(context, "session", super::number(client)),
        None => reply_null_field(context, "session"),
    }
    reply_address(context, session);
}

/// The address of a connection, or null where there is none.
pub(super) fn reply_address(context: &Context, client: Option<ClientId>) {
    context.reply_bytes(b"address");
    match client.and_then(Context::address) {
        Some(address) => context.reply_bytes(address.as_bytes()),
        None => context.reply_null(),
    }
}
