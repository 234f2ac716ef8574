//! Echo probes: how far away a node is, before there is any session with it.
//!
//! ```text
//! | 0x20 request, 0x21 reply | reserved 3 | token 8 | mac 16 |                    = 28 bytes
//! ```
//!
//! The MAC is keyed with the node's static public key, so only who knows the membership gets a
//! reply; a reply is never longer than its request. What a probe says is a hint for ranking, and
//! nothing else rests on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use vpnmesh_core::{Membership, NodeId, NodeState, PublicKey, Timestamp};

use crate::DropReason;
use crate::outbox::Outbox;

/// Probes the nodes of the membership from a client.
#[derive(Debug)]
pub struct Prober {
    every: Duration,
    next_round: Timestamp,
    targets: BTreeMap<NodeId, Target>,
}

#[derive(Debug)]
struct Target {
    key: PublicKey,
    address: SocketAddr,
    rtt: Option<Duration>,
    heard: Option<Timestamp>,
    asked: Option<Timestamp>,
}

/// Whether a datagram is a probe or its reply.
#[must_use]
pub fn is_probe(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(&(REQUEST | REPLY)))
}

/// Answers a request for the node of that key.
///
/// # Errors
/// Why it is dropped.
pub fn answer(key: &PublicKey, datagram: &[u8]) -> Result<[u8; PROBE], DropReason> {
    let token = open(REQUEST, key, datagram)?;
    Ok(seal(REPLY, key, token))
}

impl Prober {
    /// Probes each node once every `every`.
    #[must_use]
    pub const fn new(every: Duration, now: Timestamp) -> Self {
        Self {
            every,
            next_round: now,
            targets: BTreeMap::new(),
        }
    }

    /// Follows the membership: what was measured of nodes that stay is kept.
    pub fn follow(&mut self, membership: &Membership) {
        let wanted = membership
            .nodes
            .iter()
            .filter(|node| node.state != NodeState::Removed);
        let mut targets = BTreeMap::new();
        for node in wanted {
            let Some(address) = node.addresses.first() else {
                continue;
            };
            let known = self.targets.remove(&node.id);
            let known = known.filter(|target| target.key == node.key && target.address == *address);
            targets.insert(
                node.id,
                known.unwrap_or(Target {
                    key: node.key,
                    address: *address,
                    rtt: None,
                    heard: None,
                    asked: None,
                }),
            );
        }
        self.targets = targets;
    }

    /// Probes at this period from now on, at once if it became shorter.
    pub fn set_every(&mut self, every: Duration, now: Timestamp) {
        if every < self.every {
            self.next_round = self.next_round.min(now);
        }
        self.every = every;
    }

    /// Sends the probes that are due.
    pub fn flush(&mut self, out: &mut Outbox, now: Timestamp) {
        if now < self.next_round {
            return;
        }
        self.next_round = now + self.every;
        for target in self.targets.values_mut() {
            target.asked = Some(now);
            out.send(target.address, seal(REQUEST, &target.key, now.0).to_vec());
        }
    }

    /// A reply arrived; the node that sent it.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn handle_reply(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Timestamp,
    ) -> Result<NodeId, DropReason> {
        let found = self
            .targets
            .iter_mut()
            .find(|(_, target)| target.address == from);
        let (id, target) = found.ok_or(DropReason::UnknownPeer)?;
        let token = open(REPLY, &target.key, datagram)?;
        if target.asked != Some(Timestamp(token)) {
            return Err(DropReason::Stale);
        }
        let sample = now.since(Timestamp(token));
        target.rtt = Some(target.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        target.heard = Some(now);
        Ok(*id)
    }

    /// The round-trip time to a node that answered lately.
    #[must_use]
    pub fn rtt(&self, node: NodeId, now: Timestamp) -> Option<Duration> {
        let target = self.targets.get(&node)?;
        let fresh = target
            .heard
            .is_some_and(|at| now.since(at) < self.every * 3);
        target.rtt.filter(|_| fresh)
    }

    /// All nodes that answered lately, with their round-trip times.
    pub fn rtts(&self, now: Timestamp) -> impl Iterator<Item = (NodeId, Duration)> + '_ {
        self.targets
            .keys()
            .filter_map(move |id| Some((*id, self.rtt(*id, now)?)))
    }

    /// When the next round is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> Timestamp {
        self.next_round
    }
}

fn seal(kind: u8, key: &PublicKey, token: u64) -> [u8; PROBE] {
    let mut bytes = [0; PROBE];
    bytes[0] = kind;
    bytes[4..12].copy_from_slice(&token.to_le_bytes());
    let tag = mac(key, &bytes[..12]).finalize().into_bytes();
    bytes[12..].copy_from_slice(&tag);
    bytes
}

fn open(kind: u8, key: &PublicKey, datagram: &[u8]) -> Result<u64, DropReason> {
    let bytes: &[u8; PROBE] = datagram.try_into().map_err(|_| DropReason::Malformed)?;
    if bytes[..4] != [kind, 0, 0, 0] {
        return Err(DropReason::Malformed);
    }
    mac(key, &bytes[..12])
        .verify_slice(&bytes[12..])
        .map_err(|_| DropReason::Forged)?;
    let mut token = [0; 8];
    token.copy_from_slice(&bytes[4..12]);
    Ok(u64::from_le_bytes(token))
}

fn mac(key: &PublicKey, text: &[u8]) -> Blake2sMac<U16> {
    let mut mac =
        Blake2sMac::<U16>::new_from_slice(&key.0).expect("BLAKE2s takes keys of 32 bytes");
    Mac::update(&mut mac, LABEL);
    Mac::update(&mut mac, text);
    mac
}

const LABEL: &[u8] = b"vpnmesh v1 probe";
const REQUEST: u8 = 0x20;
const REPLY: u8 = 0x21;
/// Length of a probe.
pub const PROBE: usize = 28;

#[cfg(test)]
mod tests {
    use vpnmesh_core::{NodeEntry, Region};

    use super::*;

    fn membership() -> Membership {
        let node = NodeEntry {
            id: NodeId(1),
            name: "n1".to_owned(),
            region: Region("eu".to_owned()),
            key: PublicKey([7; 32]),
            addresses: vec!["192.0.2.1:51820".parse().unwrap()],
            state: NodeState::Active,
        };
        Membership {
            nodes: vec![node],
            ..Membership::default()
        }
    }

    #[test]
    fn a_reply_measures_the_path_and_a_stale_one_does_not() {
        let (mut prober, mut out) = (
            Prober::new(Duration::from_secs(1), Timestamp::ZERO),
            Outbox::default(),
        );
        prober.follow(&membership());
        prober.flush(&mut out, Timestamp(5));
        let sent = out.poll_transmit().unwrap();
        let reply = answer(&PublicKey([7; 32]), &sent.payload).unwrap();
        let later = Timestamp(5) + Duration::from_millis(20);
        assert_eq!(prober.handle_reply(sent.to, &reply, later), Ok(NodeId(1)));
        assert_eq!(
            prober.rtt(NodeId(1), later),
            Some(Duration::from_millis(20))
        );
        assert_eq!(prober.rtt(NodeId(1), later + Duration::from_secs(4)), None);
        prober.flush(&mut out, later + Duration::from_secs(1));
        assert_eq!(
            prober.handle_reply(sent.to, &reply, later),
            Err(DropReason::Stale)
        );
        assert_eq!(
            answer(&PublicKey([8; 32]), &sent.payload),
            Err(DropReason::Forged)
        );
    }
}
