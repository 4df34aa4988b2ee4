//! The files, each of which is opened.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::machine::{Process, SOON};
use crate::support::Client;
use crate::support::locks::{acquire, exists};
use crate::support::waiter::release;
use crate::{below_target, output};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What stands in the archive.
const ARCHIVED: [&str; 6] =
    ["CHANGELOG.md", "LICENSE", "README.md", "libredis_lock.so", "redis-lock.cdx.json", "redis-lock.conf"];

/// The newest glibc that the library may need: that of Debian 10, Ubuntu 18.10 and Red Hat 8.
const NEWEST_GLIBC: [u32; 2] = [2, 28];

/// The names of all shipped files.
fn names() -> [String; 3] {
    [
        format!("redis-lock-{VERSION}-x86_64-linux-gnu.tar.gz"),
        format!("redis-lock_{VERSION}-1_amd64.deb"),
        format!("redis-lock-{VERSION}-1.x86_64.rpm"),
    ]
}

/// The archive, unpacked.
fn unpacked(dist: &Path) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let [archive, ..] = names();
    let at = folder.path().to_str().unwrap();
    output("tar", &["--extract", "--file", dist.join(&archive).to_str().unwrap(), "--directory", at]);
    let inside = folder.path().join(archive.trim_end_matches(".tar.gz"));
    (folder, inside)
}

fn files_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn there_is_what_is_said_and_its_sums_are_right() {
    let dist = below_target!("dist");
    let mut expected = BTreeSet::from(names());
    expected.insert("SHA256SUMS".into());
    assert_eq!(files_in(&dist), expected);
    let sums = fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), names().len());
    let said =
        output("sh", &["-c", &format!("cd {} && sha256sum --check --strict SHA256SUMS", dist.display())]);
    assert!(names().iter().all(|name| said.contains(&format!("{name}: OK"))), "{said}");
}

#[test]
fn the_archive_has_the_library_and_what_belongs_to_it() {
    let dist = below_target!("dist");
    let (_folder, inside) = unpacked(&dist);
    assert_eq!(files_in(&inside), ARCHIVED.map(str::to_owned).into());
    for (ours, theirs) in [
        ("LICENSE", "LICENSE"),
        ("README.md", "README.md"),
        ("CHANGELOG.md", "CHANGELOG.md"),
        ("redis-lock.conf", "redis.conf.example"),
    ] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(theirs);
        assert_eq!(fs::read(inside.join(ours)).unwrap(), fs::read(source).unwrap(), "{ours}");
    }
}

#[test]
fn the_library_runs_with_an_old_c_library_and_needs_nothing_else() {
    let dist = below_target!("dist");
    let (_folder, inside) = unpacked(&dist);
    let library = inside.join("libredis_lock.so");
    let library = library.to_str().unwrap();
    let needed: BTreeSet<String> = output("readelf", &["--dynamic", "--wide", library])
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .map(|line| line.split(['[', ']']).nth(1).unwrap().to_owned())
        .collect();
    let of_glibc = ["libc.so.6", "libpthread.so.0", "libdl.so.2", "libm.so.6", "ld-linux-x86-64.so.2"];
    assert!(needed.iter().all(|name| of_glibc.contains(&name.as_str())), "{needed:?}");
    let symbols = output("readelf", &["--dyn-syms", "--wide", library]);
    let versions: BTreeSet<Vec<u32>> = symbols
        .lines()
        .filter_map(|line| line.split_once("@GLIBC_"))
        .map(|(_, rest)| rest.split_whitespace().next().unwrap())
        .map(|version| version.split('.').map(|part| part.parse().unwrap()).collect())
        .collect();
    assert!(versions.len() > 1, "{symbols}");
    assert!(versions.last().unwrap().as_slice() <= NEWEST_GLIBC.as_slice(), "{versions:?}");
    let exported: Vec<&str> = symbols
        .lines()
        .filter(|line| line.contains(" GLOBAL ") && !line.contains(" UND "))
        .map(|line| line.split_whitespace().last().unwrap())
        .collect();
    assert_eq!(exported, ["RedisModule_OnLoad"]);
    let sections = output("readelf", &["--sections", "--wide", library]);
    assert!(!sections.contains(".symtab") && !sections.contains(".debug_info"), "it is stripped");
    let bytes = fs::read(library).unwrap();
    let root = env!("CARGO_MANIFEST_DIR").as_bytes();
    assert!(!bytes.windows(root.len()).any(|window| window == root), "it says where it was built");
}

#[test]
fn the_library_loads_and_locks_with_the_configuration_that_comes_with_it() {
    let dist = below_target!("dist");
    let (_folder, inside) = unpacked(&dist);
    let conf = fs::read_to_string(inside.join("redis-lock.conf")).unwrap();
    let line = conf.lines().find(|line| line.starts_with("loadmodule ")).unwrap();
    assert_eq!(line, "loadmodule /usr/lib/redis/modules/libredis_lock.so");
    let adapted = conf.replace("/usr/lib/redis/modules", inside.to_str().unwrap());
    let path = inside.join("adapted.conf");
    fs::write(&path, adapted).unwrap();
    let at = inside.to_str().unwrap();
    let command =
        format!("exec ${{REDIS_SERVER:-redis-server}} {} --port $PORT --dir {at} --save ''", path.display());
    let server = Process::start("sh", &["-c", &command], SOON);
    locks(&mut server.client());
}

/// Takes a lock and gives it back.
#[track_caller]
pub(crate) fn locks(client: &mut Client) {
    acquire(client, "k TOKEN t");
    assert!(exists(client, "k"));
    release(client, "k", "t");
    assert!(!exists(client, "k"));
}

/// What Cargo.lock has of the crates that the library is built from.
#[test]
fn the_list_of_components_is_that_of_the_library() {
    let dist = below_target!("dist");
    let (_folder, inside) = unpacked(&dist);
    let text = fs::read_to_string(inside.join("redis-lock.cdx.json")).unwrap();
    assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "it says where it was built");
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["bomFormat"], "CycloneDX");
    assert_eq!(list["metadata"]["component"]["name"], "redis-lock");
    assert_eq!(list["metadata"]["component"]["version"], VERSION);
    let listed: BTreeSet<(String, String)> = list["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| ["name", "version"].map(|name| component[name].as_str().unwrap().to_owned()))
        .map(|[name, version]| (name, version))
        .collect();
    let tree = output(
        "cargo",
        &[
            "tree",
            "--locked",
            "--package",
            "redis-lock",
            "--edges",
            "normal",
            "--target",
            "x86_64-unknown-linux-gnu",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ],
    );
    let built: BTreeSet<(String, String)> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| (name.to_owned(), rest.split_whitespace().next().unwrap().to_owned()))
        .filter(|(name, _)| name != "redis-lock")
        .collect();
    assert!(built.iter().any(|(name, _)| name == "redis-module"), "{tree}");
    let missing: Vec<_> = built.difference(&listed).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_rpm_has_the_library_its_configuration_and_its_licence() {
    let dist = below_target!("dist");
    let [_, _, rpm] = names();
    let rpm = dist.join(rpm);
    let rpm = rpm.to_str().unwrap();
    let listed = output("rpm", &["--query", "--package", "--list", rpm]);
    assert_eq!(
        listed.lines().collect::<BTreeSet<_>>(),
        BTreeSet::from([
            "/etc/redis-lock/redis-lock.conf",
            "/usr/lib/redis/modules/libredis_lock.so",
            "/usr/share/doc/redis-lock/CHANGELOG.md",
            "/usr/share/doc/redis-lock/README.md",
            "/usr/share/doc/redis-lock/redis-lock.cdx.json",
            "/usr/share/licenses/redis-lock/LICENSE",
        ])
    );
    let configuration = output("rpm", &["--query", "--package", "--configfiles", rpm]);
    assert_eq!(configuration.trim(), "/etc/redis-lock/redis-lock.conf");
    let requires = output("rpm", &["--query", "--package", "--requires", rpm]);
    assert!(requires.contains("glibc >= 2.28"), "{requires}");
    let said =
        output("rpm", &["--query", "--package", "--queryformat", "%{NAME} %{VERSION} %{LICENSE}", rpm]);
    assert_eq!(said, format!("redis-lock {VERSION} MIT"));
    // The same library as in the archive.
    let folder = TempDir::new().unwrap();
    let unpack = format!(
        "cd {} && rpm2cpio {rpm} | cpio --extract --make-directories --quiet",
        folder.path().display()
    );
    output("sh", &["-c", &unpack]);
    let (_folder, inside) = unpacked(&dist);
    let [packed, archived] =
        [folder.path().join("usr/lib/redis/modules/libredis_lock.so"), inside.join("libredis_lock.so")]
            .map(|path| fs::read(path).unwrap());
    assert!(packed == archived);
}
