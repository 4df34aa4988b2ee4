//! The Debian package and the sources, by the words of docs/install.md, on machines that have nothing else.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::machine::{Machine, Process, SOON, assert_unknown};
use crate::shipped::locks;
use crate::support::transcript::blocks;
use crate::support::{Client, Reply};
use crate::{below_target, output};

/// A server from Debian's packages.
struct Kind {
    /// Its name, which its folders, its user and its programs have too.
    name: &'static str,
}

const REDIS: Kind = Kind { name: "redis" };
const VALKEY: Kind = Kind { name: "valkey" };

/// How long it takes to get a compiler and to build the module, at the most.
const TO_BUILD: Duration = Duration::from_secs(900);

impl Kind {
    /// The server, as its service starts it: its own user, its own configuration.
    fn start(&self, machine: &Machine) -> Process {
        let name = self.name;
        let command = format!(
            "exec {name}-server /etc/{name}/{name}.conf --port $PORT --daemonize no --supervised no --logfile ''"
        );
        machine.start(&format!("{name}:{name}"), &command, SOON)
    }

    fn link(&self) -> String {
        format!("/etc/{}/conf.d/redis-lock.conf", self.name)
    }
}

/// The commands of docs/install.md, without the prompt. They are for root.
fn commands(of: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md")).unwrap();
    let lines = blocks(&page, "console").into_iter().flat_map(|block| block.lines);
    let commands: Vec<String> = lines
        .filter_map(|line| line.strip_prefix("# ").map(str::to_owned))
        .filter(|line| line.contains(of))
        .collect();
    assert!(!commands.is_empty(), "docs/install.md says nothing of {of}");
    commands
}

fn machine_with_package(root: &Path, dist: &Path) -> Machine {
    let machine = Machine::like(root);
    let package = format!("redis-lock_{}-1_amd64.deb", env!("CARGO_PKG_VERSION"));
    fs::copy(dist.join(&package), machine.path("/root").join(&package)).unwrap();
    machine
}

/// From the package to a lock, and back to the server as it was.
#[track_caller]
fn comes_and_goes(kind: &Kind, root: &Path, dist: &Path) {
    let machine = machine_with_package(root, dist);
    let [install] = &commands("apt install ./")[..] else { panic!("one command installs it") };
    let [include] = &commands(&format!("/etc/{}/conf.d", kind.name))[..] else {
        panic!("one command includes it")
    };
    machine.run(install);
    assert_unknown(&mut kind.start(&machine).client(), "LOCK.INFO k");
    machine.run(include);
    let server = kind.start(&machine);
    locks(&mut server.client());
    assert_eq!(setting(&mut server.client(), "lock.default-lease"), "30000");
    server.stop();

    // Installed once more, it works as before, with what its user has set.
    machine.run("sed -i 's/^lock.default-lease .*/lock.default-lease 5000/' /etc/redis-lock/redis-lock.conf");
    machine.run(&install.replace("install", "install --reinstall --yes"));
    let server = kind.start(&machine);
    locks(&mut server.client());
    let mut client = server.client();
    assert_eq!(setting(&mut client, "lock.default-lease"), "5000");
    client.ok("SET plain v");
    server.stop();

    // A file with a lock in it, or with fences, needs the module.
    let [forget] = &commands("lock.save-fence")[..] else { panic!("one command has no fence saved") };
    machine.run(forget);
    let server = kind.start(&machine);
    server.client().ok("SAVE");
    server.stop();

    let [remove] = &commands("apt remove")[..] else { panic!("one command removes it") };
    machine.run(&remove.replace("remove", "remove --yes"));
    assert!(!machine.path(&kind.link()).is_symlink());
    assert!(!machine.path("/usr/lib/redis/modules/libredis_lock.so").exists());
    let server = kind.start(&machine);
    assert_eq!(server.client().run("GET plain").text(), "v");
    assert_unknown(&mut server.client(), "LOCK.INFO k");
    server.stop();
    machine.run("apt-get purge --yes redis-lock");
    assert!(!machine.path("/etc/redis-lock").exists());
}

fn setting(client: &mut Client, name: &str) -> String {
    client.run(&format!("CONFIG GET {name}")).items()[1].text()
}

#[test]
fn the_package_comes_to_redis_and_goes() {
    let (root, dist) = (below_target!("roots/redis"), below_target!("dist"));
    comes_and_goes(&REDIS, &root, &dist);
}

#[test]
fn the_package_comes_to_valkey_and_goes() {
    let (root, dist) = (below_target!("roots/valkey"), below_target!("dist"));
    comes_and_goes(&VALKEY, &root, &dist);
}

/// With nothing but make and a Rust toolchain.
#[test]
fn from_the_sources_to_a_lock_in_two_commands() {
    let root = below_target!("roots/source");
    let mut machine = Machine::like(&root);
    let sysroot = output("rustc", &["--print", "sysroot"]);
    machine.show(Path::new(sysroot.trim()));
    let sources = machine.path("/root/redis-lock");
    fs::create_dir(&sources).unwrap();
    let copy = format!(
        "git -C {} archive HEAD | tar --extract --directory {}",
        env!("CARGO_MANIFEST_DIR"),
        sources.display()
    );
    output("sh", &["-c", &copy]);
    let [run] = &commands("make run")[..] else { panic!("one command runs it") };
    let environment = format!("env -i PATH={}/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root", sysroot.trim());
    let command = format!("cd /root/redis-lock && exec {environment} {run} PORT=$PORT");
    let server = machine.start("root:root", &command, TO_BUILD);
    let lock = format!("redis-cli -p {} LOCK.ACQUIRE my-lock PX 30000", server.port());
    let granted = machine.run(&lock);
    assert_eq!(granted.lines().count(), 2, "{granted}");
    assert_eq!(server.client().run("LOCK.BREAK my-lock"), Reply::Int(1));
}

#[test]
fn make_install_puts_it_where_the_service_may_run_it_and_uninstall_takes_it_away() {
    let folder = tempfile::TempDir::new().unwrap();
    let at = folder.path().to_str().unwrap();
    let make = |target: &str| {
        output("make", &["--directory", env!("CARGO_MANIFEST_DIR"), target, &format!("DESTDIR={at}")])
    };
    let others = folder.path().join("usr/lib/redis/modules/other.so");
    fs::create_dir_all(others.parent().unwrap()).unwrap();
    fs::write(&others, "").unwrap();
    make("install");
    let library = folder.path().join("usr/lib/redis/modules/libredis_lock.so");
    assert!(library.exists());
    let conf = folder.path().join("usr/share/doc/redis-lock/redis.conf.example");
    let conf = fs::read_to_string(conf)
        .unwrap()
        .replace("/usr/lib/redis/modules", library.parent().unwrap().to_str().unwrap());
    let adapted = folder.path().join("adapted.conf");
    fs::write(&adapted, conf).unwrap();
    let command = format!(
        "exec ${{REDIS_SERVER:-redis-server}} {} --port $PORT --dir {at} --save ''",
        adapted.display()
    );
    let server = Process::start("sh", &["-c", &command], SOON);
    locks(&mut server.client());
    drop(server);
    make("uninstall");
    let left = output("find", &[at, "-type", "f"]);
    assert_eq!(left.lines().count(), 2, "{left}");
    assert!(others.exists());
}
