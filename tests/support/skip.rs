//! What is left out where a server cannot do it: said by name, with the reason.
//!
//! The test harness shows nothing of a test that passed. So what [`skip!`] says goes past it: to the file that
//! `REDIS_LOCK_SKIPPED` names, from which `scripts/on-each-server.sh` makes its report, or to standard error.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use super::version::Version;

/// Says that the test it stands in, or what follows in it, is not tried on this server, and why.
///
/// `skip!(&mut client, "it cannot be told to")`. The test goes on; most return next.
macro_rules! skip {
    ($client:expr, $($reason:tt)+) => {{
        fn here() {}
        let test = std::any::type_name_of_val(&here);
        $crate::support::skip::say($client, test, &format!($($reason)+))
    }};
}
pub(crate) use skip;

/// Says it for [`skip!`], whose place is `here`.
#[track_caller]
pub(crate) fn say(client: &mut super::Client, here: &str, reason: &str) {
    let line = line(&Version::of(client), here, reason);
    let said = match std::env::var_os("REDIS_LOCK_SKIPPED") {
        Some(path) => append(path.as_ref(), line.as_bytes()),
        None => io::stderr().write_all(format!("skipped {line}").as_bytes()),
    };
    said.unwrap_or_else(|error| panic!("saying what is skipped: {error}: {line}"));
}

/// The file and the test, the server, the reason.
pub(crate) fn line(server: &Version, here: &str, reason: &str) -> String {
    let test = here.trim_end_matches("::here").replace("::{{closure}}", "");
    format!("{test} on {server}: {reason}\n")
}

/// In one write, since tests run side by side.
fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line)
}
