//! What a responder remembers: one running handshake per peer, and how new each peer is.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use vpnmesh_core::{PublicKey, Timestamp};

use super::chunk::Chunks;
use super::exchange::Exchange;
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
    pub(super) exchange: Exchange,
    pub(super) cipher: Cipher,
    pub(super) incarnation: Incarnation,
    pub(super) options: Vec<u8>,
    /// `None` without ML-KEM: A is all there is.
    pub(super) chunks: Option<Chunks>,
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
    /// Not later than the end of the oldest slot; `None` without slots.
    next_end: Option<Timestamp>,
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
        let end = slot.born + Self::LIFETIME;
        self.next_end = Some(self.next_end.map_or(end, |next| next.min(end)));
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
        self.next_end = slots.values().map(|slot| slot.born + Self::LIFETIME).min();
    }

    /// When the oldest slot goes, or earlier.
    pub(super) fn poll_timeout(&self) -> Timestamp {
        self.next_end.unwrap_or(Timestamp::MAX)
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

    fn slot(peer: u64, sender: u32, born: Timestamp) -> Slot {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&peer.to_le_bytes());
        Slot {
            peer: PublicKey(key),
            from: "192.0.2.1:1".parse().unwrap(),
            sender,
            mac1: [0; MAC],
            back: MacKey::towards(&PublicKey(key)),
            profile: Profile::Standard,
            exchange: Exchange::Hybrid,
            cipher: Cipher::Aes256Gcm,
            incarnation: life(1, 1),
            options: Vec::new(),
            chunks: Some(Chunks::new(Profile::Standard, [0; 32])),
            noise: None,
            answer: None,
            received: 100,
            sent: 0,
            born,
        }
    }

    #[test]
    fn a_peer_has_one_slot_and_a_place_has_one_slot() {
        let mut table = SlotTable::default();
        let (now, from) = (Timestamp::ZERO, "192.0.2.1:1".parse().unwrap());
        assert!(table.insert(slot(1, 10, now), now));
        assert!(table.insert(slot(1, 11, now), now));
        assert!(table.find(from, 10, now).is_none());
        assert!(table.insert(slot(2, 11, now), now));
        assert_eq!(table.len(), 1);
        assert_eq!(
            table.find(from, 11, now).unwrap().peer,
            slot(2, 0, now).peer
        );
        table.expire(now + SlotTable::LIFETIME);
        assert_eq!((table.len(), table.poll_timeout()), (0, Timestamp::MAX));
    }

    #[test]
    fn a_full_table_takes_a_new_slot_once_old_ones_are_over() {
        let mut table = SlotTable::default();
        let now = Timestamp::ZERO;
        for number in 0..SlotTable::CAPACITY as u32 {
            assert!(table.insert(slot(number.into(), number, now), now));
        }
        let later = now + SlotTable::LIFETIME;
        assert!(!table.insert(slot(1 << 40, 1 << 30, now), now));
        assert_eq!(table.len(), SlotTable::CAPACITY);
        assert!(table.insert(slot(1 << 40, 1 << 30, later), later));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn an_address_gets_no_more_bytes_than_it_sent() {
        let mut slot = slot(1, 1, Timestamp::ZERO);
        assert!(slot.may_send(&[vec![0; 60]]));
        assert!(!slot.may_send(&[vec![0; 20], vec![0; 21]]));
        assert!(slot.may_send(&[vec![0; 20], vec![0; 20]]));
    }

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
