//! On which of the processor's cores things run, where the system has `taskset` to say so; elsewhere nothing is done.

use std::fs;
use std::process::{self, Command, Stdio};

/// The cores this process may use.
pub(crate) struct Cores {
    /// All of them, as `taskset` writes it: `0-1`.
    all: String,
}

impl Cores {
    pub(crate) fn allowed() -> Self {
        let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let all = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Self { all: all.unwrap_or_default().trim().to_owned() }
    }

    pub(crate) fn first(&self) -> &str {
        self.all.split(['-', ',']).next().unwrap_or_default()
    }

    pub(crate) fn last(&self) -> &str {
        self.all.split(['-', ',']).next_back().unwrap_or_default()
    }

    /// Keeps a process to a core.
    pub(crate) fn pin(process: u32, core: &str) {
        let _ = Command::new("taskset")
            .args(["-p", "-c", core, &process.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }

    /// Keeps this process's main thread to a core.
    pub(crate) fn pin_self(core: &str) {
        Self::pin(process::id(), core);
    }
}

/// Lets this process's main thread run anywhere again.
impl Drop for Cores {
    fn drop(&mut self) {
        Self::pin_self(&self.all);
    }
}
