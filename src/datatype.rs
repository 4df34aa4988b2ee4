//! The lock as a value of a key: in snapshots, the append-only file, DUMP, RESTORE and DEBUG DIGEST.

use std::ffi::CStr;
use std::mem::{size_of, size_of_val};

use lock_core::token::LONGEST_SPELLED;
use lock_core::{DbKey, Fence, Lock, codec};

use crate::config;
use crate::relocated;
use crate::replication;
use crate::server::clock;
use crate::server::ffi::{AofWriter, Digest, Handle, Origin, Value};
use crate::state::TABLE;
use crate::waiting;

static HANDLE: Handle = Handle::new();

impl Value for Lock {
    const NAME: &'static CStr = c"redislock";
    const ENCODING_VERSION: i32 = 1;

    fn handle() -> &'static Handle {
        &HANDLE
    }

    fn load(bytes: &[u8], origin: Origin<'_>) -> Result<Self, String> {
        let now = clock::now();
        let mut lock = codec::decode_lock(bytes, now).map_err(|damage| damage.to_string())?;
        match origin {
            Origin::Client
                if !lock.holds().iter().all(|hold| hold.fence().is_credible(clock::wall_micros(now))) =>
            {
                return Err("a fence is more than a day ahead of this server's clock".to_owned());
            }
            Origin::Client | Origin::Master => TABLE.with(|table| table.loaded(None, &mut lock)),
            Origin::Snapshot(key) => TABLE.with(|table| table.loaded(key, &mut lock)),
        }
        Ok(lock)
    }

    fn save(&self) -> Vec<u8> {
        codec::encode(self.holds(), clock::now())
    }

    fn rewrite(&self, writer: &AofWriter<'_>) {
        for holds in codec::encode_in_pieces(self.holds(), clock::now()) {
            writer.write(replication::ACQUIRE, &holds);
        }
    }

    fn digest(&self, digest: &mut Digest<'_>) {
        for hold in self.holds() {
            digest.add_bytes(hold.token_text(&mut [0; LONGEST_SPELLED]));
            digest.add_bytes(hold.owner().unwrap_or_default());
            digest.add_number(hold.owner().is_some().into());
            digest.add_number(replication::signed(hold.fence()));
            digest.add_number(hold.limit().number().into());
            digest.add_number(hold.share().weight.into());
            digest.add_number(hold.lease_ms().cast_signed());
            digest.add_number(hold.level().into());
            digest.end_sequence();
        }
    }

    fn memory(&self) -> usize {
        size_of_val(self).saturating_add(self.heap_size())
    }

    fn unlinked(&mut self, key: DbKey<'_>) {
        TABLE.with(|table| table.departed(key, self));
        waiting::keep_awake();
        relocated::lock_left(key.key);
    }

    fn save_number() -> u64 {
        if !config::saves_fence() {
            return 0;
        }
        TABLE.with(|table| table.last_fence().map_or(0, Fence::get))
    }

    fn load_number(number: u64) -> bool {
        match Fence::new(number) {
            Some(fence) => TABLE.with(|table| table.raise_fence(fence)),
            None => return number == 0,
        }
        true
    }
}

const _: () = assert!(size_of::<Lock>() <= 64, "a million locks must stay small");
