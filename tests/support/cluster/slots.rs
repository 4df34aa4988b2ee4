//! Keys and slots, and the way a slot goes from one node to another key by key.

use std::sync::OnceLock;

use crc::{CRC_16_XMODEM, Crc};

use super::Cluster;
use crate::support::{Client, Reply, cmd};

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// The checksum that slots are numbered by.
static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// Milliseconds MIGRATE may take.
const MIGRATE_TIMEOUT_MS: u32 = 20_000;

/// The slot of a key: that of what stands between the first `{` and the next `}`, if anything does, else of all of it.
pub(crate) fn slot_of<K: AsRef<[u8]>>(key: K) -> u16 {
    let key = key.as_ref();
    CRC.checksum(tag(key).unwrap_or(key)) % SLOTS
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let start = key.iter().position(|&byte| byte == b'{')? + 1;
    let length = key[start..].iter().position(|&byte| byte == b'}')?;
    (length > 0).then(|| &key[start..start + length])
}

/// A key of that name in this slot: the name behind a tag.
pub(crate) fn key_in(slot: u16, name: &str) -> String {
    static TAGS: OnceLock<Vec<u32>> = OnceLock::new();
    let tags = TAGS.get_or_init(|| {
        let mut tags = vec![None; usize::from(SLOTS)];
        let mut missing = tags.len();
        for number in 0.. {
            let tag = &mut tags[usize::from(slot_of(format!("{number}")))];
            if tag.is_none() {
                *tag = Some(number);
                missing -= 1;
            }
            if missing == 0 {
                break;
            }
        }
        tags.into_iter().flatten().collect()
    });
    format!("{{{}}}{name}", tags[usize::from(slot)])
}

/// A slot on its way from one master to another. The steps are the caller's, in the order in which they stand here; what
/// goes out of scope unfinished stays as it is.
pub(crate) struct Migration<'a> {
    cluster: &'a Cluster,
    /// The slot.
    pub(crate) slot: u16,
    /// The master that has it.
    pub(crate) source: usize,
    /// The master that is to have it.
    pub(crate) target: usize,
}

impl Cluster {
    /// Opens the slot: the target imports it, the source migrates it. From here on the source sends whoever asks for a
    /// key it does not have to the target.
    #[track_caller]
    pub(crate) fn open_slot(&self, slot: u16, source: usize, target: usize) -> Migration<'_> {
        let (from, to) = (self.id(source), self.id(target));
        self.client(target).ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {from}"));
        self.client(source).ok(&format!("CLUSTER SETSLOT {slot} MIGRATING {to}"));
        Migration { cluster: self, slot, source, target }
    }

    /// Moves a slot and all its keys from the master that has it, and waits until that has gone round.
    #[track_caller]
    pub(crate) fn move_slot(&self, slot: u16, target: usize) {
        let source = self.owner(slot);
        let migration = self.open_slot(slot, source, target);
        migration.move_all_keys();
        migration.finish();
    }
}

impl Migration<'_> {
    /// Moves one key, which must be there.
    #[track_caller]
    pub(crate) fn move_key(&self, key: &str) {
        let reply = self.migrate(&[key.as_bytes().to_vec()]);
        assert_eq!(reply, Reply::Simple("OK".into()), "MIGRATE {key}");
    }

    /// Moves keys until there is none left in the slot at the source.
    #[track_caller]
    pub(crate) fn move_all_keys(&self) {
        let mut source = self.cluster.client(self.source);
        loop {
            let keys = source.run(&format!("CLUSTER GETKEYSINSLOT {} 100", self.slot));
            let keys: Vec<Vec<u8>> = keys.items().iter().map(Reply::bytes).collect();
            if keys.is_empty() {
                return;
            }
            // Keys that have gone meanwhile are no error: NOKEY, when all have.
            let reply = self.migrate(&keys);
            assert!(!reply.is_error(), "MIGRATE of slot {}: {reply:?}", self.slot);
        }
    }

    #[track_caller]
    fn migrate(&self, keys: &[Vec<u8>]) -> Reply {
        let command = self.migrate_command(keys);
        let _others_wait = self.cluster.one_copies_at_a_time();
        self.cluster.client(self.source).call(&command)
    }

    fn migrate_command(&self, keys: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let port = self.cluster.node(self.target).port();
        let head = cmd!["MIGRATE", "127.0.0.1", port, "", 0, MIGRATE_TIMEOUT_MS, "KEYS"];
        [&head, keys].concat()
    }

    /// Moves one key and at once gives the slot away, in one write to the source: nobody can be told of the one before
    /// the other. The target has to be told as well, by [`Migration::finish`].
    #[track_caller]
    pub(crate) fn move_key_and_leave(&self, key: &str) {
        let leave = format!("CLUSTER SETSLOT {} NODE {}", self.slot, self.cluster.id(self.target));
        self.in_one_write(&[], key, &[&leave]);
    }

    /// Moves one key between these commands to the source, in one write.
    #[track_caller]
    pub(crate) fn in_one_write(&self, before: &[&str], key: &str, after: &[&str]) {
        let command = |text: &&str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        let mut commands: Vec<Vec<Vec<u8>>> = before.iter().map(command).collect();
        commands.push(self.migrate_command(&[key.as_bytes().to_vec()]));
        commands.extend(after.iter().map(command));
        let others_wait = self.cluster.one_copies_at_a_time();
        let replies = self.cluster.client(self.source).pipeline(&commands);
        drop(others_wait);
        assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
        assert_eq!(replies[before.len()], Reply::Simple("OK".into()), "MIGRATE {key}");
    }

    /// Gives the slot to the target, by the target's word alone: it takes a new epoch, and the others learn of it from
    /// it. Keys that the source still has in the slot, the source deletes when it learns. Nothing is waited for; see
    /// [`Cluster::one_at_a_time`].
    #[track_caller]
    pub(crate) fn take(&self) {
        self.set_node(&mut self.cluster.client(self.target));
    }

    /// Gives the slot to the target: by its own word, and then the source's, which refuses while it has keys in it. All
    /// others are waited for, until they know it from the target: told by hand, one that does not know the target's new
    /// epoch yet would believe the source again, from which something older may still be on the way.
    #[track_caller]
    pub(crate) fn finish(&self) {
        let _others_wait = self.cluster.one_at_a_time();
        self.take();
        self.set_node(&mut self.cluster.client(self.source));
        self.wait_owned();
    }

    #[track_caller]
    fn set_node(&self, client: &mut Client) {
        client.ok(&format!("CLUSTER SETSLOT {} NODE {}", self.slot, self.cluster.id(self.target)));
    }

    /// Waits until all nodes know that the target has the slot.
    #[track_caller]
    pub(crate) fn wait_owned(&self) {
        self.cluster.wait_owner(self.slot, self.target);
    }

    /// Closes the slot where it was. What was moved or made at the target has to be moved back before.
    #[track_caller]
    pub(crate) fn cancel(self) {
        for at in [self.source, self.target] {
            self.cluster.client(at).ok(&format!("CLUSTER SETSLOT {} STABLE", self.slot));
        }
    }
}
