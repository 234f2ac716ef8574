//! Generations: which nodes shadow a session, their branches, and the roster.
//!
//! ```text
//! review: another set is wanted ── root at hand (handshake)? ──┬─ yes ────────────────┐
//!                                                              └─ no: offer, reply ───┤
//!   install branches at the shadows ── acknowledged or late ── roster to the client ──┘
//!   the client activates the generation ── older branches are erased
//! ```

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{
    NodeId, NodeState, Primary, Ratio, Region, Secret, SessionId, ShadowCandidate, Timestamp,
    choose_shadows,
};

use super::branches::{Branch, BranchKey};
use super::held::Held;
use super::{NodeEvent, NodeMachine, PeerId};
use crate::DropReason;
use crate::handshake::{Established, Incarnation};
use crate::message::{BranchBytes, HolderMessage, MOVE_SLOTS, NodeMessage, RosterEntry};
use crate::record::SessionRecord;
use crate::schedule::{self, BranchContext};
use crate::suite::{Cipher, Profile};

/// The root of a generation that is being made. Erased with this struct.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) generation: u32,
    secret: Secret<32>,
    profile: u8,
    cipher: u8,
    handshake_hash: [u8; 32],
}

/// How far a generation is.
#[derive(Debug)]
pub(super) enum Making {
    /// The client was asked for its part of the root.
    Offered {
        generation: u32,
        primary_random: [u8; 32],
        until: Timestamp,
    },
    /// Branches are on their way to the shadows.
    Installing {
        record: Box<SessionRecord>,
        waiting: BTreeMap<NodeId, (u8, Option<(u32, Incarnation)>)>,
        until: Timestamp,
    },
    /// The client has the roster.
    Rostered {
        record: Box<SessionRecord>,
        shadows: Vec<NodeId>,
        lives: BTreeMap<NodeId, Incarnation>,
        until: Timestamp,
    },
}

impl Root {
    pub(super) fn new(generation: u32, established: Established) -> Self {
        Self {
            generation,
            profile: established.profile.code(),
            cipher: established.cipher.code(),
            handshake_hash: established.handshake_hash,
            secret: established.root,
        }
    }

    fn context(
        &self,
        session: SessionId,
        branch: u8,
        holder: NodeId,
        key: vpnmesh_core::PublicKey,
    ) -> Option<BranchContext> {
        Some(BranchContext {
            session,
            generation: self.generation,
            branch,
            holder,
            holder_key: key,
            profile: Profile::from_code(self.profile)?,
            cipher: Cipher::from_code(self.cipher)?,
            handshake_hash: self.handshake_hash,
        })
    }
}

impl Making {
    pub(super) const fn until(&self) -> Timestamp {
        match self {
            Self::Offered { until, .. }
            | Self::Installing { until, .. }
            | Self::Rostered { until, .. } => *until,
        }
    }
}

impl NodeMachine {
    /// Whether a session has all the shadows that its tier wants, ready at the client.
    pub(super) fn is_covered(&self, held: &Held) -> bool {
        held.rostered && held.shadows.len() >= held.tier_asked.unwrap_or(held.record.tier).shadows()
    }

    pub(super) fn review_all(&mut self, now: Timestamp) {
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.review_soon(session, now);
        }
    }

    /// Looks at the set of shadows again, after what is happening now has settled.
    pub(super) fn review_soon(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        held.review_at = held.review_at.min(now + SOON);
        self.touch_session(session, now);
    }

    /// Starts a generation if another set of shadows is wanted, or fresh secrets are at hand.
    pub(super) fn review_shadows(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get(&session) else {
            return;
        };
        if !held.is_primary() || held.making.is_some() || held.review_at > now {
            return;
        }
        let wanted = self.wanted_shadows(held, now);
        let same = wanted.len() == held.shadows.len()
            && wanted.iter().all(|node| held.shadows.contains(node))
            && !held
                .shadows
                .iter()
                .any(|node| self.lost_branches(held, *node));
        let worn = held.leg.is_worn(); // a generation brings new keys
        let waits = held.fresh_until > now || (held.shift.is_some() && !held.shadows.is_empty());
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        held.review_at = now + REVIEW;
        if held.root.is_some() {
            self.hand_out(session, wanted, now);
        } else if (!same || worn) && !waits {
            self.offer_root(session, now);
        }
    }

    /// Whether a shadow began another life since it took its branch: the branch is gone.
    fn lost_branches(&self, held: &Held, node: NodeId) -> bool {
        let took = held.lives.get(&node);
        let peer = self.peers.get(&PeerId::Node(node));
        took.zip(peer)
            .is_some_and(|(took, peer)| *took != peer.life)
    }

    fn wanted_shadows(&self, held: &Held, now: Timestamp) -> Vec<NodeId> {
        let candidate = |(id, peer): (&PeerId, &super::Peer)| {
            let PeerId::Node(node) = *id else { return None };
            let entry = self.station.membership.node(node)?;
            let rtt_between = peer.leg.as_ref().and_then(|leg| leg.figures().rtt);
            let usable = matches!(entry.state, NodeState::Active | NodeState::Standby);
            let heard = peer
                .leg
                .as_ref()
                .is_some_and(|leg| leg.silent_at().is_none_or(|at| at > now));
            Some(ShadowCandidate {
                node,
                region: entry.region.clone(),
                load: Ratio::saturating(peer.load),
                rtt_to_client: held.paths.get(&node).copied(),
                healthy: usable && heard && rtt_between.is_some() && peer.risk < UNFIT,
            })
        };
        let candidates: Vec<ShadowCandidate> = self.peers.iter().filter_map(candidate).collect();
        let nowhere = Region(String::new());
        let primary = Primary {
            node: self.me,
            region: self
                .station
                .membership
                .node(self.me)
                .map_or(&nowhere, |node| &node.region),
            present: &held.shadows,
        };
        let tier = held.tier_asked.unwrap_or(held.record.tier);
        choose_shadows(&candidates, primary, tier, &self.shadow_policy)
    }

    fn offer_root(&mut self, session: SessionId, now: Timestamp) {
        let primary_random = self.station.random();
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let generation = held.greatest.max(held.record.generation).saturating_add(1);
        held.greatest = generation;
        held.making = Some(Making::Offered {
            generation,
            primary_random,
            until: now + OFFER,
        });
        self.tell_client(
            session,
            &HolderMessage::RootOffer {
                generation,
                primary_random,
            },
            now,
        );
    }

    /// The client's part of the root: only our own branch leads to it, no shadow can follow.
    pub(super) fn handle_root_reply(
        &mut self,
        session: SessionId,
        generation: u32,
        client_random: &[u8; 32],
        now: Timestamp,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let Some(Making::Offered {
            generation: offered,
            primary_random,
            ..
        }) = &held.making
        else {
            return self.station.out.drop_because(DropReason::Stale);
        };
        if *offered != generation {
            return self.station.out.drop_because(DropReason::Stale);
        }
        held.root = Some(Root {
            generation,
            secret: schedule::next_root(&held.branch, client_random, primary_random),
            profile: held.record.profile,
            cipher: held.record.cipher,
            handshake_hash: held.record.handshake_hash,
        });
        held.making = None;
        held.review_at = now;
        self.review_shadows(session, now);
    }

    /// Derives the branches and sends them to their holders; then the root is erased.
    fn hand_out(&mut self, session: SessionId, wanted: Vec<NodeId>, now: Timestamp) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let Some(root) = held.root.take() else { return };
        let before: Vec<NodeId> = held.proofs.iter().map(|(node, _)| *node).collect();
        for node in before {
            self.tell_took(session, node, now); // who missed it would not believe what follows
        }
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let mut record = held.record.clone();
        record.generation = root.generation;
        record.version = record.version.wrapping_add(1);
        record.profile = root.profile;
        record.cipher = root.cipher;
        record.handshake_hash = root.handshake_hash;
        record.tier = held.tier_asked.unwrap_or(record.tier);
        record.holders = std::iter::once(self.me)
            .chain(wanted.iter().copied())
            .collect();
        let mut waiting = BTreeMap::new();
        for (branch, node) in (1u8..).zip(wanted) {
            let key = self.station.membership.node(node).map(|node| node.key);
            let context = key.and_then(|key| root.context(session, branch, node, key));
            let Some(context) = context else { continue };
            let secret = schedule::branch_secret(&root.secret, &context);
            let message = NodeMessage::Install {
                record: Box::new(record.clone()),
                branch,
                secret: BranchBytes(*secret.expose()),
            };
            self.tell_node_peer(PeerId::Node(node), &message, now);
            waiting.insert(node, (branch, None));
        }
        let own = root.context(session, 0, self.me, self.responder.public());
        if let Some(own) = own {
            let secret = schedule::branch_secret(&root.secret, &own);
            let (me, in_use) = (self.me, self.sessions.get(&session).map(Held::key));
            // What the client did not take up is of no use any more.
            let stale = |key: &BranchKey, _: &Branch| key.giver == me && Some(*key) != in_use;
            self.branches.forget(session, stale);
            self.keep_branch(record.clone(), 0, secret, me, now);
        }
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        held.making = Some(Making::Installing {
            record: Box::new(record),
            waiting,
            until: now + INSTALL,
        });
        self.finish_install(session, now);
    }

    /// Keeps a branch that `giver` made for us; its first index.
    pub(super) fn keep_branch(
        &mut self,
        record: SessionRecord,
        number: u8,
        secret: Secret<32>,
        giver: NodeId,
        now: Timestamp,
    ) -> Option<u32> {
        let key = BranchKey {
            session: record.session,
            generation: record.generation,
            giver,
        };
        if let Some(present) = self.branches.get(&key) {
            if present.number == number && present.secret == secret {
                return Some(present.base); // the same one, sent again
            }
            let held = self.sessions.get(&key.session);
            if held.is_some_and(|held| held.key() == key) {
                self.station.out.drop_because(DropReason::Fenced);
                return None; // the one in use stays
            }
            self.branches.remove(&key);
        }
        let nodes = self.station.membership.nodes.len();
        let fits = self.branches.has_room(giver, self.me, nodes)
            && self.branches.make_room(key.session, giver);
        if !fits {
            self.station.out.drop_because(DropReason::QueueFull);
            return None;
        }
        let base = self.fresh_base();
        let branch = Branch {
            record,
            number,
            secret,
            shared: OnceCell::new(),
            base,
            given_in: self.life_of(giver),
            spoken_of: now,
            in_force: false,
            ends: now + self.timers.idle_for,
        };
        self.branches.insert(key, branch);
        Some(base)
    }

    /// The first of as many free indices as a branch has.
    fn fresh_base(&mut self) -> u32 {
        loop {
            let base = super::base_of(self.fresh_index());
            let free = (base..base.saturating_add(MOVE_SLOTS))
                .all(|index| !self.channels.contains_key(&index));
            if base != 0 && free {
                return base;
            }
        }
    }

    /// The present life of a node, as far as we know.
    pub(super) fn life_of(&self, node: NodeId) -> Incarnation {
        let peer = self.peers.get(&PeerId::Node(node));
        peer.map_or_else(Incarnation::default, |peer| peer.life)
    }

    /// A shadow has its branch in memory.
    pub(super) fn handle_installed(
        &mut self,
        node: NodeId,
        (session, generation): (SessionId, u32),
        index: u32,
        (counter, random): (u64, [u8; 16]),
        now: Timestamp,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if let Some(Making::Installing {
            record, waiting, ..
        }) = &mut held.making
            && record.generation == generation
            && let Some((_, installed)) = waiting.get_mut(&node)
        {
            *installed = Some((index, Incarnation { counter, random }));
            self.finish_install(session, now);
        }
    }

    /// Sends the roster once all shadows acknowledged, or those that did in time.
    fn finish_install(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let Some(Making::Installing {
            record,
            waiting,
            until,
        }) = &held.making
        else {
            return;
        };
        if *until > now && waiting.values().any(|(_, installed)| installed.is_none()) {
            return;
        }
        let ready = waiting
            .iter()
            .filter_map(|(node, (branch, installed))| Some((*branch, *node, (*installed)?)));
        let mut ready: Vec<_> = ready.collect();
        ready.sort_unstable_by_key(|(branch, ..)| *branch);
        let mut record = record.clone();
        let own = BranchKey {
            session,
            generation: record.generation,
            giver: self.me,
        };
        let Some(own) = self.branches.get(&own).map(|branch| branch.base) else {
            held.making = None;
            return;
        };
        let mine = (0, self.me, (own, self.station.config.incarnation));
        let entries: Vec<RosterEntry> = std::iter::once(mine)
            .chain(ready.iter().copied())
            .filter_map(|(branch, node, (index, incarnation))| {
                let entry = self.station.membership.node(node)?;
                Some(RosterEntry {
                    branch,
                    node,
                    key: entry.key,
                    address: *entry.addresses.first()?,
                    incarnation: (incarnation.counter, incarnation.random),
                    index,
                })
            })
            .collect();
        let shadows: Vec<NodeId> = ready.iter().map(|(_, node, _)| *node).collect();
        let lives = ready.iter().map(|(_, node, (_, life))| (*node, *life));
        let lives = lives.collect();
        record.holders = std::iter::once(self.me)
            .chain(shadows.iter().copied())
            .collect();
        let generation = record.generation;
        held.making = Some(Making::Rostered {
            record,
            shadows,
            lives,
            until: now + ROSTER,
        });
        self.tell_client(
            session,
            &HolderMessage::Roster {
                generation,
                entries,
            },
            now,
        );
    }

    /// The client has the roster: of the present generation it is in force at once.
    pub(super) fn handle_roster_ack(
        &mut self,
        session: SessionId,
        generation: u32,
        now: Timestamp,
    ) {
        let current = self
            .sessions
            .get(&session)
            .map(|held| held.record.generation);
        if current == Some(generation) {
            self.start_generation(session, generation, now);
        }
    }

    /// The client activated the generation: what belongs to older ones is erased.
    pub(super) fn start_generation(&mut self, session: SessionId, generation: u32, now: Timestamp) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let made = held.making.take_if(|making| match making {
            Making::Rostered { record, .. } => record.generation == generation,
            Making::Offered { .. } | Making::Installing { .. } => false,
        });
        let Some(Making::Rostered {
            record,
            shadows,
            lives,
            ..
        }) = made
        else {
            return;
        };
        let own = BranchKey {
            session,
            generation,
            giver: self.me,
        };
        let Some(branch) = self.branches.get(&own) else {
            return;
        };
        held.giver = self.me;
        held.proofs.clear();
        let before = std::mem::replace(&mut held.shadows, shadows.clone());
        let (number, address) = (held.record.number, held.record.client_address);
        held.lives = lives;
        held.branch = branch.secret.duplicate();
        held.record = *record;
        held.record.number = number;
        held.record.client_address = address;
        held.record.version = held.record.version.wrapping_add(1);
        held.greatest = held.greatest.max(generation);
        held.rostered = true;
        let update = NodeMessage::Update(vec![held.record.clone()]);
        for node in before.into_iter().filter(|node| !shadows.contains(node)) {
            self.tell_node_peer(PeerId::Node(node), &update, now);
        }
        self.branches
            .forget(session, |key, _| key.generation < generation);
        self.dirty.insert(session);
        self.emit(NodeEvent::ShadowsReady {
            session,
            generation,
            shadows,
        });
        self.shift_if_wanted(session, now);
    }

    /// What was asked of the client or of the shadows took too long.
    pub(super) fn tend_making(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let Some(making) = held.making.as_ref().filter(|making| making.until() <= now) else {
            return;
        };
        if matches!(making, Making::Installing { .. }) {
            return self.finish_install(session, now);
        }
        held.making = None;
        held.review_at = now + SOON;
    }
}

/// Several changes in one moment make one generation.
const SOON: Duration = Duration::from_millis(200);
/// The set is looked at anyway this often: loads and latencies change without an event.
const REVIEW: Duration = Duration::from_secs(5);
/// A client that took over after a crash brings fresh secrets; a generation from the old ones is
/// made only if it does not.
pub(super) const AFTER_CRASH: Duration = Duration::from_secs(3);
const OFFER: Duration = Duration::from_secs(2);
const INSTALL: Duration = Duration::from_millis(400);
const ROSTER: Duration = Duration::from_secs(3);
/// A node that will probably fail soon is no shadow.
const UNFIT: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::super::rig::{self, node, record};
    use super::*;
    use crate::channel::packet_limit;

    #[test]
    fn a_session_asks_for_new_keys_in_time_and_ends_without() {
        let (mut node, held) = (node(), record(11, 3, 1, &[1]));
        node.take(&held);
        let limit = packet_limit(Cipher::ChaCha20Poly1305);
        let wear = |node: &mut NodeMachine, sealed| {
            let held = node.sessions.get_mut(&held.session).unwrap();
            held.leg.newest_mut().wear(sealed);
        };
        node.review_shadows(held.session, rig::START);
        assert!(node.sessions[&held.session].making.is_none());
        wear(&mut node, limit / 4 * 3);
        let later = rig::START + REVIEW;
        node.review_shadows(held.session, later);
        let making = &node.sessions[&held.session].making;
        assert!(matches!(
            making,
            Some(Making::Offered { generation: 4, .. })
        ));
        wear(&mut node, limit);
        node.touch_session(held.session, later);
        assert!(node.sessions.is_empty() && node.channels.is_empty());
        assert_eq!(node.dropped(DropReason::KeyExhausted), 1);
    }
}
