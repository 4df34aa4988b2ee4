//! On what the figures were measured, and what it allows.

use std::fs;
use std::process::Command;
use std::thread;

use crate::support::{Client, Server};

/// Names and values, in the order to show them.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let server = Server::start();
    let mut client = server.client();
    vec![
        ("processor", processor()),
        ("cores", thread::available_parallelism().map_or_else(|_| "unknown".to_owned(), |n| n.to_string())),
        ("kernel", output("uname", &["-sr"])),
        ("server", server_version(&mut client)),
        ("allocator", client.info("memory", "mem_allocator")),
        ("module", module_version(&mut client)),
        ("load before", load()),
        ("date", output("date", &["-u", "+%Y-%m-%d"])),
    ]
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.unwrap_or_else(|| output("uname", &["-m"]))
}

/// Processes that wanted to run during the last minute: above the cores, they got in each other's way.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |found| String::from_utf8_lossy(&found.stdout).trim().to_owned(),
    )
}

/// Valkey gives its own version beside the one of Redis it is compatible with.
fn server_version(client: &mut Client) -> String {
    let text = client.call(&["INFO", "server"]).text();
    let field = |name: &str| {
        text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
    };
    match field("valkey_version") {
        Some(version) => format!("Valkey {version}"),
        None => format!("Redis {}", field("redis_version").unwrap()),
    }
}

/// MODULE LIST shows 1.2.3 as 10203.
fn module_version(client: &mut Client) -> String {
    let modules = client.run("MODULE LIST");
    let fields = modules.items()[0].pairs();
    let (_, version) = fields.iter().find(|(name, _)| name.text() == "ver").unwrap();
    let version = version.int();
    format!("redis-lock {}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}
