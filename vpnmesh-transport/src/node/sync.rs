//! Keeps shadows fresh: changes travel at once, a digest a second finds what was missed.

use std::collections::BTreeSet;
use std::time::Duration;

use subtle::ConstantTimeEq;
use vpnmesh_core::{NodeId, Ratio, Secret, SessionId, Timestamp};

use super::branches::{Branch, BranchKey};
use super::covers::Counted;
use super::held::Held;
use super::sums::Sums;
use super::{NodeEvent, NodeMachine, PeerId};
use crate::DropReason;
use crate::message::NodeMessage;
use crate::record::{BUCKETS, SessionRecord};
use crate::schedule::{self, TookProof};

impl NodeMachine {
    /// What another node said.
    pub(super) fn handle_node_message(
        &mut self,
        from: NodeId,
        message: NodeMessage,
        now: Timestamp,
    ) {
        match message {
            NodeMessage::Install {
                record,
                branch,
                secret,
            } => {
                self.handle_install(from, *record, branch, secret.0, now);
            }
            NodeMessage::Installed {
                session,
                generation,
                index,
                incarnation,
            } => {
                self.handle_installed(from, (session, generation), index, incarnation, now);
            }
            NodeMessage::Update(records) => {
                for record in records {
                    self.handle_update(from, record, now);
                }
            }
            NodeMessage::Ended(sessions) => {
                for session in sessions {
                    self.forget_shadowed(from, session);
                }
            }
            NodeMessage::Digest { count, sum } => self.handle_digest(from, (count, sum), now),
            NodeMessage::Buckets(sums) => self.handle_buckets(from, &sums, now),
            NodeMessage::Have { bucket, sessions } => {
                self.handle_have(from, bucket, &sessions, now)
            }
            NodeMessage::Want(sessions) => self.handle_want(from, &sessions, now),
            NodeMessage::Lost(sessions) => self.handle_lost(from, &sessions, now),
            NodeMessage::Took {
                session,
                generation,
                number,
                proof,
            } => {
                self.handle_took(from, session, (generation, number), &proof);
            }
            NodeMessage::Health {
                load_permille,
                risk_permille,
                accepts,
                losses,
                membership,
            } => {
                let ratio = |permille: u16| Ratio::of(permille.into(), 1000);
                if let Some(peer) = self.peers.get_mut(&PeerId::Node(from)) {
                    peer.load = ratio(load_permille).get();
                    peer.risk = if accepts {
                        ratio(risk_permille).get()
                    } else {
                        1.0
                    };
                    peer.told.note(membership);
                }
                self.send_membership(PeerId::Node(from), now);
                self.emit(NodeEvent::PeerHealth {
                    from,
                    load: ratio(load_permille),
                    risk: ratio(risk_permille),
                    losses: losses
                        .into_iter()
                        .filter(|(node, _)| self.station.membership.node(*node).is_some())
                        .take(MAX_LOSSES)
                        .map(|(node, loss)| (node, ratio(loss)))
                        .collect(),
                });
            }
            NodeMessage::Membership(signed) => {
                self.handle_membership(&signed, now);
            }
        }
    }

    /// We shall shadow a session.
    fn handle_install(
        &mut self,
        from: NodeId,
        record: SessionRecord,
        branch: u8,
        mut secret: [u8; 32],
        now: Timestamp,
    ) {
        let secret = Secret::take(&mut secret);
        let (session, generation) = (record.session, record.generation);
        if branch == 0 || !self.is_genuine(from, &record) {
            return self.station.out.drop_because(DropReason::NotAllowedSource);
        }
        let Some(index) = self.keep_branch(record, branch, secret, from, now) else {
            return;
        };
        let own = self.incarnation();
        let message = NodeMessage::Installed {
            session,
            generation,
            index,
            incarnation: (own.counter, own.random),
        };
        self.tell_node_peer(PeerId::Node(from), &message, now);
    }

    /// Whether a record is one that `from` may send as its session's primary.
    fn is_genuine(&self, from: NodeId, record: &SessionRecord) -> bool {
        let membership = &self.station.membership;
        let client = self.station.clients.find(membership, &record.client_key);
        record.holders.first() == Some(&from)
            && record.is_bounded()
            && record.session.belongs_to(record.client)
            && client.is_some_and(|client| client.id == record.client)
    }

    /// A primary's newer state of a session: obeyed if `from` gave us the branch or took it over
    /// with the client's proof.
    fn handle_update(&mut self, from: NodeId, record: SessionRecord, now: Timestamp) {
        let (session, generation) = (record.session, record.generation);
        if !self.is_genuine(from, &record) {
            return self.station.out.drop_because(DropReason::NotAllowedSource);
        }
        let held = self.sessions.get(&session).filter(|held| held.is_primary());
        if held.is_some_and(|held| held.record.number >= record.number) {
            self.tell_took(session, from, now); // it does not know yet that the session is ours
            return self.station.out.drop_because(DropReason::Fenced);
        }
        let theirs = |(key, branch): &(&BranchKey, &Branch)| {
            key.generation <= generation && branch.speaker() == Some(from)
        };
        let newest = self.branches.of(session).rev().find(theirs);
        let newest = newest.map(|(key, branch)| {
            let same = branch.record.is_same_session(&record);
            (*key, key.generation < generation || same)
        });
        let Some((key, _)) = newest.filter(|(_, fits)| *fits) else {
            if self.branches.of(session).count() > 0 {
                self.station.out.drop_because(DropReason::NotAllowedSource);
            }
            return;
        };
        let ends_here = !record.holders.contains(&self.me);
        self.branches.forget(session, |key, branch| {
            let older = key.generation < generation || (ends_here && key.generation == generation);
            older && branch.speaker() == Some(from)
        });
        let life = self.life_of(from);
        self.branches.change(&key, |branch| {
            branch.in_force = true;
            branch.spoken_of = now;
            if record.number >= branch.record.number {
                branch.record = record;
                branch.given_in = life;
            }
        }); // an older generation was forgotten above, so this is the record's own
    }

    /// A session ended: what its speaker gave is of no use any more.
    fn forget_shadowed(&mut self, from: NodeId, session: SessionId) {
        if !self.sessions.contains_key(&session) {
            self.branches
                .forget(session, |_, branch| branch.speaker() == Some(from));
        }
    }

    /// Another holder was activated: the client's proof makes it the speaker, and if that was after
    /// us, the session is not ours any more.
    fn handle_took(
        &mut self,
        from: NodeId,
        session: SessionId,
        (generation, number): (u32, u32),
        proof: &TookProof,
    ) {
        let proven = |secret: &Secret<32>| {
            let expected = schedule::took_proof(secret, session, (generation, number), from);
            bool::from(expected.ct_eq(proof))
        };
        let branches = self.branches.of(session);
        let branches: Vec<_> = branches
            .filter(|(key, _)| key.generation == generation)
            .map(|(key, branch)| (*key, proven(&branch.secret)))
            .collect();
        if branches.is_empty() {
            return; // nothing of that generation is left here
        }
        let Some((key, _)) = branches.into_iter().find(|(_, proven)| *proven) else {
            return self.station.out.drop_because(DropReason::Forged);
        };
        let life = self.life_of(from);
        self.branches.change(&key, |branch| {
            if branch.record.number < number {
                branch.in_force = true;
                branch.record.number = number;
                branch.set_speaker(from, life);
            }
        });
        let outdated = self.sessions.get(&session).is_some_and(|held| {
            held.record.generation <= generation && held.record.number < number && held.is_primary()
        });
        if outdated {
            self.end_session(session);
        }
    }

    /// Sends changed states to the shadows, many in one message.
    pub(super) fn flush_dirty(&mut self, now: Timestamp) {
        if self.dirty.is_empty() {
            return;
        }
        let mut batches: std::collections::BTreeMap<NodeId, Vec<SessionRecord>> =
            std::collections::BTreeMap::new();
        for session in std::mem::take(&mut self.dirty) {
            self.recount(session);
            let Some(held) = self.sessions.get(&session) else {
                continue;
            };
            for node in &held.shadows {
                batches.entry(*node).or_default().push(held.record.clone());
            }
        }
        for (node, records) in batches {
            for batch in records.chunks(BATCH) {
                self.tell_node_peer(
                    PeerId::Node(node),
                    &NodeMessage::Update(batch.to_vec()),
                    now,
                );
            }
        }
    }

    /// The session changed: so do the sums of its shadows.
    pub(super) fn recount(&mut self, session: SessionId) {
        if let Some(held) = self.sessions.get_mut(&session) {
            let counted = Counted::of(held);
            self.covers.change(held, counted);
        }
    }

    /// One digest for each node, over all sessions that it keeps for us. None is a digest too: it
    /// ends what a shadow has kept too long.
    pub(super) fn send_digests(&mut self, now: Timestamp) {
        #[cfg(debug_assertions)]
        for (session, held) in &self.sessions {
            let counted = held.counted == Counted::of(held) || self.dirty.contains(session);
            debug_assert!(counted, "whoever changes {session} counts it again");
        }
        let nodes = self.peers.keys().filter_map(|id| match id {
            PeerId::Node(node) => Some((*id, self.covers.sums(*node).map_or((0, 0), Sums::whole))),
            PeerId::Site(_) => None,
        });
        let digests: Vec<(PeerId, (u32, u64))> = nodes.collect();
        for (id, (count, sum)) in digests {
            self.tell_node_peer(id, &NodeMessage::Digest { count, sum }, now);
        }
    }

    /// Forgets branches that no primary has spoken of for as long as a session may be idle.
    pub(super) fn forget_orphans(&mut self, now: Timestamp) {
        for key in self.branches.poll_orphans(self.timers.idle_for, now) {
            let held = self.sessions.get(&key.session);
            if held.is_none_or(|held| held.key() != key) {
                self.branches.remove(&key);
            }
        }
    }

    /// Compares a primary's digest with what it gave or confirmed in its present life. What it gave
    /// before waits for the client to take over.
    fn handle_digest(&mut self, from: NodeId, theirs: (u32, u64), now: Timestamp) {
        let life = self.life_of(from);
        #[cfg(debug_assertions)]
        {
            let (kept, counted) = self.branches.audit(from, life);
            debug_assert_eq!(kept, counted, "sums follow their branches");
        }
        let sums = self.branches.sums(from, life);
        let Some(peer) = self.peers.get_mut(&PeerId::Node(from)) else {
            return;
        };
        if sums.map_or((0, 0), Sums::whole) == theirs {
            peer.fresh_at = Some(now);
            return self.branches.note_match(from, life, now);
        }
        peer.fresh_at = peer.fresh_at.or(Some(now));
        let buckets = sums.map_or_else(|| vec![0; BUCKETS], |sums| sums.buckets().to_vec());
        self.tell_node_peer(PeerId::Node(from), &NodeMessage::Buckets(buckets), now);
    }

    fn handle_buckets(&mut self, from: NodeId, sums: &[u64], now: Timestamp) {
        if sums.len() != BUCKETS {
            return self.station.out.drop_because(DropReason::Malformed);
        }
        let own = self.covers.sums(from).map(Sums::buckets);
        let own_of = |bucket: usize| own.map_or(0, |own| own[bucket]);
        let mismatching = (0..BUCKETS).filter(|bucket| own_of(*bucket) != sums[*bucket]);
        let lists: Vec<_> = mismatching
            .take(BUCKETS_AT_ONCE)
            .map(|bucket| {
                let sessions = self.covers.bucket(from, bucket);
                let records = sessions.filter_map(|session| self.sessions.get(&session));
                let state = |held: &Held| {
                    let record = &held.record;
                    (record.session, record.generation, record.version)
                };
                (bucket, records.map(state).collect())
            })
            .collect();
        for (bucket, sessions) in lists {
            let bucket = u8::try_from(bucket).unwrap_or(u8::MAX);
            let message = NodeMessage::Have { bucket, sessions };
            self.tell_node_peer(PeerId::Node(from), &message, now);
        }
    }

    fn handle_have(
        &mut self,
        from: NodeId,
        bucket: u8,
        theirs: &[(SessionId, u32, u64)],
        now: Timestamp,
    ) {
        let life = self.life_of(from);
        let ours = self.branches.bucket(from, life, bucket.into());
        let ours: BTreeSet<(SessionId, u32, u64)> = ours.collect();
        let listed: BTreeSet<SessionId> = theirs.iter().map(|their| their.0).collect();
        for (session, ..) in ours.iter().filter(|our| !listed.contains(&our.0)) {
            self.forget_shadowed(from, *session);
        }
        let (mut wanted, mut lost) = (Vec::new(), Vec::new());
        for (session, generation, _) in theirs.iter().filter(|their| !ours.contains(their)) {
            let branches = self.branches.of(*session).filter(|(key, branch)| {
                key.generation == *generation
                    && (key.giver == from || branch.speaker() == Some(from))
            });
            match branches.map(|(_, branch)| branch.speaker()).max() {
                Some(speaker) if speaker == Some(from) => wanted.push(*session),
                Some(_) => self.tell_took(*session, from, now),
                None => lost.push(*session),
            }
        }
        if !wanted.is_empty() {
            self.tell_node_peer(PeerId::Node(from), &NodeMessage::Want(wanted), now);
        }
        if !lost.is_empty() {
            self.tell_node_peer(PeerId::Node(from), &NodeMessage::Lost(lost), now);
        }
    }

    /// A shadow has no branch. Branches were erased once they were handed out (rule S1), so the
    /// session starts a generation.
    fn handle_lost(&mut self, from: NodeId, sessions: &[SessionId], now: Timestamp) {
        for session in sessions {
            if let Some(held) = self.sessions.get_mut(session)
                && held.is_primary()
                && held.shadows.contains(&from)
            {
                held.lives.insert(from, crate::Incarnation::default());
                self.review_soon(*session, now);
            }
        }
    }

    /// A shadow lacks the newest state of sessions: it is sent again.
    fn handle_want(&mut self, from: NodeId, sessions: &[SessionId], now: Timestamp) {
        let mut records = Vec::new();
        for session in sessions {
            if let Some(held) = self.sessions.get(session)
                && held.is_primary()
                && held.shadows.contains(&from)
            {
                records.push(held.record.clone());
                self.tell_took(*session, from, now); // what it lacks may be just that
            }
        }
        for batch in records.chunks(BATCH) {
            self.tell_node_peer(
                PeerId::Node(from),
                &NodeMessage::Update(batch.to_vec()),
                now,
            );
        }
    }

    /// How long ago the worst of our primaries' digests matched.
    pub(super) fn staleness(&self, now: Timestamp) -> Duration {
        let primaries = self.peers.iter().filter_map(|(id, peer)| match id {
            PeerId::Node(node) if self.branches.sums(*node, peer.life).is_some() => peer.fresh_at,
            PeerId::Node(_) | PeerId::Site(_) => None,
        });
        primaries.map(|at| now.since(at)).max().unwrap_or_default()
    }

    /// Tells the other nodes how we are and how we find them.
    pub(super) fn send_health(&mut self, now: Timestamp) {
        let nodes: Vec<PeerId> = self
            .peers
            .keys()
            .filter(|id| matches!(id, PeerId::Node(_)))
            .copied()
            .collect();
        let message = self.own_health();
        for id in nodes {
            self.tell_node_peer(id, &message, now);
        }
    }

    /// Tells one node.
    pub(super) fn send_health_to(&mut self, id: PeerId, now: Timestamp) {
        let message = self.own_health();
        self.tell_node_peer(id, &message, now);
    }

    fn own_health(&self) -> NodeMessage {
        let permille = |share: f64| (share * 1000.0).round() as u16;
        let loss = |(id, peer): (&PeerId, &super::Peer)| match id {
            PeerId::Node(node) => Some((*node, permille(peer.leg.as_ref()?.figures().loss))),
            PeerId::Site(_) => None,
        };
        NodeMessage::Health {
            load_permille: permille(self.health.load.get()),
            risk_permille: permille(self.health.risk.get()),
            accepts: matches!(
                self.own_state(),
                vpnmesh_core::NodeState::Active | vpnmesh_core::NodeState::Standby
            ),
            losses: self.peers.iter().filter_map(loss).collect(),
            membership: self.station.version(),
        }
    }
}

/// Records in one message: about 60 kB.
const BATCH: usize = 200;
/// Catch-up is paced: the next digest, a second later, shows what is still missing.
const BUCKETS_AT_ONCE: usize = 32;
/// One for each node of a large mesh.
const MAX_LOSSES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::super::rig::{self, key, node, record};
    use super::*;

    #[test]
    fn a_stranger_cannot_end_what_another_node_gave() {
        let (mut node, given) = (node(), record(11, 3, 1, &[2, 1, 3]));
        node.be_given(2, &given);
        for generation in [3, 4, 1000] {
            node.be_told(4, &record(11, generation, 9, &[4, 5]));
            node.be_told(3, &record(11, generation, 9, &[3, 2]));
        }
        node.handle_node_message(
            NodeId(3),
            NodeMessage::Ended(vec![given.session]),
            rig::START,
        );
        assert_eq!(node.branches.get(&key(&given)).unwrap().record, given);
        assert_eq!(node.dropped(DropReason::NotAllowedSource), 6);
    }

    #[test]
    fn a_stranger_s_branch_gives_it_no_word_about_others() {
        let (mut node, given) = (node(), record(11, 3, 1, &[2, 1, 3]));
        node.be_given(2, &given);
        let stranger = record(11, 1000, 9, &[4, 1]);
        node.be_given(4, &stranger);
        node.be_given(4, &record(11, 3, 1, &[4, 1])); // the same generation
        node.be_told(4, &stranger);
        let branch = node.branches.get(&key(&given)).unwrap();
        assert_eq!(branch.secret, Secret::take(&mut rig::secret(3, 2)));
    }

    #[test]
    fn the_giver_s_next_generation_ends_the_one_before() {
        let (mut node, before) = (node(), record(11, 3, 1, &[2, 1, 3]));
        let after = record(11, 4, 2, &[2, 1, 3]);
        node.be_given(2, &before);
        node.be_given(2, &after);
        node.be_told(2, &after);
        assert!(node.branches.get(&key(&before)).is_none());
        assert!(node.branches.get(&key(&after)).unwrap().in_force);
        node.be_told(2, &record(11, 5, 3, &[2, 4]));
        assert_eq!(node.branches.len(), 0);
    }

    #[test]
    fn only_the_client_makes_another_node_the_speaker() {
        let (mut node, given) = (node(), record(11, 3, 1, &[2, 1, 3]));
        node.be_given(2, &given);
        let taken = record(11, 3, 2, &[3, 2, 1]);
        node.hear_took(3, &taken, [0; 16]);
        let secret = Secret::take(&mut rig::secret(3, 2));
        let of_another = schedule::took_proof(&secret, taken.session, (3, 2), NodeId(4));
        node.hear_took(3, &taken, of_another);
        let speaker = |node: &NodeMachine| node.branches.get(&key(&given)).unwrap().speaker();
        assert_eq!(speaker(&node), Some(NodeId(2)));
        assert_eq!(node.dropped(DropReason::Forged), 2);
        let proof = schedule::took_proof(&secret, taken.session, (3, 2), NodeId(3));
        node.hear_took(3, &taken, proof);
        assert_eq!(speaker(&node), Some(NodeId(3)));
        node.be_told(2, &record(11, 4, 9, &[2, 4]));
        assert_eq!(
            node.branches.len(),
            1,
            "the holder before has no word any more"
        );
        node.be_told(3, &record(11, 4, 9, &[3, 4]));
        assert_eq!(node.branches.len(), 0);
    }

    #[test]
    fn a_shadow_cannot_take_a_session_from_its_primary_without_the_client() {
        let (mut node, held) = (node(), record(11, 3, 1, &[1, 2, 3]));
        node.take(&held);
        node.hear_took(2, &record(11, 3, 2, &[2, 1, 3]), [0; 16]);
        assert!(node.sessions.contains_key(&held.session));
    }

    #[test]
    fn a_session_is_taken_and_shadowed_for_its_own_client_only() {
        let mut node = node();
        let mut foreign = record(11, 3, 1, &[2, 1, 3]);
        foreign.session = rig::session(12);
        node.be_given(2, &foreign);
        assert_eq!(node.branches.len(), 0);
        assert_eq!(node.dropped(DropReason::NotAllowedSource), 1);
    }
}
