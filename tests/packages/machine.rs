//! A clean machine to install things on: a copy of a root that scripts/roots.sh has made, entered by chroot. It shares this
//! machine's network and processes, and has nothing else of it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::output;
use crate::support::{Client, PATIENCE, Reply, free_port, loopback, wait_until};

/// A machine, until it goes out of scope.
pub(crate) struct Machine {
    /// What is mounted in it, in this order.
    mounted: Vec<PathBuf>,
    folder: TempDir,
}

/// A server that was started by some command, until it goes out of scope.
pub(crate) struct Process {
    child: Child,
    port: u16,
}

impl Machine {
    /// One like this root.
    pub(crate) fn like(root: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        output(
            "cp",
            &["--archive", "--no-target-directory", root.to_str().unwrap(), folder.path().to_str().unwrap()],
        );
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut machine = Self { mounted: Vec::new(), folder };
        // How to reach package sources, and whom to believe, is this machine's.
        for file in ["etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"] {
            let _ = fs::remove_file(machine.path(file));
            fs::copy(Path::new("/").join(file), machine.path(file)).unwrap();
        }
        machine.mount(&["--types", "proc", "proc"], "proc");
        machine
    }

    /// A path in it, as this machine has it.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside.trim_start_matches('/'))
    }

    /// Shows it a folder of this machine, at the same path, read-only.
    pub(crate) fn show(&mut self, folder: &Path) {
        fs::create_dir_all(self.path(folder.to_str().unwrap())).unwrap();
        self.mount(&["--bind", "--read-only", folder.to_str().unwrap()], folder.to_str().unwrap());
    }

    fn mount(&mut self, what: &[&str], at: &str) {
        let at = self.path(at);
        output("mount", &[what, &[at.to_str().unwrap()]].concat());
        self.mounted.push(at);
    }

    /// Runs a script in root's home; it must succeed.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> String {
        let script = format!("cd /root && {script}");
        output("chroot", &[self.folder.path().to_str().unwrap(), "/bin/sh", "-ec", &script])
    }

    /// Starts a server by a command, which gets a free port for `PORT`, as this user, and waits until it answers.
    #[track_caller]
    pub(crate) fn start(&self, user: &str, command: &str, patience: Duration) -> Process {
        let command =
            format!("--userspec={user} {} /bin/sh -c", self.folder.path().display()) + "\n" + command;
        let (chroot, script) = command.split_once('\n').unwrap();
        let mut words: Vec<&str> = chroot.split(' ').collect();
        words.push(script);
        Process::start("chroot", &words, patience)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for at in self.mounted.iter().rev() {
            let unmounted = Command::new("umount").arg(at).status();
            // Nothing that this machine shows it may be deleted with it.
            assert!(unmounted.is_ok_and(|status| status.success()), "{} is still mounted", at.display());
        }
    }
}

impl Process {
    /// Starts a program whose server listens at the port that it is given as `PORT` in its environment.
    #[track_caller]
    pub(crate) fn start(program: &str, words: &[&str], patience: Duration) -> Self {
        let port = free_port();
        let child = Command::new(program)
            .args(words)
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut process = Self { child, port };
        wait_until("the server answers", patience, || {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("{program} {words:?}: {status}");
            }
            Client::try_connect(loopback(port))
                .is_ok_and(|mut client| client.try_exchange(&["PING"]).is_ok_and(|reply| !reply.is_error()))
        });
        process
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(loopback(self.port))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Has the server end as its service would.
    pub(crate) fn stop(mut self) {
        signal(&self.child, "TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            signal(&self.child, "KILL");
            let _ = self.child.wait();
        }
    }
}

/// To the process and those that it has started.
fn signal(child: &Child, name: &str) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-s", name, "--", &group]).status();
}

/// What the server says to a command that it does not know.
#[track_caller]
pub(crate) fn assert_unknown(client: &mut Client, command: &str) {
    let reply = client.run(command);
    assert!(matches!(&reply, Reply::Error(text) if text.contains("unknown command")), "{reply:?}");
}

/// For what starts at once.
pub(crate) const SOON: Duration = PATIENCE;
