//! Keeps shadows fresh: changes travel at once, a digest a second finds what was missed.

use std::time::Duration;

use vpnmesh_core::{NodeId, Ratio, Secret, SessionId, Timestamp};

use super::{NodeEvent, NodeMachine, PeerId};
use crate::DropReason;
use crate::message::NodeMessage;
use crate::record::{BUCKETS, SessionRecord, bucket_of, digest_of};

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
            } => {
                self.handle_took(from, session, generation, number);
            }
            NodeMessage::Health {
                load_permille,
                risk_permille,
                accepts,
                losses,
            } => {
                let ratio = |permille: u16| Ratio::of(permille.into(), 1000);
                if let Some(peer) = self.peers.get_mut(&PeerId::Node(from)) {
                    peer.load = ratio(load_permille).get();
                    peer.risk = if accepts {
                        ratio(risk_permille).get()
                    } else {
                        1.0
                    };
                }
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
            NodeMessage::Membership(signed) => self.handle_membership(&signed, now),
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
        let client = self.station.membership.client_by_key(&record.client_key);
        let genuine = client.is_some_and(|client| client.id == record.client);
        if record.holders.first() != Some(&from) || branch == 0 || !genuine {
            return self.station.out.drop_because(DropReason::NotAllowedSource);
        }
        let Some(index) = self.keep_branch(record, branch, secret, now) else {
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

    /// A primary's newer state of a session.
    fn handle_update(&mut self, from: NodeId, record: SessionRecord, now: Timestamp) {
        let (session, generation) = (record.session, record.generation);
        if record.holders.first() != Some(&from) {
            return self.station.out.drop_because(DropReason::NotAllowedSource);
        }
        let changed = self
            .branches
            .get(&(session, generation))
            .is_some_and(|branch| {
                let (old, new) = (&branch.record, &record);
                (
                    old.client,
                    old.client_key,
                    old.client_incarnation,
                    old.cipher,
                ) != (
                    new.client,
                    new.client_key,
                    new.client_incarnation,
                    new.cipher,
                )
            });
        if changed {
            return self.station.out.drop_because(DropReason::NotAllowedSource);
        }
        let known = self
            .branches
            .range((session, 0)..=(session, u32::MAX))
            .next_back();
        if known.is_some_and(|((_, newest), branch)| *newest > generation && branch.number == 0) {
            return self.station.out.drop_because(DropReason::Fenced); // ours is newer
        }
        self.forget_branches(session, generation);
        let given_in = self.life_of(from);
        if let Some(branch) = self.branches.get_mut(&(session, generation)) {
            branch.in_force = true;
            branch.spoken_of = now;
            if !record.holders.contains(&self.me) {
                self.forget_branches(session, generation.saturating_add(1));
            } else if record.number >= branch.record.number {
                branch.record = record;
                branch.given_in = given_in;
            }
        }
    }

    /// Whether a node is a holder of a session that we have a branch of: others say nothing about it.
    fn speaks_for(&self, from: NodeId, session: SessionId) -> bool {
        let mut known = self.branches.range((session, 0)..=(session, u32::MAX));
        known.any(|(_, branch)| branch.record.holders.contains(&from))
    }

    fn forget_shadowed(&mut self, from: NodeId, session: SessionId) {
        let branches = self.branches.range((session, 0)..=(session, u32::MAX));
        let theirs = branches
            .last()
            .is_some_and(|(_, branch)| branch.record.holders.first() == Some(&from));
        if theirs && !self.sessions.contains_key(&session) {
            self.forget_branches(session, u32::MAX);
        }
    }

    /// Another holder was activated: if that was after us, the session is not ours any more.
    fn handle_took(&mut self, from: NodeId, session: SessionId, generation: u32, number: u32) {
        if !self.speaks_for(from, session) {
            return self.station.out.drop_because(DropReason::NotAllowedSource);
        }
        if let Some(branch) = self.branches.get_mut(&(session, generation))
            && (branch.record.number..branch.record.number.saturating_add(MAX_AHEAD))
                .contains(&number)
            && branch.record.number != number
        {
            branch.in_force = true;
            branch.record.number = number;
            branch.record.holders.retain(|node| *node != from);
            branch.record.holders.insert(0, from);
        }
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

    /// One digest for each node, over all sessions that it keeps for us. None is a digest too: it
    /// ends what a shadow has kept too long.
    pub(super) fn send_digests(&mut self, now: Timestamp) {
        let nodes = self.peers.keys().filter_map(|id| match id {
            PeerId::Node(node) => Some((*node, (0, 0))),
            PeerId::Site(_) => None,
        });
        let mut digests: std::collections::BTreeMap<NodeId, (u32, u64)> = nodes.collect();
        for held in self
            .sessions
            .values()
            .filter(|held| held.is_primary() && held.rostered)
        {
            for node in &held.shadows {
                if let Some((count, sum)) = digests.get_mut(node) {
                    *count += 1;
                    *sum = sum.wrapping_add(held.record.digest());
                }
            }
        }
        for (node, (count, sum)) in digests {
            self.tell_node_peer(PeerId::Node(node), &NodeMessage::Digest { count, sum }, now);
        }
    }

    /// Branches in force that a primary gave us in its present life. What it gave before waits for
    /// the client to take over.
    fn shadowed_for(&self, primary: NodeId) -> impl Iterator<Item = &SessionRecord> {
        let life = self.life_of(primary);
        let theirs = self.branches.values().filter(move |branch| {
            branch.in_force
                && branch.record.holders.first() == Some(&primary)
                && branch.given_in == life
        });
        theirs.map(|branch| &branch.record)
    }

    /// Forgets branches that no primary has spoken of for as long as a session may be idle.
    pub(super) fn forget_orphans(&mut self, now: Timestamp) {
        let old = self
            .branches
            .iter()
            .filter(|((session, generation), branch)| {
                let held = self.sessions.get(session);
                now.since(branch.spoken_of) >= self.timers.idle_for
                    && held.is_none_or(|held| held.record.generation != *generation)
            });
        let old: Vec<_> = old.map(|(key, branch)| (*key, branch.base)).collect();
        for (key, base) in old {
            self.branches.remove(&key);
            self.bases.remove(&base);
        }
    }

    fn handle_digest(&mut self, from: NodeId, theirs: (u32, u64), now: Timestamp) {
        let mut ours = (0u32, 0u64);
        for record in self.shadowed_for(from) {
            ours = (ours.0 + 1, ours.1.wrapping_add(record.digest()));
        }
        let life = self.life_of(from);
        let Some(peer) = self.peers.get_mut(&PeerId::Node(from)) else {
            return;
        };
        if ours == theirs {
            peer.fresh_at = Some(now);
            let branches = self.branches.values_mut();
            branches
                .filter(|branch| {
                    branch.record.holders.first() == Some(&from) && branch.given_in == life
                })
                .for_each(|branch| branch.spoken_of = now);
            return;
        }
        peer.fresh_at = peer.fresh_at.or(Some(now));
        let mut sums = vec![0u64; BUCKETS];
        for record in self.shadowed_for(from) {
            let sum = &mut sums[bucket_of(record.session)];
            *sum = sum.wrapping_add(record.digest());
        }
        self.tell_node_peer(PeerId::Node(from), &NodeMessage::Buckets(sums), now);
    }

    fn handle_buckets(&mut self, from: NodeId, sums: &[u64], now: Timestamp) {
        if sums.len() != BUCKETS {
            return self.station.out.drop_because(DropReason::Malformed);
        }
        let mut own = vec![(0u64, Vec::new()); BUCKETS];
        for held in self
            .sessions
            .values()
            .filter(|held| held.shadows.contains(&from) && held.rostered)
        {
            let record = &held.record;
            let (sum, list) = &mut own[bucket_of(record.session)];
            *sum = sum.wrapping_add(digest_of(record.session, record.generation, record.version));
            list.push((record.session, record.generation, record.version));
        }
        let mismatching = own
            .into_iter()
            .enumerate()
            .filter(|(bucket, (sum, _))| sums[*bucket] != *sum);
        for (bucket, (_, sessions)) in mismatching.take(BUCKETS_AT_ONCE) {
            let bucket = u8::try_from(bucket).unwrap_or(u8::MAX);
            self.tell_node_peer(
                PeerId::Node(from),
                &NodeMessage::Have { bucket, sessions },
                now,
            );
        }
    }

    fn handle_have(
        &mut self,
        from: NodeId,
        bucket: u8,
        theirs: &[(SessionId, u32, u64)],
        now: Timestamp,
    ) {
        let ours: Vec<(SessionId, u32, u64)> = self
            .shadowed_for(from)
            .filter(|record| bucket_of(record.session) == usize::from(bucket))
            .map(|record| (record.session, record.generation, record.version))
            .collect();
        for (session, ..) in ours
            .iter()
            .filter(|our| !theirs.iter().any(|their| their.0 == our.0))
        {
            self.forget_shadowed(from, *session);
        }
        let missing = theirs.iter().filter(|their| !ours.contains(their));
        let (wanted, lost): (Vec<_>, Vec<_>) =
            missing.partition(|their| self.branches.contains_key(&(their.0, their.1)));
        let ids = |list: Vec<&(SessionId, u32, u64)>| list.iter().map(|their| their.0).collect();
        if !wanted.is_empty() {
            self.tell_node_peer(PeerId::Node(from), &NodeMessage::Want(ids(wanted)), now);
        }
        if !lost.is_empty() {
            self.tell_node_peer(PeerId::Node(from), &NodeMessage::Lost(ids(lost)), now);
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
            if let Some(held) = self.sessions.get_mut(session)
                && held.is_primary()
                && held.shadows.contains(&from)
            {
                records.push(held.record.clone());
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
            PeerId::Node(node) if self.shadowed_for(*node).next().is_some() => peer.fresh_at,
            PeerId::Node(_) | PeerId::Site(_) => None,
        });
        primaries.map(|at| now.since(at)).max().unwrap_or_default()
    }

    /// Tells the other nodes how we are and how we find them.
    pub(super) fn send_health(&mut self, now: Timestamp) {
        let permille = |share: f64| (share * 1000.0).round() as u16;
        let loss = |(id, peer): (&PeerId, &super::Peer)| match id {
            PeerId::Node(node) => Some((*node, permille(peer.leg.as_ref()?.figures().loss))),
            PeerId::Site(_) => None,
        };
        let message = NodeMessage::Health {
            load_permille: permille(self.health.load.get()),
            risk_permille: permille(self.health.risk.get()),
            accepts: matches!(
                self.own_state(),
                vpnmesh_core::NodeState::Active | vpnmesh_core::NodeState::Standby
            ),
            losses: self.peers.iter().filter_map(loss).collect(),
        };
        let nodes: Vec<PeerId> = self
            .peers
            .keys()
            .filter(|id| matches!(id, PeerId::Node(_)))
            .copied()
            .collect();
        for id in nodes {
            self.tell_node_peer(id, &message, now);
        }
    }
}

/// Records in one message: about 60 kB.
const BATCH: usize = 200;
/// Catch-up is paced: the next digest, a second later, shows what is still missing.
const BUCKETS_AT_ONCE: usize = 32;
/// A holder may have missed some moves. A greater step would use the numbers up.
const MAX_AHEAD: u32 = 1 << 16;
/// One for each node of a large mesh.
const MAX_LOSSES: usize = 1024;
