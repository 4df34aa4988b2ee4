//! LOCK.RELEASE, LOCK.EXTEND, LOCK.BREAK: what a command does with holds that there are.

use lock_core::{ClientId, Token};

use super::Model;
use crate::world::grants::counted;
use crate::world::steps::{DEFAULT_LEASE_MS, Reply, Spot, Whose};

impl Model {
    pub(super) fn release(&mut self, client: ClientId, spot: Spot, token: &Token, level: u16) {
        if self.foreign.contains(&spot) {
            return self.reply(client, Reply::WrongType);
        }
        let released = self.release_at(spot, token, level);
        self.reply(client, Reply::Number(released.into()));
    }

    pub(super) fn release_at(&mut self, spot: Spot, token: &Token, level: u16) -> bool {
        self.settle(spot);
        if self.owns_string(spot, token) {
            if level == 1 {
                self.saw("string released");
                self.strings.remove(&spot);
                self.ttls.remove(&spot);
                self.withdraw(spot, token);
            }
            self.serve(spot);
            return true;
        }
        let depth = self.hold_of(spot, token).map(|holder| holder.level);
        match depth {
            None => self.saw("nothing to release"),
            Some(depth) if level > depth => self.saw("not so deep"),
            Some(_) if level == 1 => {
                self.saw("released");
                if self.whose(spot) == Whose::Arriving && self.queue(spot).next().is_some() {
                    self.saw("freed under waiters while the slot arrives");
                }
                self.holders.retain(|(place, holder)| *place != spot || holder.token != *token);
            }
            Some(_) => {
                self.saw("level given back");
                self.hold_of_mut(spot, token).unwrap().level = level - 1;
            }
        }
        if self.hold_of(spot, token).is_none() {
            self.withdraw(spot, token);
        }
        self.serve(spot);
        depth.is_some_and(|depth| level <= depth)
    }

    pub(super) fn extend(&mut self, client: ClientId, spot: Spot, token: &Token, lease_ms: Option<u64>) {
        if self.foreign.contains(&spot) {
            return self.reply(client, Reply::WrongType);
        }
        let extended = self.extend_at(spot, token, lease_ms);
        self.reply(client, Reply::Number(extended.into()));
    }

    pub(super) fn extend_at(&mut self, spot: Spot, token: &Token, lease_ms: Option<u64>) -> bool {
        self.settle(spot);
        let now = self.now;
        if self.owns_string(spot, token) {
            self.saw("string extended");
            self.ttls.insert(spot, now.plus_ms(lease_ms.unwrap_or(DEFAULT_LEASE_MS)));
            return true;
        }
        let extended = self.hold_of_mut(spot, token).map(|holder| {
            holder.lease_ms = counted(lease_ms.unwrap_or(holder.lease_ms), holder.session.is_some());
            holder.end = now.plus_ms(holder.lease_ms);
            holder.fence
        });
        if let Some(fence) = extended {
            self.tell(spot, fence);
            self.promise(spot);
        }
        self.saw(if extended.is_some() { "extended" } else { "nothing to extend" });
        extended.is_some()
    }

    pub(super) fn break_holds(&mut self, client: ClientId, spot: Spot, which: Option<usize>) {
        if self.foreign.contains(&spot) {
            return self.reply(client, Reply::WrongType);
        }
        // The operator names what was seen before the command came.
        let fences: Vec<u64> = self.live(spot).map(|holder| holder.fence).collect();
        self.settle(spot);
        if which.is_none() && self.strings.remove(&spot).is_some() {
            self.saw("string broken");
            self.ttls.remove(&spot);
            self.serve(spot);
            return self.reply(client, Reply::Number(1));
        }
        let is_named = |fence: u64| which.is_none_or(|which| fences.get(which) == Some(&fence));
        let broken = self.live(spot).filter(|holder| is_named(holder.fence)).count();
        self.holders.retain(|(place, holder)| *place != spot || !is_named(holder.fence));
        match (broken, which) {
            (0, _) => {}
            (_, None) => self.saw("broken altogether"),
            (_, Some(_)) => self.saw("broken by fence"),
        }
        self.serve(spot);
        self.reply(client, Reply::Number(broken));
    }
}
