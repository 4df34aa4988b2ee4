//! A server of its own for each test, on a Unix socket, so that no port is taken twice.

use redis::{Client, FromRedisValue, Value, cmd, from_redis_value, from_redis_value_ref};
use redis_lock_client::{Held, Locks};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = format!("redis-lock-client-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = env::temp_dir().join(folder);
        fs::create_dir(&folder).unwrap();
        let socket = folder.join("socket");
        let module =
            env::var_os("REDIS_LOCK_MODULE").unwrap_or_else(|| panic!("REDIS_LOCK_MODULE names no module"));
        let child = Command::new(env::var_os("REDIS_SERVER").unwrap_or("redis-server".into()))
            .args(["--port", "0", "--save", "", "--logfile", "log", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(&folder)
            .arg("--loadmodule")
            .arg(module)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, url: format!("unix:{}", socket.display()), folder };
        let end = Instant::now() + Duration::from_secs(30);
        while cmd("PING").exec(&mut server.client()).is_err() {
            let log = || fs::read_to_string(server.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "the server does not start:\n{}", log());
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    pub(crate) fn client(&self) -> Client {
        Client::open(self.url.as_str()).unwrap()
    }

    pub(crate) fn locks(&self) -> Locks {
        // Some requests are not repeated, and the machine may stand still.
        Locks::new(self.client()).with_timeout(Duration::from_secs(8))
    }

    pub(crate) fn run<T: FromRedisValue>(&self, name: &str, arguments: &[&[u8]]) -> T {
        cmd(name).arg(arguments).query(&mut self.client()).unwrap()
    }

    /// A connection of its own, to write to.
    pub(crate) fn stream(&self) -> UnixStream {
        UnixStream::connect(self.folder.join("socket")).unwrap()
    }

    /// Stops the server, or lets it go on.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// How many wait for it beside who holds it by this token.
    pub(crate) fn waiting(&self, lock: &[u8], token: &str) -> u64 {
        self.run::<(u64, u64, u64)>("LOCK.CHECK", &[lock, token.as_bytes()]).2
    }

    /// Waits until the lease has begun anew, of each of its locks here and by the client's own clock.
    pub(crate) async fn renews(&self, held: &Held) {
        let check =
            |name: &Vec<u8>| self.run::<(u64, u64, u64)>("LOCK.CHECK", &[name, held.token().as_bytes()]);
        let left = || {
            let there = held.names().iter().map(|name| Duration::from_millis(check(name).1));
            there.chain([held.remaining()]).collect::<Vec<_>>()
        };
        let mut last = left();
        let mut renewed = vec![false; last.len()];
        until(|| {
            let now = left();
            for (at, renewed) in renewed.iter_mut().enumerate() {
                *renewed |= now[at] > last[at];
            }
            last = now;
            assert!(held.is_held(), "it was not renewed");
            renewed.iter().all(|renewed| *renewed)
        })
        .await;
    }

    /// How deep it is held.
    pub(crate) fn level(&self, lock: &[u8]) -> u16 {
        from_redis_value_ref(&self.holder(lock)["level"]).unwrap()
    }

    /// The label of who holds it.
    pub(crate) fn owner(&self, lock: &[u8]) -> String {
        from_redis_value_ref(&self.holder(lock)["owner"]).unwrap()
    }

    fn holder(&self, lock: &[u8]) -> HashMap<String, Value> {
        let mut info = self.run::<HashMap<String, Value>>("LOCK.INFO", &[lock]);
        from_redis_value::<Vec<_>>(info.remove("holders").unwrap()).unwrap().remove(0)
    }

    /// Whether anybody holds it or waits for it.
    pub(crate) fn is_known(&self, lock: &[u8]) -> bool {
        self.run::<Value>("LOCK.INFO", &[lock]) != Value::Nil
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits until it is so.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "it does not come to be so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
