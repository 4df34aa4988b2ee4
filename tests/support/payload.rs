//! What DUMP gives and RESTORE takes, opened: the value's bytes, and a footer with a checksum over all before it.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crc::{CRC_64_REDIS, Crc};

use crate::support::{Client, Reply, cmd};

/// Two bytes of format version and eight of checksum.
const FOOTER: usize = 2 + 8;

/// A payload of DUMP, to be changed and made good again.
#[derive(Clone)]
pub(crate) struct Payload {
    /// Type, module and value.
    pub(crate) body: Vec<u8>,
    version: [u8; 2],
}

impl Payload {
    /// DUMPs a key that must exist.
    #[track_caller]
    pub(crate) fn of<K: AsRef<[u8]>>(client: &mut Client, key: K) -> Self {
        let whole = client.call(&[b"DUMP".as_slice(), key.as_ref()]).bytes();
        let (body, footer) = whole.split_at(whole.len() - FOOTER);
        let payload = Self { body: body.to_vec(), version: [footer[0], footer[1]] };
        assert_eq!(payload.wire(), whole, "the checksum is understood");
        payload
    }

    /// The payload with its footer, as RESTORE believes it.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let mut wire = self.body.clone();
        wire.extend(self.version);
        let checksum = Crc::<u64>::new(&CRC_64_REDIS).checksum(&wire);
        wire.extend(checksum.to_le_bytes());
        wire
    }

    /// The same with another body.
    pub(crate) fn with_body(&self, body: Vec<u8>) -> Self {
        Self { body, version: self.version }
    }

    /// The same with `old` replaced by `new`; it must be there once.
    #[track_caller]
    pub(crate) fn with_number(&self, old: u64, new: u64) -> Self {
        let old = old.to_le_bytes();
        let places: Vec<usize> =
            (0..self.body.len()).filter(|at| self.body[*at..].starts_with(&old)).collect();
        assert_eq!(places.len(), 1, "{old:?} in {}", self.body.escape_ascii());
        let mut body = self.body.clone();
        body[places[0]..][..8].copy_from_slice(&new.to_le_bytes());
        self.with_body(body)
    }
}

/// A fence half a day ahead of what the wall clock gives, so that only memory of it makes a larger one; the same for the
/// whole run. More than a day ahead a client would not be believed.
pub(crate) fn far_fence() -> i64 {
    static FAR_FENCE: OnceLock<i64> = OnceLock::new();
    const HALF_A_DAY: Duration = Duration::from_secs(12 * 60 * 60);
    *FAR_FENCE.get_or_init(|| {
        let then = SystemTime::now() + HALF_A_DAY;
        i64::try_from(then.duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
    })
}

/// Brings the server's sequence of fences to [`far_fence`] and leaves no lock behind. The server must run with
/// `rdbcompression no`.
#[track_caller]
pub(crate) fn raise_fences(client: &mut Client) {
    raise_fences_by(client, "raising");
}

/// The same by way of a key that the server has to be the one to ask for.
#[track_caller]
pub(crate) fn raise_fences_by(client: &mut Client, key: &str) {
    let (_, fence) = crate::support::ok_grant(client.run(&format!("LOCK.ACQUIRE {key} PX 60000")));
    let payload = Payload::of(client, key);
    let far = payload.with_number(fence.unsigned_abs(), far_fence().unsigned_abs());
    let restored = client.call(&cmd!["RESTORE", key, 0, far.wire(), "REPLACE"]);
    assert_eq!(restored, Reply::Simple("OK".into()));
    assert_eq!(client.run(&format!("LOCK.BREAK {key}")), Reply::Int(1));
    let (token, fence) = crate::support::ok_grant(client.run(&format!("LOCK.ACQUIRE {key} PX 60000")));
    assert_eq!(fence, far_fence() + 1);
    assert_eq!(client.call(&cmd!["LOCK.RELEASE", key, token]), Reply::Int(1));
}
