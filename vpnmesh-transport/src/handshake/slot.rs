//! What a responder remembers: one running handshake per peer, and how new each peer is.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use vpnmesh_core::{PublicKey, Timestamp};

use super::chunk::Chunks;
use super::identity::Incarnation;
use super::mac::MacKey;
use super::noise::Noise;
use super::wire::MAC;
use crate::suite::{Cipher, Profile};

/// A handshake whose A was accepted.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) peer: PublicKey,
    pub(super) from: SocketAddr,
    /// The initiator's index.
    pub(super) sender: u32,
    pub(super) mac1: [u8; MAC],
    pub(super) back: MacKey,
    pub(super) profile: Profile,
    pub(super) cipher: Cipher,
    pub(super) incarnation: Incarnation,
    pub(super) options: Vec<u8>,
    pub(super) chunks: Chunks,
    /// Gone once answered or refused.
    pub(super) noise: Option<Noise>,
    /// The stored answer, until it was repeated.
    pub(super) answer: Option<Vec<Vec<u8>>>,
    /// Bytes from and to the address. What goes out never exceeds what came in.
    pub(super) received: usize,
    pub(super) sent: usize,
    pub(super) born: Timestamp,
}

impl Slot {
    /// Counts `datagrams` as sent if the address has paid for them.
    pub(super) fn may_send(&mut self, datagrams: &[Vec<u8>]) -> bool {
        let len: usize = datagrams.iter().map(Vec::len).sum();
        let paid = self.sent + len <= self.received;
        if paid {
            self.sent += len;
        }
        paid
    }
}

/// All slots; at most [`SlotTable::CAPACITY`], one per peer.
#[derive(Debug, Default)]
pub(super) struct SlotTable {
    slots: BTreeMap<PublicKey, Slot>,
    /// Invariant: exactly one entry per slot.
    by_sender: BTreeMap<(SocketAddr, u32), PublicKey>,
}

impl SlotTable {
    /// A slot is about 4 kB, so this is 16 MB at worst. Only configured peers get one.
    pub(super) const CAPACITY: usize = 4096;
    /// How long a slot lives.
    pub(super) const LIFETIME: Duration = Duration::from_secs(5);

    /// Puts a slot in the place of the peer's last one; `false` if the table is full.
    pub(super) fn insert(&mut self, slot: Slot, now: Timestamp) -> bool {
        self.remove(&slot.peer);
        if self.slots.len() >= Self::CAPACITY {
            self.expire(now);
        }
        if self.slots.len() >= Self::CAPACITY {
            return false;
        }
        let place = (slot.from, slot.sender);
        if let Some(other) = self.by_sender.insert(place, slot.peer) {
            self.slots.remove(&other); // same address and index: the older one cannot be told apart
        }
        self.slots.insert(slot.peer, slot);
        true
    }

    /// The slot of what comes from `from` with this sender index.
    pub(super) fn find(
        &mut self,
        from: SocketAddr,
        sender: u32,
        now: Timestamp,
    ) -> Option<&mut Slot> {
        let peer = self.by_sender.get(&(from, sender))?;
        let slot = self.slots.get_mut(peer)?;
        (now.since(slot.born) < Self::LIFETIME).then_some(slot)
    }

    pub(super) fn remove(&mut self, peer: &PublicKey) {
        if let Some(slot) = self.slots.remove(peer) {
            self.by_sender.remove(&(slot.from, slot.sender));
        }
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        self.slots
            .retain(|_, slot| now.since(slot.born) < Self::LIFETIME);
        let slots = &self.slots;
        self.by_sender.retain(|_, peer| slots.contains_key(peer));
    }

    /// When the oldest slot goes.
    pub(super) fn poll_timeout(&self) -> Timestamp {
        let ends = self.slots.values().map(|slot| slot.born + Self::LIFETIME);
        ends.min().unwrap_or(Timestamp::MAX)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.slots.len(), self.by_sender.len());
        self.slots.len()
    }
}

/// How new an A is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Newer than everything of this peer.
    Fresh,
    /// Of the peer's present life, but not newer than its last one.
    Seen,
    /// Of an earlier life, or of another one with the same counter.
    Stale {
        /// The greatest incarnation counter seen.
        seen: u64,
    },
}

/// The newest A of each peer, as long as the process lives.
///
/// At [`FreshnessTable::CAPACITY`] peers a new one pushes out the one that was recorded first: an
/// old A of that one may then open a slot again, which leads nowhere without its keys.
#[derive(Debug, Default)]
pub(super) struct FreshnessTable {
    newest: BTreeMap<PublicKey, Newest>,
    order: VecDeque<PublicKey>,
}

#[derive(Debug)]
struct Newest {
    incarnation: Incarnation,
    counter: u32,
    /// When this peer was last told that it is stale.
    told: Option<Timestamp>,
}

impl FreshnessTable {
    /// 80 bytes each.
    pub(super) const CAPACITY: usize = 256 * 1024;

    /// Judges an authenticated A and records it if it is fresh.
    pub(super) fn record(
        &mut self,
        peer: PublicKey,
        incarnation: Incarnation,
        counter: u32,
    ) -> Freshness {
        let Some(newest) = self.newest.get_mut(&peer) else {
            self.add(peer, incarnation, counter);
            return Freshness::Fresh;
        };
        let same_life = incarnation == newest.incarnation;
        if incarnation.counter > newest.incarnation.counter
            || (same_life && counter > newest.counter)
        {
            (newest.incarnation, newest.counter) = (incarnation, counter);
            return Freshness::Fresh;
        }
        if same_life {
            return Freshness::Seen;
        }
        let seen = newest.incarnation.counter;
        Freshness::Stale { seen }
    }

    /// Whether `peer` may be told now that it is stale: once a second.
    pub(super) fn may_tell(&mut self, peer: &PublicKey, now: Timestamp) -> bool {
        let Some(newest) = self.newest.get_mut(peer) else {
            return false;
        };
        let may = newest.told.is_none_or(|told| now.since(told) >= TELL_EVERY);
        if may {
            newest.told = Some(now);
        }
        may
    }

    fn add(&mut self, peer: PublicKey, incarnation: Incarnation, counter: u32) {
        if self.order.len() >= Self::CAPACITY
            && let Some(first) = self.order.pop_front()
        {
            self.newest.remove(&first);
        }
        self.order.push_back(peer);
        let newest = Newest {
            incarnation,
            counter,
            told: None,
        };
        self.newest.insert(peer, newest);
    }
}

/// mac1 of the last As that cost us Diffie-Hellman operations: a replay of one is known for the
/// price of a look. The oldest goes first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<[u8; MAC]>,
    known: std::collections::HashSet<[u8; MAC]>,
}

impl Recent {
    /// 40 bytes each.
    const CAPACITY: usize = 16 * 1024;

    pub(super) fn contains(&self, mac1: &[u8; MAC]) -> bool {
        self.known.contains(mac1)
    }

    pub(super) fn add(&mut self, mac1: [u8; MAC]) {
        if self.order.len() >= Self::CAPACITY
            && let Some(first) = self.order.pop_front()
        {
            self.known.remove(&first);
        }
        if self.known.insert(mac1) {
            self.order.push_back(mac1);
        }
    }
}

/// Refusals for staleness are repaired by one answer; more would serve a replayer.
const TELL_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn life(counter: u64, random: u8) -> Incarnation {
        Incarnation {
            counter,
            random: [random; 16],
        }
    }

    #[test]
    fn only_what_is_newer_is_fresh() {
        let mut table = FreshnessTable::default();
        let peer = PublicKey([1; 32]);
        assert_eq!(table.record(peer, life(3, 1), 1), Freshness::Fresh);
        assert_eq!(table.record(peer, life(3, 1), 1), Freshness::Seen);
        assert_eq!(table.record(peer, life(3, 1), 2), Freshness::Fresh);
        assert_eq!(
            table.record(peer, life(2, 9), 9),
            Freshness::Stale { seen: 3 }
        );
        assert_eq!(table.record(peer, life(4, 2), 1), Freshness::Fresh);
        assert_eq!(
            table.record(peer, life(3, 1), 3),
            Freshness::Stale { seen: 4 }
        );
    }

    #[test]
    fn a_clone_with_the_same_counter_is_stale() {
        let mut table = FreshnessTable::default();
        let peer = PublicKey([1; 32]);
        assert_eq!(table.record(peer, life(3, 1), 1), Freshness::Fresh);
        assert_eq!(
            table.record(peer, life(3, 2), 7),
            Freshness::Stale { seen: 3 }
        );
        assert!(table.may_tell(&peer, Timestamp::ZERO));
        assert!(!table.may_tell(&peer, Timestamp::ZERO + TELL_EVERY / 2));
        assert!(table.may_tell(&peer, Timestamp::ZERO + TELL_EVERY));
    }
}
