//! What the server knows of its clients and their users.

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::net::IpAddr;
use std::ptr::NonNull;

use redis_module::raw::{self, RedisModuleClientInfo, RedisModuleUser};

use super::args::OwnedRedisString;
use super::call::Reply;
use super::{Context, OK, RedisString};

impl Context {
    /// The address of a client, as CLIENT LIST shows it. `None` if there is no such client.
    ///
    /// Must not be called for the clients of scripts and functions, which have no connection: Valkey 9 crashes on them.
    pub(crate) fn address(client: u64) -> Option<String> {
        let info = client_info(client)?;
        // SAFETY: the server ends the address with a NUL.
        let address = unsafe { CStr::from_ptr(info.addr.as_ptr()) }.to_string_lossy();
        let port = info.port;
        Some(match address.parse() {
            Ok(IpAddr::V6(_)) => format!("[{address}]:{port}"),
            _ => format!("{address}:{port}"),
        })
    }

    /// Whether a client has subscriptions. Must not be called for the clients of scripts and functions either.
    pub(super) fn has_subscriptions(client: u64) -> bool {
        let flag = u64::from(raw::REDISMODULE_CLIENTINFO_FLAG_PUBSUB);
        client_info(client).is_some_and(|info| info.flags & flag != 0)
    }

    /// The name of a client's user. `None` if there is no such client, as for a script.
    pub(crate) fn user(&self, client: u64) -> Option<Vec<u8>> {
        Some(self.user_name(client)?.name().bytes().to_vec())
    }

    fn user_name(&self, client: u64) -> Option<OwnedRedisString<'_>> {
        // SAFETY: the server makes a string for the caller, or returns null.
        unsafe { OwnedRedisString::adopt(self, api!(RedisModule_GetClientUserNameById(self.raw(), client))) }
    }

    /// The name of the user whose command runs; in a script or function, of the user that called it. `None` if there is no
    /// user, as when another module sends the command on its own account.
    pub(crate) fn current_user(&self) -> Option<Box<[u8]>> {
        let name = self.user_name(self.client()).or_else(|| {
            if !self.has_user() {
                return None;
            }
            // SAFETY: there is a user, which the server does not check; it makes a string for the caller.
            unsafe { OwnedRedisString::adopt(self, api!(RedisModule_GetCurrentUserName(self.raw()))) }
        });
        name.map(|name| name.name().bytes().into())
    }

    /// Whether the running command has a user. Servers before Redis 8 and Valkey 8.1 crash if they are asked for the name
    /// of one that does not exist. So this has a command run as the user. If the user has no right to it the server says
    /// so, and if there is no user it says something else.
    fn has_user(&self) -> bool {
        // SAFETY: the format names a C string, which is what is passed, and has the command run as the user.
        let reply = unsafe {
            api!(RedisModule_Call(self.raw(), c"ACL".as_ptr(), c"cC".as_ptr(), c"WHOAMI".as_ptr()))
        };
        let why_not = io::Error::last_os_error().kind();
        Reply::new(reply).is_some() || why_not == io::ErrorKind::PermissionDenied
    }

    /// Whether the user of a waiting client may run `command` on these keys now, which follow the words of the command. True for
    /// a client that is gone or has no user.
    pub(crate) fn may_run(&self, client: u64, command: &[&[u8]], keys: &[RedisString<'_>]) -> bool {
        self.user_name(client).is_none_or(|user| self.has_right(user.name(), command, keys))
    }

    /// Whether the user with this name may run `command` on these keys now.
    pub(crate) fn user_may_run(&self, user: &[u8], command: &[&[u8]], keys: &[RedisString<'_>]) -> bool {
        OwnedRedisString::new(self, user).is_some_and(|user| self.has_right(user.name(), command, keys))
    }

    fn has_right(&self, user: RedisString<'_>, command: &[&[u8]], keys: &[RedisString<'_>]) -> bool {
        // A user that was deleted has no permissions.
        let Some(user) = User::named(user) else { return false };
        let command: Option<Vec<OwnedRedisString<'_>>> =
            command.iter().map(|word| OwnedRedisString::new(self, word)).collect();
        let Some(command) = command else { return false };
        let keys = keys.iter().map(|key| key.raw());
        let mut words: Vec<_> = command.iter().map(|word| word.name().raw()).chain(keys).collect();
        let Ok(len) = c_int::try_from(words.len()) else { return false };
        // SAFETY: the user is valid, and so are the strings for the length of the call, `len` of them.
        unsafe {
            api!(RedisModule_ACLCheckCommandPermissions(user.0.as_ptr(), words.as_mut_ptr(), len)) == OK
        }
    }
}

fn client_info(client: u64) -> Option<RedisModuleClientInfo> {
    let mut info = RedisModuleClientInfo {
        version: u64::from(raw::REDISMODULE_CLIENTINFO_VERSION),
        flags: 0,
        id: 0,
        addr: [0; 46],
        port: 0,
        db: 0,
    };
    // SAFETY: the server fills in a struct of the version that it is told.
    let status = unsafe { api!(RedisModule_GetClientInfoById((&raw mut info).cast::<c_void>(), client)) };
    (status == OK).then_some(info)
}

/// A handle of a user of the server.
struct User(NonNull<RedisModuleUser>);

impl User {
    fn named(name: RedisString<'_>) -> Option<Self> {
        // SAFETY: the name is valid; the server makes a handle for the caller, or returns null.
        NonNull::new(unsafe { api!(RedisModule_GetModuleUserFromUserName(name.raw())) }).map(Self)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: the handle was made by `named` and is freed once; the user itself stays the server's.
        unsafe { api!(RedisModule_FreeModuleUser(self.0.as_ptr())) };
    }
}
