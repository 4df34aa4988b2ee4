//! Server events and keyspace events.

use std::ffi::{CStr, c_char, c_int, c_void};

use redis_module::raw::{
    self, RedisModuleClientInfo, RedisModuleCtx, RedisModuleEvent, RedisModuleFlushInfo, RedisModuleString,
    RedisModuleSwapDbInfo,
};

use super::context::is_valkey;
use super::guard::guard;
use super::{Context, MainThread, OK, RedisString};

/// How the module handles server events.
pub(crate) trait ServerEvents {
    /// One database is being flushed, or all.
    fn flushed(database: Option<i32>);
    /// Two databases were swapped.
    fn swapped(one: i32, other: i32);
    /// The server's cron loop has run. It runs several times a second, by a clock that nobody can set.
    fn ticked(context: &Context);
    /// The server has forked, to write a snapshot or a new append-only file.
    fn forked(context: &Context);
    /// The server begins to write a snapshot without forking.
    fn saving();
    /// The server has run the commands of its clients, and is about to wait for more. Redis 7.0 still runs commands of
    /// clients that were blocked or paused until now.
    fn before_sleep(context: &Context);
    /// The server has waited, and is about to run the commands that its clients have sent meanwhile.
    fn after_sleep(context: &Context);
    /// A connection has been opened.
    fn opened(client: u64);
    /// A connection is being closed.
    fn closed(client: u64);
    /// The server has become a master, or a replica.
    fn role_changed(context: &Context, is_master: bool);
    /// A module was loaded or unloaded.
    fn modules_changed();
    /// A setting of the server has changed.
    fn reconfigured(context: &Context);
    /// The server begins to load data, from its files or from its master.
    fn load_begins();
    /// The server loads no more, whether it has loaded all or failed.
    fn load_ended(context: &Context);
    /// The server has loaded its data.
    fn loaded();
    /// Slots have gone to another node as a whole. The server drops their keys after this. Redis 8.4 and later say so.
    fn slots_left();
}

/// How the module handles keyspace events.
pub(crate) trait KeyspaceEvents {
    /// The key was deleted, moved, expired or evicted, or it arrived by RENAME, MOVE or RESTORE.
    fn touched(context: &Context, name: RedisString<'_>);
    /// The key arrived under this name in the selected database.
    fn arrived(context: &Context, name: RedisString<'_>);
    /// The key was evicted.
    fn evicted(context: &Context, name: RedisString<'_>);
    /// The key was moved to another database. The database that the context has selected is not reliable.
    fn moved(name: RedisString<'_>);
}

/// Subscribes to all of these events. False if the server refuses one.
pub(crate) fn subscribe<E: ServerEvents + KeyspaceEvents>(context: &Context) -> bool {
    let server_events: [(u64, raw::RedisModuleEventCallback); 11] = [
        (raw::REDISMODULE_EVENT_FLUSHDB, Some(flush::<E>)),
        (raw::REDISMODULE_EVENT_SWAPDB, Some(swap::<E>)),
        (raw::REDISMODULE_EVENT_CRON_LOOP, Some(cron::<E>)),
        (raw::REDISMODULE_EVENT_FORK_CHILD, Some(fork::<E>)),
        (raw::REDISMODULE_EVENT_PERSISTENCE, Some(persistence::<E>)),
        (raw::REDISMODULE_EVENT_EVENTLOOP, Some(event_loop::<E>)),
        (raw::REDISMODULE_EVENT_CLIENT_CHANGE, Some(client_change::<E>)),
        (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, Some(role_change::<E>)),
        (raw::REDISMODULE_EVENT_LOADING, Some(loading::<E>)),
        (raw::REDISMODULE_EVENT_CONFIG, Some(reconfigured::<E>)),
        (raw::REDISMODULE_EVENT_MODULE_CHANGE, Some(modules_changed::<E>)),
    ];
    let subscribed = server_events.into_iter().all(|(id, callback)| {
        let event = RedisModuleEvent { id, dataver: 1 };
        // SAFETY: the context is valid, and each callback takes what its event passes.
        unsafe { api!(RedisModule_SubscribeToServerEvent(context.raw(), event, callback)) == OK }
    });
    // SAFETY: as above.
    let notified = unsafe {
        api!(RedisModule_SubscribeToKeyspaceEvents(
            context.raw(),
            raw::REDISMODULE_NOTIFY_GENERIC
                | raw::REDISMODULE_NOTIFY_EXPIRED
                | raw::REDISMODULE_NOTIFY_EVICTED
                | trimmed_keys(),
            Some(keyspace::<E>)
        ))
    };
    subscribed && notified == OK && (trimmed_keys() == 0 || subscribe_to_slots::<E>(context))
}

/// Subscribes to the event of slots that move as a whole. Valkey uses its number for another event.
fn subscribe_to_slots<E: ServerEvents>(context: &Context) -> bool {
    let event = RedisModuleEvent { id: raw::REDISMODULE_EVENT_CLUSTER_SLOT_MIGRATION, dataver: 1 };
    // SAFETY: the context is valid, and the callback takes what this event passes.
    unsafe { api!(RedisModule_SubscribeToServerEvent(context.raw(), event, Some(slot_migration::<E>))) == OK }
}

/// Redis 8.4 and later: the class of the event of each key that is trimmed, because its slot went to another node as a whole.
const NOTIFY_KEY_TRIMMED: c_int = 1 << 17;

/// That class, where the server has it. A server to which a module subscribes to it trims slots key by key, and tells the value
/// of each. Otherwise it would drop them in one piece, and tell nobody.
fn trimmed_keys() -> c_int {
    // SAFETY: it takes nothing.
    let classes = unsafe { api!(RedisModule_GetKeyspaceNotificationFlagsAll()) };
    if is_valkey() { 0 } else { classes & NOTIFY_KEY_TRIMMED }
}

unsafe extern "C" fn flush<E: ServerEvents>(
    _context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    subevent: u64,
    data: *mut c_void,
) {
    if subevent == raw::REDISMODULE_SUBEVENT_FLUSHDB_START {
        // SAFETY: this event passes this struct, valid for the callback.
        let info = unsafe { &*data.cast::<RedisModuleFlushInfo>() };
        guard(|| E::flushed((info.dbnum >= 0).then_some(info.dbnum)));
    }
}

unsafe extern "C" fn swap<E: ServerEvents>(
    _context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    _subevent: u64,
    data: *mut c_void,
) {
    // SAFETY: this event passes this struct, valid for the callback.
    let info = unsafe { &*data.cast::<RedisModuleSwapDbInfo>() };
    guard(|| E::swapped(info.dbnum_first, info.dbnum_second));
}

unsafe extern "C" fn cron<E: ServerEvents>(
    context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    _subevent: u64,
    _data: *mut c_void,
) {
    // SAFETY: the server lends the context to this callback.
    guard(|| unsafe { Context::new(context) }.map(|context| E::ticked(&context)));
}

unsafe extern "C" fn fork<E: ServerEvents>(
    context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    subevent: u64,
    _data: *mut c_void,
) {
    if subevent == raw::REDISMODULE_SUBEVENT_FORK_CHILD_BORN {
        // SAFETY: the server lends the context to this callback.
        guard(|| unsafe { Context::new(context) }.map(|context| E::forked(&context)));
    }
}

unsafe extern "C" fn persistence<E: ServerEvents>(
    _context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    subevent: u64,
    _data: *mut c_void,
) {
    if matches!(
        subevent,
        raw::REDISMODULE_SUBEVENT_PERSISTENCE_SYNC_RDB_START
            | raw::REDISMODULE_SUBEVENT_PERSISTENCE_SYNC_AOF_START
    ) {
        guard(E::saving);
    }
}

unsafe extern "C" fn event_loop<E: ServerEvents>(
    context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    subevent: u64,
    _data: *mut c_void,
) {
    let event: fn(&Context) = match subevent {
        raw::REDISMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP => E::before_sleep,
        raw::REDISMODULE_SUBEVENT_EVENTLOOP_AFTER_SLEEP => E::after_sleep,
        _ => return,
    };
    // SAFETY: the server lends the context to this callback.
    guard(|| unsafe { Context::new(context) }.map(|context| event(&context)));
}

unsafe extern "C" fn client_change<E: ServerEvents>(
    _context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    subevent: u64,
    data: *mut c_void,
) {
    // SAFETY: this event passes this struct, valid for the callback.
    let info = unsafe { &*data.cast::<RedisModuleClientInfo>() };
    guard(|| match subevent {
        raw::REDISMODULE_SUBEVENT_CLIENT_CHANGE_CONNECTED => E::opened(info.id),
        raw::REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED => E::closed(info.id),
        _ => {}
    });
}

unsafe extern "C" fn role_change<E: ServerEvents>(
    context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    subevent: u64,
    _data: *mut c_void,
) {
    let is_master = subevent == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER;
    // SAFETY: the server lends the context to this callback.
    guard(|| unsafe { Context::new(context) }.map(|context| E::role_changed(&context, is_master)));
}

unsafe extern "C" fn reconfigured<E: ServerEvents>(
    context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    _subevent: u64,
    _data: *mut c_void,
) {
    // SAFETY: the server lends the context to this callback.
    guard(|| unsafe { Context::new(context) }.map(|context| E::reconfigured(&context)));
}

unsafe extern "C" fn modules_changed<E: ServerEvents>(
    _context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    _subevent: u64,
    _data: *mut c_void,
) {
    guard(E::modules_changed);
}

unsafe extern "C" fn loading<E: ServerEvents>(
    context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    subevent: u64,
    _data: *mut c_void,
) {
    let is_success = subevent == raw::REDISMODULE_SUBEVENT_LOADING_ENDED;
    if !is_success && subevent != raw::REDISMODULE_SUBEVENT_LOADING_FAILED {
        guard(E::load_begins);
        return;
    }
    // SAFETY: the server lends the context to this callback.
    guard(|| unsafe { Context::new(context) }.map(|context| E::load_ended(&context)));
    if is_success {
        guard(E::loaded);
    }
}

unsafe extern "C" fn slot_migration<E: ServerEvents>(
    _context: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    subevent: u64,
    _data: *mut c_void,
) {
    if subevent == raw::REDISMODULE_SUBEVENT_CLUSTER_SLOT_MIGRATION_MIGRATE_COMPLETED {
        guard(E::slots_left);
    }
}

/// The database of the command that moves a key. Valkey 8.1 selects the event's database for the client itself, and leaves
/// it there for whatever that client does next and for what it passes on of the move; so the module puts it back.
static MOVED_FROM: MainThread<Option<i32>> = MainThread::new(None);

unsafe extern "C" fn keyspace<E: KeyspaceEvents>(
    context: *mut RedisModuleCtx,
    _class: c_int,
    event: *const c_char,
    key: *mut RedisModuleString,
) -> c_int {
    // SAFETY: the server passes a C string and a name, both valid for the callback, as is the context.
    let (event, context, name) =
        unsafe { (CStr::from_ptr(event), Context::new(context), RedisString::new(key)) };
    guard(|| {
        let (context, name) = (context?, name?);
        E::touched(&context, name);
        match event.to_bytes() {
            b"rename_to" | b"restore" => E::arrived(&context, name),
            b"evicted" => E::evicted(&context, name),
            b"move_from" => MOVED_FROM.with(|database| *database = Some(context.database())),
            b"move_to" => {
                E::moved(name);
                if let Some(database) = MOVED_FROM.with(Option::take) {
                    context.select_database(database);
                }
            }
            _ => {}
        }
        Some(())
    });
    OK
}
