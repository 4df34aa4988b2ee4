//! What deny.toml says of dependencies, held to it: their licences, where they come from, their versions. cargo-deny reads the
//! same file and says more. It takes minutes to build, and this takes a second.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, LicenseReq};

use super::readme::{file, root};

/// The workspaces, each with a lock file of its own.
const WORKSPACES: [&str; 3] = ["Cargo.toml", "fuzz/Cargo.toml", "clients/rust/Cargo.toml"];

/// The words of a list in deny.toml.
fn listed(name: &str) -> BTreeSet<String> {
    let text = file("deny.toml");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = ["))).unwrap();
    line.trim_end_matches(']').split(", ").map(|word| word.trim_matches('"').to_owned()).collect()
}

/// Every package of a workspace. Nothing is fetched that the lock file does not name.
fn packages(manifest: &str) -> Vec<Value> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--manifest-path"])
        .arg(root().join(manifest))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{manifest}: {}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn each_has_a_licence_that_is_allowed_and_comes_from_the_registry() {
    let allowed = listed("allow");
    assert!(allowed.contains("MIT"), "{allowed:?}");
    let is_allowed = |requirement: &LicenseReq| {
        requirement.addition.is_none() && requirement.license.id().is_some_and(|id| allowed.contains(id.name))
    };
    for manifest in WORKSPACES {
        let packages = packages(manifest);
        assert!(packages.len() > 5, "{manifest}");
        for package in packages {
            let name = format!("{manifest}: {} {}", package["name"], package["version"]);
            // The project's own have none.
            if let Some(source) = package["source"].as_str() {
                assert!(source.starts_with("registry+"), "{name}: {source}");
            }
            let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name}: no licence"));
            // Some older ones part alternatives by a stroke.
            let licence = Expression::parse(&licence.replace('/', " OR ")).unwrap();
            assert!(licence.evaluate(is_allowed), "{name}: {licence}");
        }
    }
}

#[test]
fn each_dependency_names_a_version() {
    for manifest in WORKSPACES {
        for package in packages(manifest).iter().filter(|package| package["source"].is_null()) {
            for dependency in package["dependencies"].as_array().unwrap() {
                let is_ours = dependency["path"].is_string();
                let name = &dependency["name"];
                assert!(is_ours || dependency["req"] != "*", "{manifest}: {name} may have any version");
            }
        }
    }
}
