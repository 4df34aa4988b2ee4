//! The images of contrib/containers, as scripts/containers.sh has built them over stand-ins for the official ones, and what is
//! written for Kubernetes and compose.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

use crate::below_target;
use crate::machine::{Process, SOON};
use crate::shipped::locks;
use crate::support::locks::fence_of;

/// An image: where its files are, and what it says of itself.
struct Image {
    root: PathBuf,
    config: Value,
}

impl Image {
    fn of(folder: &Path, name: &str) -> Self {
        let root = fs::read_to_string(folder.join(format!("{name}.root"))).unwrap();
        let inspected = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        Self { root: root.trim().into(), config: inspected["Docker"]["config"].clone() }
    }

    fn words(&self, name: &str) -> Vec<String> {
        let words = self.config[name].as_array().unwrap_or_else(|| panic!("{name} in {}", self.config));
        words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    }

    fn user(&self) -> &str {
        self.config["User"].as_str().unwrap()
    }

    /// Runs it with these arguments, as a container engine would.
    fn run(&self, arguments: &str) -> Process {
        let user = format!("--userspec={}", self.user());
        let entry = self.words("Entrypoint").join(" ");
        let folder = self.config["WorkingDir"].as_str().unwrap();
        let command = format!("cd {folder} && exec {entry} --port $PORT {arguments}");
        Process::start("chroot", &[&user, self.root.to_str().unwrap(), "/bin/sh", "-c", &command], SOON)
    }

    /// Whether the image takes the server at this port for healthy.
    fn is_healthy(&self, port: u16) -> bool {
        let test = self.config["Healthcheck"]["Test"].as_array().unwrap();
        let words: Vec<&str> = test.iter().map(|word| word.as_str().unwrap()).collect();
        let ["CMD", program, rest @ ..] = words.as_slice() else { panic!("{words:?}") };
        let port = port.to_string();
        let words = [&[self.root.to_str().unwrap(), *program, "-p", &port], rest].concat();
        std::process::Command::new("chroot").args(words).output().unwrap().status.success()
    }
}

#[track_caller]
fn serves(name: &str, folder: &Path) {
    let image = Image::of(folder, name);
    assert_eq!(image.user(), name, "not root");
    assert!(image.config["Volumes"].as_object().unwrap().contains_key("/data"), "{}", image.config);
    let server = image.run("--appendonly yes --appendfsync always");
    assert!(image.is_healthy(server.port()));
    locks(&mut server.client());
    let fence = fence_of(&mut server.client(), "held TOKEN t PX 600000");
    let pid: u32 = server.client().info("server", "process_id").parse().unwrap();
    assert_ne!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), 0, "it runs as root");
    let port = server.port();
    // Dropped, it is killed.
    drop(server);
    assert!(!image.is_healthy(port));
    let server = image.run("--appendonly yes");
    let mut client = server.client();
    assert_eq!(client.run("LOCK.CHECK held t").items()[0].int(), fence, "it is on the volume");
    assert!(fence_of(&mut client, "next") > fence);
    server.stop();
    let without = format!("--userspec={name} {} lock-server --port $PORT", image.root.display());
    let without = Process::start("sh", &["-c", &format!("cd / && exec chroot {without}")], SOON);
    assert!(!image.is_healthy(without.port()), "a server without locks is not healthy");
}

#[test]
fn the_container_of_redis_serves_locks() {
    let folder = below_target!("containers/redis.root");
    serves("redis", folder.parent().unwrap());
}

#[test]
fn the_container_of_valkey_serves_locks() {
    let folder = below_target!("containers/valkey.root");
    serves("valkey", folder.parent().unwrap());
}

/// No engine is asked: a parser reads them, and what they name is what the Dockerfile has.
#[test]
fn what_is_written_for_compose_and_kubernetes_names_what_the_image_has() {
    let file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/containers").join(name);
        fs::read_to_string(path).unwrap()
    };
    let dockerfile = file("Dockerfile");
    let compose = file("compose.yaml");
    let compose = &Yaml::load_from_str(&compose).unwrap()[0];
    let (server, example) = (&compose["services"]["redis-lock"], &compose["services"]["example"]);
    let path = server["build"]["dockerfile"].as_str().unwrap();
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
    assert_eq!(server["volumes"][0].as_str(), Some("locks:/data"));
    assert!(dockerfile.contains("\nVOLUME /data\n"));
    assert_eq!(example["entrypoint"][0].as_str(), Some("lock-cli"));
    assert!(dockerfile.contains("/usr/local/bin/lock-cli"));
    let kubernetes = file("kubernetes.yaml");
    let set = &Yaml::load_from_str(&kubernetes).unwrap()[0];
    let pod = &set["spec"]["template"]["spec"];
    let copy = &pod["initContainers"][0]["command"];
    assert_eq!([&copy[0], &copy[2]].map(|word| word.as_str()), [Some("cp"), Some("/modules/")]);
    let library = copy[1].as_str().unwrap();
    let (folder, library) = library.rsplit_once('/').unwrap();
    assert!(dockerfile.contains(&format!("/{library} {folder}/\n")), "{folder}/{library}");
    let loaded = &pod["containers"][0]["args"][2];
    assert_eq!(loaded.as_str(), Some(format!("/modules/{library}").as_str()));
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
}
