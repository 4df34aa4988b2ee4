//! What LOCK.GUARD can run: the judgement of each command, by what the server says of it.
//!
//! The server is asked once for each command, and again after a module was loaded or unloaded. So a guarded command costs no
//! more than itself and the look at the lock.

use std::collections::BTreeMap;

use lock_core::Refusal;

use crate::server::ffi::{Args, Context, MainThread, Nature, Unasked};

/// What is guarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Command,
    /// What runs a script or a function.
    Script,
}

/// The commands that can be guarded, by their names in lower case. There are never more than the server has.
static KNOWN: MainThread<BTreeMap<Box<[u8]>, Kind>> = MainThread::new(BTreeMap::new());

/// Other modules may have come or gone, with their commands.
pub(crate) fn forget() {
    KNOWN.with(BTreeMap::clear);
}

/// What these words are, if they can be guarded. A command that does not exist can be: the server has its own words for it.
///
/// # Errors
/// Why they cannot be guarded.
pub(crate) fn kind_of(context: &Context, words: &Args<'_>) -> Result<Kind, Refusal> {
    let name = words.bytes(0).to_ascii_lowercase();
    let kind = match KNOWN.with(|known| known.get(name.as_slice()).copied()) {
        Some(kind) => kind,
        None => ask(context, words, name)?,
    };
    // Servers have room for one script at a time, and end if there are two.
    if kind == Kind::Script && context.is_in_script() {
        return Err(Refusal::GuardedScriptInScript);
    }
    Ok(kind)
}

fn ask(context: &Context, words: &Args<'_>, name: Vec<u8>) -> Result<Kind, Refusal> {
    let nature = |name: &[u8]| {
        context.nature(name).map_err(|why| match why {
            Unasked::NoCommand => Refusal::GuardedNotKnown,
            Unasked::NotNow => Refusal::GuardedNotNow,
        })
    };
    let Some(command) = nature(&name)? else { return Ok(Kind::Command) };
    if command.has_subcommands && words.len() > 1 {
        let subcommand = nature(&[&name, b"|".as_slice(), words.bytes(1)].concat())?;
        return judge(subcommand.as_ref().unwrap_or(&command));
    }
    let kind = judge(&command)?;
    if !command.has_subcommands {
        KNOWN.with(|known| known.insert(name.into(), kind));
    }
    Ok(kind)
}

/// The commands that run scripts and functions. The server does not let scripts call them, but they can be guarded.
const SCRIPTS: [&str; 6] = ["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"];

/// The commands that change the state of the connection although scripts may call them: there they do something else.
const CONNECTION: [&str; 4] = ["asking", "readonly", "readwrite", "select"];

fn judge(nature: &Nature) -> Result<Kind, Refusal> {
    let is_one_of = |names: &[&str]| names.contains(&nature.name.as_str());
    if is_one_of(&SCRIPTS) {
        Ok(Kind::Script)
    } else if is_one_of(&CONNECTION) {
        Err(Refusal::GuardedConnection)
    } else if nature.has("blocking") {
        Err(Refusal::GuardedWaits)
    } else if nature.has("noscript") {
        Err(Refusal::GuardedNotAllowed)
    } else {
        Ok(Kind::Command)
    }
}
