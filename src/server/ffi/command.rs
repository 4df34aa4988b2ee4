//! Commands: their registration, and the callback that runs them.

use std::ffi::{CStr, c_char, c_int};
use std::fmt::Display;
use std::mem;
use std::ptr;

use redis_module::raw::{
    self, RedisModuleCmdFunc, RedisModuleCommandArg, RedisModuleCommandArgType, RedisModuleCommandInfo,
    RedisModuleCommandInfoVersion, RedisModuleCommandKeySpec, RedisModuleCtx, RedisModuleString,
};

use super::guard::guard;
use super::{Args, Context, ERR, OK};

/// What a command does.
pub(crate) trait Command {
    /// Why a command can fail. The text is the reply to the client and begins with the error code.
    type Error: Display;
    /// The error for a command that panics.
    const INTERNAL: Self::Error;

    /// Whether the server asks the command for its keys (`getkeys-api`).
    const TELLS_KEYS: bool = false;

    /// Runs the command. It replies exactly once, unless it fails.
    fn run(context: &Context, args: &Args<'_>) -> Result<(), Self::Error>;

    /// Tells the server which of these arguments are keys ([`Context::key_is_at`]), if `TELLS_KEYS`. It replies nothing.
    ///
    /// Valkey 9 may ask from the thread that reads the command. So this uses the context and the arguments, and nothing else.
    fn tell_keys(_context: &Context, _args: &Args<'_>) {}
}

/// A command as the server calls it.
#[derive(Clone, Copy)]
pub(crate) struct Handler(RedisModuleCmdFunc);

impl Handler {
    pub(crate) const fn of<C: Command>() -> Self {
        Self(Some(run::<C>))
    }
}

unsafe extern "C" fn run<C: Command>(
    context: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the server lends the context to this call, which is a command's.
    let Some(context) = (unsafe { Context::of_command(context) }) else { return ERR };
    let outcome = guard(|| {
        // SAFETY: the server lends the arguments to this call, `argc` of them.
        let args = unsafe { Args::new(argv, argc) };
        if C::TELLS_KEYS && context.is_asked_for_keys() {
            C::tell_keys(&context, &args);
            return Ok(());
        }
        C::run(&context, &args)
    });
    match outcome {
        Some(Ok(())) => {}
        Some(Err(error)) => context.reply_error(&error),
        None => context.reply_error(&C::INTERNAL),
    }
    OK
}

/// How the server knows a command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(crate) struct CommandSpec {
    pub(crate) name: &'static CStr,
    pub(crate) handler: Handler,
    /// The server's own flags, separated by blanks.
    pub(crate) flags: &'static CStr,
    /// ACL categories, separated by blanks, for servers that let modules set them.
    pub(crate) categories: &'static CStr,
    /// Which arguments are keys, and how the command uses them. `None` for a command without a key.
    pub(crate) keys: Option<Keys>,
    /// The number of arguments, including the command's name. Negative: at least that many.
    pub(crate) arity: i32,
    pub(crate) summary: &'static CStr,
    pub(crate) complexity: &'static CStr,
    pub(crate) args: &'static [Arg],
    /// What it replies, as a JSON schema for docs/commands.json. Modules cannot tell the server.
    #[cfg_attr(not(test), expect(dead_code, reason = "docs/commands.json is written by a test"))]
    pub(crate) reply: &'static str,
}

/// Which arguments of a command are keys.
#[derive(Clone, Copy)]
pub(crate) enum Keys {
    /// The first.
    First(Access),
    /// The first, and others that the command tells the server when it is asked (`getkeys-api`).
    FirstAndTold(Access),
    /// The first argument is the number of keys, and the keys follow it. No server routes a command by such a specification
    /// alone: the command also has to answer for its keys (`getkeys-api`). And some clients know commands only by the place of
    /// their first key, which the server says of a second specification.
    Counted(Access),
}

/// What a command does with a key.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// It reads it.
    Read,
    /// It may create or change it, and its reply depends on the value.
    Write,
    /// It may delete it.
    Delete,
}

impl Access {
    pub(super) fn flags(self) -> u32 {
        match self {
            Self::Read => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
            Self::Write => {
                raw::REDISMODULE_CMD_KEY_RW
                    | raw::REDISMODULE_CMD_KEY_ACCESS
                    | raw::REDISMODULE_CMD_KEY_UPDATE
            }
            Self::Delete => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_DELETE,
        }
    }
}

/// One argument, as COMMAND DOCS and redis-cli's hints show it.
pub(crate) struct Arg {
    pub(crate) name: &'static CStr,
    pub(crate) kind: ArgKind,
    /// The keyword before it, if there is one.
    pub(crate) token: Option<&'static CStr>,
    pub(crate) optional: bool,
    /// Whether it may come several times.
    pub(crate) multiple: bool,
}

/// What an argument is.
pub(crate) enum ArgKind {
    Key,
    String,
    Integer,
    /// A keyword alone.
    PureToken,
    /// One of several.
    OneOf(&'static [Arg]),
    /// Several, one after the other.
    Block(&'static [Arg]),
}

impl Arg {
    pub(crate) const KEY: Self = Self::required(c"key", ArgKind::Key);

    pub(crate) const fn required(name: &'static CStr, kind: ArgKind) -> Self {
        Self { name, kind, token: None, optional: false, multiple: false }
    }

    /// An argument that follows a keyword.
    pub(crate) const fn after(token: &'static CStr, name: &'static CStr, kind: ArgKind) -> Self {
        Self { name, kind, token: Some(token), optional: false, multiple: false }
    }

    pub(crate) const fn optional(self) -> Self {
        Self { name: self.name, kind: self.kind, token: self.token, optional: true, multiple: self.multiple }
    }

    /// The same argument, any number of times.
    pub(crate) const fn multiple(self) -> Self {
        Self { name: self.name, kind: self.kind, token: self.token, optional: self.optional, multiple: true }
    }
}

/// Registers commands. The error is the name of the first command that the server refuses.
pub(crate) fn register_commands(
    context: &Context,
    specs: &'static [CommandSpec],
) -> Result<(), &'static CStr> {
    let refused = specs.iter().find(|spec| !register(context, spec));
    refused.map_or(Ok(()), |spec| Err(spec.name))
}

fn register(context: &Context, spec: &'static CommandSpec) -> bool {
    let name = spec.name.as_ptr();
    let mut info = CommandInfo::new(spec);
    // SAFETY: every text is a C string that lives as long as the program; what else is passed lives in `info`, and
    // the server copies all of it. The keys are described by key specs alone, not by the older three positions.
    unsafe {
        let created = api!(RedisModule_CreateCommand(
            context.raw(),
            name,
            spec.handler.0,
            spec.flags.as_ptr(),
            0,
            0,
            0
        ));
        let command = api!(RedisModule_GetCommand(context.raw(), name));
        if created != OK || command.is_null() {
            return false;
        }
        // Servers before 7.2 do not have this function. ACL rules name the commands there.
        if let Some(set_categories) = raw::RedisModule_SetCommandACLCategories
            && set_categories(command, spec.categories.as_ptr()) != OK
        {
            return false;
        }
        api!(RedisModule_SetCommandInfo(command, &raw const *info.link())) == OK
    }
}

/// The command information in the form that the server expects. An entry of zeros ends each array.
struct CommandInfo {
    info: RedisModuleCommandInfo,
    key_specs: [RedisModuleCommandKeySpec; 3],
    args: Vec<RedisModuleCommandArg>,
    /// Arguments of arguments, which `args` points into.
    parts: Vec<Vec<RedisModuleCommandArg>>,
}

/// The sizes of the structs in this build, so that a server with other versions of them can read the arrays.
static VERSION: RedisModuleCommandInfoVersion = RedisModuleCommandInfoVersion {
    version: 1,
    sizeof_historyentry: mem::size_of::<raw::RedisModuleCommandHistoryEntry>(),
    sizeof_keyspec: mem::size_of::<RedisModuleCommandKeySpec>(),
    sizeof_arg: mem::size_of::<RedisModuleCommandArg>(),
};

impl CommandInfo {
    fn new(spec: &'static CommandSpec) -> Self {
        let mut parts = Vec::new();
        let args = list(spec.args, &mut parts);
        let info = RedisModuleCommandInfo {
            version: &raw const VERSION,
            summary: spec.summary.as_ptr(),
            complexity: spec.complexity.as_ptr(),
            since: c"0.1.0".as_ptr(),
            history: ptr::null_mut(),
            tips: ptr::null(),
            arity: spec.arity,
            key_specs: ptr::null_mut(),
            args: ptr::null_mut(),
        };
        Self { info, key_specs: key_specs(spec.keys), args, parts }
    }

    /// Sets the pointers from one part to another, which hold while it stays in place.
    fn link(&mut self) -> &RedisModuleCommandInfo {
        let mut parts = self.parts.iter_mut();
        for arg in &mut self.args {
            if HAVE_PARTS.contains(&arg.type_) {
                arg.subargs = parts.next().map_or(ptr::null_mut(), Vec::as_mut_ptr);
            }
        }
        self.info.key_specs = self.key_specs.as_mut_ptr();
        self.info.args = self.args.as_mut_ptr();
        &self.info
    }
}

/// The types of arguments that consist of others.
const HAVE_PARTS: [raw::RedisModuleCommandArgType; 2] = [
    raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF,
    raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK,
];

fn list(args: &'static [Arg], parts: &mut Vec<Vec<RedisModuleCommandArg>>) -> Vec<RedisModuleCommandArg> {
    let mut list: Vec<RedisModuleCommandArg> = args.iter().map(|arg| one_arg(arg, parts)).collect();
    // SAFETY: all of the struct's fields are integers and pointers, for which zeros are valid.
    list.push(unsafe { mem::zeroed() });
    list
}

fn one_arg(arg: &'static Arg, parts: &mut Vec<Vec<RedisModuleCommandArg>>) -> RedisModuleCommandArg {
    if let ArgKind::OneOf(args) | ArgKind::Block(args) = arg.kind {
        // These are not nested, so their own need no place.
        parts.push(list(args, &mut Vec::new()));
    }
    let flag = |is_set, flag| if is_set { flag } else { raw::REDISMODULE_CMD_ARG_NONE };
    let flags = flag(arg.optional, raw::REDISMODULE_CMD_ARG_OPTIONAL)
        | flag(arg.multiple, raw::REDISMODULE_CMD_ARG_MULTIPLE);
    RedisModuleCommandArg {
        name: arg.name.as_ptr(),
        type_: type_of(&arg.kind),
        key_spec_index: if matches!(arg.kind, ArgKind::Key) { 0 } else { -1 },
        token: text_or_null(arg.token),
        summary: ptr::null(),
        since: ptr::null(),
        flags: flags.cast_signed(),
        deprecated_since: ptr::null(),
        subargs: ptr::null_mut(),
        display_text: ptr::null(),
    }
}

fn type_of(kind: &ArgKind) -> RedisModuleCommandArgType {
    match kind {
        ArgKind::Key => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY,
        ArgKind::String => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
        ArgKind::Integer => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER,
        ArgKind::PureToken => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN,
        ArgKind::OneOf(_) => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF,
        ArgKind::Block(_) => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK,
    }
}

fn text_or_null(text: Option<&'static CStr>) -> *const c_char {
    text.map_or(ptr::null(), CStr::as_ptr)
}

/// The specifications of a command's keys.
fn key_specs(keys: Option<Keys>) -> [RedisModuleCommandKeySpec; 3] {
    match keys {
        None => [no_key(), no_key(), no_key()],
        Some(Keys::First(access)) => [key_at(1, access, true), no_key(), no_key()],
        Some(Keys::FirstAndTold(access)) => [key_at(1, access, false), no_key(), no_key()],
        Some(Keys::Counted(access)) => [counted_keys(access), key_at(2, access, false), no_key()],
    }
}

/// A key at this place, and no other unless they are not `all`. Then the server asks the command for its keys. Otherwise it
/// would take the specification for all that there is, and check no rights to the other keys.
fn key_at(place: c_int, access: Access, all: bool) -> RedisModuleCommandKeySpec {
    let incomplete = if all { 0 } else { raw::REDISMODULE_CMD_KEY_INCOMPLETE };
    let mut spec = no_key();
    spec.flags = u64::from(access.flags() | incomplete);
    spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    spec.bs.index.pos = place;
    spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
    spec.fk.range =
        raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 { lastkey: 0, keystep: 1, limit: 0 };
    spec
}

/// As many keys as the first argument says, behind it.
fn counted_keys(access: Access) -> RedisModuleCommandKeySpec {
    let mut spec = no_key();
    spec.flags = u64::from(access.flags());
    spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    spec.bs.index.pos = 1;
    spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_KEYNUM;
    spec.fk.keynum =
        raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_2 { keynumidx: 0, firstkey: 1, keystep: 1 };
    spec
}

fn no_key() -> RedisModuleCommandKeySpec {
    // SAFETY: all of the struct's fields are integers, pointers and unions of them, for which zeros are valid.
    unsafe { mem::zeroed() }
}
