//! Servers under callgrind, and what it says of them.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Data, Server};
use crate::works::Work;

/// Two lengths of a run: what they differ by is the work alone, without the server's start and end.
const LENGTHS: [usize; 2] = [1_000, 4_000];

/// Where callgrind leaves its counts, in the server's folder.
const COUNTS: &str = "callgrind.out";

/// What is done now and then by the clock, and so not counted.
const BY_THE_CLOCK: &str = "serverCron";

/// What has servers draw the random numbers they are to draw.
pub(crate) struct Seeding {
    folder: TempDir,
}

impl Seeding {
    /// Makes the library for it.
    pub(crate) fn new() -> Self {
        let seeding = Self { folder: tempfile::tempdir().unwrap() };
        let status = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(seeding.library())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/cost/seed.c"))
            .arg("-ldl")
            .status();
        assert!(status.is_ok_and(|status| status.success()), "seed.c is not compiled");
        seeding
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("seed.so")
    }
}

/// What a server is given to do.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) with_aof: bool,
    /// Which random numbers the server draws.
    pub(crate) seed: u8,
}

impl Job {
    /// Instructions of one piece of the work.
    pub(crate) fn instructions(self, seeding: &Seeding) -> f64 {
        let [short, long] = LENGTHS.map(|times| self.run(seeding, times, total));
        (long - short) / each()
    }

    /// The same by function, the dearest first; with what they call, or without.
    pub(crate) fn by_function(self, seeding: &Seeding, inclusive: bool) -> Vec<(String, f64)> {
        let [short, long] =
            LENGTHS.map(|times| self.run(seeding, times, |counts| functions(counts, inclusive)));
        let mut functions: Vec<(String, f64)> = long
            .into_iter()
            .map(|(name, count)| {
                let before = short.get(&name).copied().unwrap_or_default();
                (name, (count - before) / each())
            })
            .collect();
        functions.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        functions
    }

    /// Has a new server do the work that many times, ends it, and reads its counts.
    fn run<R>(self, seeding: &Seeding, times: usize, read: impl FnOnce(&Path) -> R) -> R {
        let seed = seeding.folder.path().join(format!("seed-{}", self.seed));
        fs::write(&seed, [self.seed; 64]).unwrap();
        let mut builder = Server::builder()
            .under(&[
                "valgrind",
                "--tool=callgrind",
                &format!("--callgrind-out-file={COUNTS}"),
                &format!("--toggle-collect={BY_THE_CLOCK}"),
                "--collect-atstart=yes",
            ])
            .preload(&seeding.library())
            .env("COST_SEED", seed)
            .config("hz 1")
            .config("dynamic-hz no")
            .config("activerehashing no");
        if self.with_aof {
            builder = builder.config("appendonly yes").config("appendfsync no");
        }
        let mut server = builder.start();
        self.work.run(&server, times);
        server.stop(Data::NoSave);
        read(&server.folder().join(COUNTS))
    }
}

fn each() -> f64 {
    let [short, long] = LENGTHS;
    (long - short) as f64
}

fn total(counts: &Path) -> f64 {
    let text = fs::read_to_string(counts).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    line.unwrap_or_else(|| panic!("no totals in {}", counts.display())).trim().parse().unwrap()
}

/// Its lines are `1,234,567 (12.34%)  file:function [object]`, the file left out where it is not known.
fn functions(counts: &Path, inclusive: bool) -> HashMap<String, f64> {
    let inclusive = format!("--inclusive={}", if inclusive { "yes" } else { "no" });
    let output = Command::new("callgrind_annotate")
        .args([&inclusive, "--threshold=100", "--auto=no"])
        .arg(counts)
        .output()
        .unwrap();
    assert!(output.status.success(), "callgrind_annotate: {}", String::from_utf8_lossy(&output.stderr));
    let mut found = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((count, rest)) = line.trim_start().split_once(' ') else { continue };
        let Some((_, name)) = rest.split_once("%)") else { continue };
        if let Ok(count) = count.replace(',', "").parse::<f64>() {
            *found.entry(short_name(name.trim())).or_default() += count;
        }
    }
    found
}

/// The function without the folders of its file and of its object.
fn short_name(name: &str) -> String {
    let (name, object) = name.rsplit_once(" [").unwrap_or((name, ""));
    let object = object.trim_end_matches(']').rsplit('/').next().unwrap_or_default();
    let at_file = name.find(':').filter(|&at| !name[at..].starts_with("::"));
    let name = match at_file {
        Some(at) => &name[name[..at].rfind('/').map_or(0, |slash| slash + 1)..],
        None => name,
    };
    format!("{} [{object}]", name.trim_start_matches("???:"))
}
