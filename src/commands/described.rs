//! docs/commands.json: the commands in the form of Redis's own command files, for those who generate clients from them. A test
//! compares it with the command table. `REDIS_LOCK_WRITE=1` has the test write it anew.

use std::ffi::CStr;
use std::path::Path;
use std::{env, fs};

use serde_json::{Map, Value, json};

use super::ALL;
use crate::server::ffi::{Access, Arg, ArgKind, CommandSpec, Keys};

/// Where the file is.
const FILE: &str = "docs/commands.json";

/// Since which version each command is there.
const SINCE: &str = "0.1.0";

/// The flag of a module's command that tells the server its keys. The files of Redis have no such flag.
const FOR_THE_SERVER: &str = "GETKEYSAPI";

#[test]
fn the_file_is_what_the_command_table_says() {
    let described: Map<String, Value> = ALL.iter().filter(|spec| is_public(spec)).map(command).collect();
    let text = serde_json::to_string_pretty(&described).unwrap_or_default() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if env::var_os("REDIS_LOCK_WRITE").is_some() {
        assert!(fs::write(&path, &text).is_ok(), "writing {FILE}");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "{FILE} is not what the command table says: REDIS_LOCK_WRITE=1 cargo test --lib described"
    );
}

/// The others are for masters and files.
fn is_public(spec: &CommandSpec) -> bool {
    !text(spec.summary).starts_with("Internal")
}

fn command(spec: &CommandSpec) -> (String, Value) {
    let words = |words: &CStr| -> Vec<String> {
        text(words).split(' ').map(|word| word.to_uppercase().replace('-', "")).collect()
    };
    let reply: Value = serde_json::from_str(spec.reply).unwrap_or_default();
    assert!(reply.is_object(), "the reply of {:?} is a schema", spec.name);
    let mut described = json!({
        "summary": text(spec.summary),
        "complexity": text(spec.complexity),
        "group": "module",
        "since": SINCE,
        "arity": spec.arity,
        "command_flags": words(spec.flags).into_iter().filter(|flag| flag != FOR_THE_SERVER).collect::<Vec<_>>(),
        "acl_categories": words(spec.categories),
        "arguments": spec.args.iter().map(argument).collect::<Vec<_>>(),
        "reply_schema": reply,
    });
    if let Some(keys) = spec.keys {
        described["key_specs"] = key_specs(keys);
    }
    (text(spec.name).to_uppercase(), described)
}

fn key_specs(keys: Keys) -> Value {
    let spec = |access: Access, is_complete: bool, place: u32, find_keys: Value| {
        let mut flags = match access {
            Access::Read => vec!["RO", "ACCESS"],
            Access::Write => vec!["RW", "ACCESS", "UPDATE"],
            Access::Delete => vec!["RW", "DELETE"],
        };
        if !is_complete {
            flags.push("INCOMPLETE");
        }
        json!({"flags": flags, "begin_search": {"index": {"pos": place}}, "find_keys": find_keys})
    };
    let one = json!({"range": {"lastkey": 0, "step": 1, "limit": 0}});
    match keys {
        Keys::First(access) => json!([spec(access, true, 1, one)]),
        Keys::FirstAndTold(access) => json!([spec(access, false, 1, one)]),
        Keys::Counted(access) => {
            let counted = json!({"keynum": {"keynumidx": 0, "firstkey": 1, "step": 1}});
            json!([spec(access, true, 1, counted), spec(access, false, 2, one)])
        }
    }
}

fn argument(arg: &Arg) -> Value {
    let (kind, parts) = match arg.kind {
        ArgKind::Key => ("key", None),
        ArgKind::String => ("string", None),
        ArgKind::Integer => ("integer", None),
        ArgKind::PureToken => ("pure-token", None),
        ArgKind::OneOf(parts) => ("oneof", Some(parts)),
        ArgKind::Block(parts) => ("block", Some(parts)),
    };
    let mut described = json!({"name": text(arg.name), "type": kind});
    if matches!(arg.kind, ArgKind::Key) {
        described["key_spec_index"] = json!(0);
    }
    if let Some(token) = arg.token {
        described["token"] = json!(text(token));
    }
    if arg.optional {
        described["optional"] = json!(true);
    }
    if arg.multiple {
        described["multiple"] = json!(true);
    }
    if let Some(parts) = parts {
        described["arguments"] = parts.iter().map(argument).collect();
    }
    described
}

fn text(text: &CStr) -> &str {
    text.to_str().unwrap_or_default()
}
