//! The node: holds sessions, shadows those of others, forwards between clients and sites.
//!
//! A [`NodeMachine`] decides nothing about when to move: it does what its owner, its peers and its
//! clients may ask. `peers` keeps the legs to nodes and sites, `attach` takes sessions by handshake,
//! `activate` by an activation, `shadows` hands branches out and keeps rosters, `sync` keeps the
//! shadows' state fresh, `shift` hands sessions over, `forward` moves inner packets.

mod activate;
mod attach;
mod branches;
mod covers;
mod export;
mod forward;
mod held;
mod peers;
mod pending;
mod relay;
#[cfg(test)]
pub(crate) mod rig;
mod shadows;
mod shift;
mod sums;
mod sync;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use vpnmesh_core::{
    ClientId, NodeId, NodeState, Ratio, SessionId, ShadowPolicy, SiteId, Timestamp, Version,
};

use crate::handshake::{Direction, Responder, direction};
use crate::leg::{Cadence, Opened};
use crate::path::PathFigures;
use crate::record::{HolderKey, SessionDocument};
use crate::station::{Station, StationConfig, responder_config};
use crate::timers::Timers;
use crate::wire::{Header, Kind};
use crate::{
    Cipher, DropReason, Ecn, Error, Floor, Incarnation, Machine, PeerProof, Profile,
    SecurityReport, Transmit, probe,
};

use branches::{Branch, Branches};
use covers::{Counted, Covers};
use held::Held;
use peers::Peer;
use pending::Pending;
use shift::Share;

/// What a node is started with.
#[derive(Debug)]
pub struct NodeConfig {
    /// Identity, membership and cryptography.
    pub station: StationConfig,
    /// What counts in the choice of shadows.
    pub shadows: ShadowPolicy,
    /// Timers.
    pub timers: NodeTimers,
}

/// The timers of a node.
#[derive(Debug, Clone, Copy)]
pub struct NodeTimers {
    /// How often nodes and sites ask each other whether they live. Default 250 ms, always.
    pub link: Cadence,
    /// How often a quiet client is asked. Default 15 s; the client asks more often itself.
    pub client: Cadence,
    /// A peer is down after so long a silence. Default 500 ms: shorter makes new shadows for every
    /// hiccup, longer leaves sessions with a dead one.
    pub link_patience: Duration,
    /// The period of digests between a primary and its shadows. Default 1 s.
    pub digest_every: Duration,
    /// The period of health reports between nodes. Default 500 ms.
    pub health_every: Duration,
    /// A session without a sign of its client for so long has ended. Default 180 s; below 30 s
    /// idle clients are lost.
    pub idle_for: Duration,
}

/// What the program tells a node.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeCommand {
    /// Answer with [`NodeEvent::Report`].
    Report,
    /// Move this share of each session's traffic away, to `to` where it shadows the session, else
    /// to the session's best shadow. Zero turns back.
    SetShare {
        /// The preferred holder.
        to: Option<NodeId>,
        /// The share that moves.
        share: Ratio,
    },
    /// How the node is: its peers hear of it.
    SetHealth {
        /// How busy it is.
        load: Ratio,
        /// The probability that it fails soon.
        risk: Ratio,
    },
    /// A signed membership from the controller.
    Membership(Vec<u8>),
    /// Answer with [`NodeEvent::Exported`]: a session held here in the standard form.
    Export {
        /// The session.
        session: SessionId,
        /// Seals our branch of it to this key, which must be for this node: for a data plane of
        /// ours that is another program. `None` leaves the secrets out.
        seal_to: Option<Box<HolderKey>>,
    },
    /// A new life, after a memory snapshot was resumed or the counter was found rolled back: all
    /// keys are erased, nothing is sealed until fresh handshakes.
    Resumed {
        /// The new life; its counter was durably advanced.
        incarnation: Incarnation,
    },
}

/// What a node tells the program.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeEvent {
    /// A client's session is held here now.
    SessionTaken {
        /// The session.
        session: SessionId,
        /// Its client.
        client: ClientId,
        /// How it came.
        how: Taken,
    },
    /// A session is no longer held here.
    SessionLeft {
        /// The session.
        session: SessionId,
        /// Its client.
        client: ClientId,
    },
    /// The shadows of a session are ready.
    ShadowsReady {
        /// The session.
        session: SessionId,
        /// Its generation.
        generation: u32,
        /// The shadows, best first.
        shadows: Vec<NodeId>,
    },
    /// A shift failed at the client; another candidate is tried.
    ShiftFailed {
        /// The session.
        session: SessionId,
        /// The holder that did not take over.
        to: NodeId,
    },
    /// A node or a site fell silent.
    PeerSilent(PeerId),
    /// A node or a site is connected.
    PeerConnected(PeerId),
    /// What another node says of itself and of its paths.
    PeerHealth {
        /// The node.
        from: NodeId,
        /// How busy it is.
        load: Ratio,
        /// The probability that it fails soon.
        risk: Ratio,
        /// Loss on its paths to others.
        losses: Vec<(NodeId, Ratio)>,
    },
    /// A newer membership is in force; keep it on disk.
    Membership(Vec<u8>),
    /// Peers have seen this incarnation counter: advance the durable one beyond it, then send
    /// [`NodeCommand::Resumed`]. Handshakes fail until then.
    IncarnationSeen(u64),
    /// The answer to [`NodeCommand::Report`].
    Report(Box<NodeReport>),
    /// The answer to [`NodeCommand::Export`].
    Exported {
        /// The session that was asked for.
        session: SessionId,
        /// Its state; `None` if it is not held here, or the key is another holder's.
        document: Option<Box<SessionDocument>>,
    },
}

/// How a session came to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// By a full handshake.
    Handshake,
    /// By a planned move.
    Planned,
    /// By a takeover after the holder fell silent.
    Crash,
}

/// A peer of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerId {
    /// Another node.
    Node(NodeId),
    /// A site.
    Site(SiteId),
}

/// A node in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// Sessions held.
    pub sessions: usize,
    /// Of these, with as many ready shadows as their tier wants.
    pub covered: usize,
    /// The nodes that shadow sessions held here.
    pub shadows: BTreeSet<NodeId>,
    /// Sessions shadowed for others.
    pub shadowed: usize,
    /// The longest time since a primary's digest matched, over all primaries.
    pub staleness: Duration,
    /// Paths to peers that are connected.
    pub paths: Vec<(PeerId, PathFigures)>,
    /// Inner packets forwarded.
    pub forwarded: u64,
    /// Their bytes.
    pub forwarded_bytes: u64,
    /// The membership in force here.
    pub membership: Version,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<DropReason, u64>,
    /// Worst lateness of the own thread since the last report.
    pub lateness: Duration,
}

/// One node.
#[derive(Debug)]
pub struct NodeMachine {
    station: Station,
    me: NodeId,
    responder: Responder,
    shadow_policy: ShadowPolicy,
    timers: NodeTimers,
    peers: BTreeMap<PeerId, Peer>,
    sessions: BTreeMap<SessionId, Held>,
    /// By receiver index; for seconds only.
    pending: BTreeMap<u32, Pending>,
    by_client: BTreeMap<ClientId, SessionId>,
    /// Own branches, of sessions held and shadowed.
    branches: Branches,
    /// What shadows keep for us.
    covers: Covers,
    /// The owner of a receiver index.
    channels: HashMap<u32, Owner>,
    share: Share,
    health: Health,
    clocks: Timers<Clock>,
    /// Sessions whose shadows must hear of a change.
    dirty: BTreeSet<SessionId>,
    forwarded: (u64, u64),
    /// For the owner; at most [`MAX_EVENTS`], the oldest gives way.
    events: VecDeque<NodeEvent>,
}

/// Whom a receiver index belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Peer(PeerId),
    Session(SessionId),
    /// A session whose client was not heard yet.
    Pending,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Clock {
    Peer(PeerId),
    Session(SessionId),
    Digest,
    Health,
}

/// How a node is, by its own words.
#[derive(Debug, Clone, Copy, Default)]
struct Health {
    load: Ratio,
    risk: Ratio,
}

impl Default for NodeTimers {
    fn default() -> Self {
        let quarter = Duration::from_millis(250);
        let keepalive = Duration::from_secs(15);
        Self {
            link: Cadence {
                busy: quarter,
                idle: quarter,
            },
            client: Cadence {
                busy: keepalive,
                idle: keepalive,
            },
            link_patience: Duration::from_millis(500),
            digest_every: Duration::from_secs(1),
            health_every: Duration::from_millis(500),
            idle_for: Duration::from_secs(180),
        }
    }
}

impl NodeMachine {
    /// A node that starts to connect to its peers at `now`.
    ///
    /// # Errors
    /// [`Error::Membership`] or [`Error::NotAMember`]; nothing was started.
    pub fn new(config: NodeConfig, now: Timestamp) -> Result<Self, Error> {
        let mut station = Station::new(config.station)?;
        let key = station.config.identity.public();
        let me = station
            .membership
            .node_by_key(&key)
            .ok_or(Error::NotAMember {
                key,
                role: "node",
                version: station.version(),
            })?;
        let me = me.id;
        let responder = Responder::new(
            responder_config(&station),
            &mut *station.config.entropy,
            now,
        );
        let mut node = Self {
            station,
            me,
            responder,
            shadow_policy: config.shadows,
            timers: config.timers,
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            pending: BTreeMap::new(),
            by_client: BTreeMap::new(),
            branches: Branches::default(),
            covers: Covers::default(),
            channels: HashMap::new(),
            share: Share::default(),
            health: Health::default(),
            clocks: Timers::new(),
            dirty: BTreeSet::new(),
            forwarded: (0, 0),
            events: VecDeque::new(),
        };
        node.clocks
            .set(Clock::Digest, now + config.timers.digest_every);
        node.clocks
            .set(Clock::Health, now + config.timers.health_every);
        node.follow_membership(now);
        Ok(node)
    }

    /// The node's own id.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.me
    }

    fn emit(&mut self, event: NodeEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn own_state(&self) -> NodeState {
        self.station
            .membership
            .node(self.me)
            .map_or(NodeState::Removed, |node| node.state)
    }

    fn incarnation(&self) -> Incarnation {
        self.station.config.incarnation
    }

    fn fresh_index(&mut self) -> u32 {
        let (channels, branches) = (&self.channels, &self.branches);
        let taken = |index: u32| {
            channels.contains_key(&index) || branches.at_base(base_of(index)).is_some()
        };
        self.station.fresh_index(taken)
    }

    fn handle_packet(
        &mut self,
        from: SocketAddr,
        ecn: Ecn,
        datagram: &mut [u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let header = Header::decode(datagram)?;
        if header.kind == Kind::Activate {
            return self.handle_activation(&header, from, datagram, now);
        }
        match self.channels.get(&header.index) {
            Some(Owner::Peer(peer)) => {
                self.handle_peer_packet(*peer, &header, (from, ecn), datagram, now)
            }
            Some(Owner::Pending) => self.handle_first_packet(&header, (from, ecn), datagram, now),
            Some(Owner::Session(session)) => {
                self.handle_client_packet(*session, &header, (from, ecn), datagram, now)
            }
            None => Err(DropReason::UnknownIndex),
        }
    }

    fn handle_peer_packet(
        &mut self,
        id: PeerId,
        header: &Header,
        (from, ecn): (SocketAddr, Ecn),
        datagram: &mut [u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let peer = self.peers.get_mut(&id).ok_or(DropReason::UnknownIndex)?;
        let leg = peer.leg.as_mut().ok_or(DropReason::UnknownIndex)?;
        let opened = leg.open(header, from, ecn, datagram, now)?;
        let result = match (opened, id) {
            (Opened::Packet(packet), PeerId::Site(site)) => self.forward_down(site, packet, now),
            (Opened::Joined(packet), PeerId::Site(site)) => self.forward_down(site, &packet, now),
            (Opened::Packet(_) | Opened::Joined(_), PeerId::Node(_)) => {
                Err(DropReason::NotAllowedSource)
            }
            (Opened::Control { closed: true, .. }, _) => {
                self.disconnect(id, now);
                Ok(())
            }
            (Opened::Control { .. } | Opened::Nothing, _) => Ok(()),
            (Opened::Dropped(reason), _) => Err(reason),
        };
        self.read_peer(id, now);
        self.touch_peer(id, now);
        result
    }

    fn handle_client_packet(
        &mut self,
        session: SessionId,
        header: &Header,
        (from, ecn): (SocketAddr, Ecn),
        datagram: &mut [u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let held = self
            .sessions
            .get_mut(&session)
            .ok_or(DropReason::UnknownIndex)?;
        let (before, address) = (held.leg.sealing().id, held.leg.remote());
        let opened = held.leg.open(header, from, ecn, datagram, now)?;
        held.last_heard = now;
        let (confirmed, moved) = (
            held.leg.sealing().id != before,
            held.leg.remote() != address,
        );
        if moved {
            self.note_address(session);
        }
        if confirmed {
            self.handle_confirmed(session, now);
        }
        self.handle_opened(session, opened, now)
    }

    /// What a client's datagram held.
    fn handle_opened(
        &mut self,
        session: SessionId,
        opened: Opened<'_>,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let result = match opened {
            Opened::Packet(packet) => self.forward_up(session, packet, now),
            Opened::Joined(packet) => self.forward_up(session, &packet, now),
            Opened::Control { closed: true, .. } => {
                self.finish_session(session);
                return Ok(());
            }
            Opened::Control { .. } | Opened::Nothing => Ok(()),
            Opened::Dropped(reason) => Err(reason),
        };
        self.read_client(session, now);
        self.touch_session(session, now);
        result
    }

    /// Sends what a peer's leg owes, and sets its timer.
    fn touch_peer(&mut self, id: PeerId, now: Timestamp) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return self.clocks.set(Clock::Peer(id), Timestamp::MAX);
        };
        let mut at = peer.next_dial();
        if let Some(leg) = peer.leg.as_mut() {
            let flushed = leg.flush(&mut self.station.out, now);
            if self.station.out.count(flushed).is_none() {
                self.disconnect(id, now); // the keys are spent: both ends start anew
                let next = self.peers.get(&id).map(Peer::next_dial);
                return self
                    .clocks
                    .set(Clock::Peer(id), next.unwrap_or(Timestamp::MAX));
            }
            if leg.is_worn() {
                peer.refresh_at = peer.refresh_at.min(now + REFRESH_WORN);
            }
            for index in leg.expire(now) {
                self.channels.remove(&index);
            }
            at = at
                .min(leg.poll_timeout())
                .min(peer.down_at(self.timers.link_patience));
        }
        self.clocks.set(Clock::Peer(id), at);
    }

    /// Sends what a session's leg owes, and sets its timer.
    fn touch_session(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return self.clocks.set(Clock::Session(session), Timestamp::MAX);
        };
        if held.leg.silent_at().is_some_and(|at| at <= now) {
            held.leg.note_judged(); // a client may be silent: it alone judges
        }
        let flushed = held.leg.flush(&mut self.station.out, now);
        if self.station.out.count(flushed).is_none() {
            return self.end_session(session); // its keys are spent, and the client brought no others
        }
        for index in held.leg.expire(now) {
            self.channels.remove(&index);
        }
        let at = held
            .leg
            .poll_timeout()
            .min(held.next_duty(self.timers.idle_for));
        self.clocks.set(Clock::Session(session), at);
    }

    fn run_clock(&mut self, clock: Clock, now: Timestamp) {
        match clock {
            Clock::Peer(id) => {
                self.tend_peer(id, now);
                self.touch_peer(id, now);
            }
            Clock::Session(session) => {
                self.tend_session(session, now);
                self.touch_session(session, now);
            }
            Clock::Digest => {
                self.send_digests(now);
                self.forget_orphans(now);
                self.clocks
                    .set(Clock::Digest, now + self.timers.digest_every);
            }
            Clock::Health => {
                self.send_health(now);
                self.expire_pending(now);
                self.clocks
                    .set(Clock::Health, now + self.timers.health_every);
            }
        }
    }

    /// What a session needs beside its leg.
    fn tend_session(&mut self, session: SessionId, now: Timestamp) {
        let Some(held) = self.sessions.get(&session) else {
            return;
        };
        if now.since(held.last_heard) >= self.timers.idle_for {
            return self.finish_session(session);
        }
        self.tend_leaving(session, now);
        self.tend_making(session, now);
        self.tend_shift(session, now);
        self.review_shadows(session, now);
    }

    /// The session is over everywhere, unless another holder took it: our branches go too.
    fn finish_session(&mut self, session: SessionId) {
        self.end_session(session);
        let ours = |(_, branch): (_, &Branch)| branch.speaker() == Some(self.me);
        if self.branches.of(session).all(ours) {
            self.branches.forget(session, |_, _| true);
        }
    }

    /// The session is over here: its keys are erased.
    fn end_session(&mut self, session: SessionId) {
        let Some(mut held) = self.sessions.remove(&session) else {
            return;
        };
        self.covers.change(&mut held, Counted::default());
        for index in held.leg.indices() {
            self.channels.remove(&index);
        }
        let client = held.record.client;
        if self.by_client.get(&client) == Some(&session) {
            self.by_client.remove(&client);
        }
        self.clocks.set(Clock::Session(session), Timestamp::MAX);
        self.dirty.remove(&session);
        self.emit(NodeEvent::SessionLeft { session, client });
    }

    /// A new life: whatever could be sealed twice is erased.
    fn handle_resumed(&mut self, incarnation: Incarnation, now: Timestamp) {
        self.station.resume(incarnation);
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.end_session(session);
        }
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in peers {
            self.disconnect(id, now);
        }
        self.pending.clear();
        self.channels.clear();
        self.branches = Branches::default();
        let config = responder_config(&self.station);
        self.responder = Responder::new(config, &mut *self.station.config.entropy, now);
        self.follow_membership(now);
    }

    /// How large the tables are.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn sizes(&self) -> crate::trace::Sizes {
        [
            ("peers", self.peers.len()),
            ("sessions", self.sessions.len()),
            ("clients", self.by_client.len()),
            ("branches", self.branches.len()),
            ("bases", self.branches.bases()),
            ("channels", self.channels.len()),
            ("dirty", self.dirty.len()),
            ("attempts", self.station.attempts()),
        ]
        .into()
    }

    /// What protects a session that is held here; `None` for any other. The age is that of the keys of
    /// the last move.
    #[must_use]
    pub fn security_report(&self, session: SessionId, now: Timestamp) -> Option<SecurityReport> {
        let held = self.sessions.get(&session)?;
        let record = &held.record;
        let profile = Profile::from_code(record.profile)?;
        Some(SecurityReport {
            profile,
            kem: Some(profile.kem()), // members of a mesh make no other exchange
            cipher: Cipher::from_code(record.cipher)?,
            peer: PeerProof::Membership,
            key_age: now.since(held.leg.newest().created),
            floor: Some(Floor {
                generation: record.generation,
                number: record.number,
            }),
        })
    }

    fn report(&mut self, now: Timestamp) -> NodeReport {
        let connected = self
            .peers
            .iter()
            .filter_map(|(id, peer)| Some((*id, peer.leg.as_ref()?.figures())));
        NodeReport {
            sessions: self.sessions.len(),
            covered: self
                .sessions
                .values()
                .filter(|held| self.is_covered(held))
                .count(),
            shadows: self
                .sessions
                .values()
                .flat_map(|held| held.shadows.iter().copied())
                .collect(),
            shadowed: self
                .branches
                .values()
                .filter(|branch| branch.speaker() != Some(self.me))
                .count(),
            staleness: self.staleness(now),
            paths: connected.collect(),
            forwarded: self.forwarded.0,
            forwarded_bytes: self.forwarded.1,
            membership: self.station.version(),
            drops: self.station.out.drops().clone(),
            lateness: self.station.take_lateness(),
        }
    }
}

impl Machine for NodeMachine {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle_datagram(
        &mut self,
        from: SocketAddr,
        ecn: Ecn,
        data: &mut [u8],
        now: Timestamp,
    ) -> Option<Range<usize>> {
        if let Some(whom) = direction(data) {
            match whom {
                Direction::ToInitiator { receiver } => {
                    if let Some(ended) = self.station.handle_reply(receiver, data, now) {
                        self.handle_ended(ended, now);
                    }
                }
                Direction::ToResponder => self.handle_handshake(from, data, now),
            }
        } else if probe::is_probe(data) {
            let answer = probe::answer(&self.responder.public(), data);
            if let Some(reply) = self.station.out.count(answer) {
                self.station.out.send(from, reply.to_vec());
            }
        } else {
            let result = self.handle_packet(from, ecn, data, now);
            self.station.out.count(result);
        }
        self.flush_dirty(now);
        None
    }

    /// A node has no local packets of its own.
    fn handle_inner(&mut self, _packet: &[u8], _now: Timestamp) {
        self.station.out.drop_because(DropReason::NoRoute);
    }

    fn handle_command(&mut self, command: NodeCommand, now: Timestamp) {
        match command {
            NodeCommand::Report => {
                let report = Box::new(self.report(now));
                self.emit(NodeEvent::Report(report));
            }
            NodeCommand::SetShare { to, share } => self.set_share(to, share, now),
            NodeCommand::SetHealth { load, risk } => self.health = Health { load, risk },
            NodeCommand::Membership(signed) => {
                if self.handle_membership(&signed, now) {
                    self.spread_membership(now);
                }
            }
            NodeCommand::Export { session, seal_to } => {
                let document = self.export(session, seal_to.as_deref()).map(Box::new);
                self.emit(NodeEvent::Exported { session, document });
            }
            NodeCommand::Resumed { incarnation } => self.handle_resumed(incarnation, now),
        }
        self.flush_dirty(now);
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        if let Some(late) = self.station.note_wake(self.poll_timeout(), now) {
            for leg in self.peers.values_mut().filter_map(|peer| peer.leg.as_mut()) {
                leg.handle_own_delay(late);
            }
        }
        self.responder.handle_timeout(now);
        for ended in self.station.handle_timeout(now) {
            self.handle_ended(ended, now);
        }
        if let Some(seen) = self.station.poll_seen() {
            self.emit(NodeEvent::IncarnationSeen(seen));
        }
        let mut turns = 0;
        while turns < MAX_TURNS
            && let Some(clock) = self.clocks.poll(now)
        {
            self.run_clock(clock, now);
            turns += 1;
        }
        self.flush_dirty(now);
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.station.out.poll_transmit()
    }

    fn poll_inner(&mut self) -> Option<Vec<u8>> {
        self.station.out.poll_inner()
    }

    fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Timestamp {
        self.station
            .poll_timeout()
            .min(self.clocks.poll_timeout())
            .min(self.responder.poll_timeout())
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.station.out.recycle(buffer);
    }
}

/// The first index of the block that `index` lies in.
const fn base_of(index: u32) -> u32 {
    index & !(crate::message::MOVE_SLOTS - 1)
}

const MAX_EVENTS: usize = 4096;
/// Between handshakes for a link whose keys are nearly spent.
const REFRESH_WORN: Duration = Duration::from_millis(700);
/// Timers served in one turn, so that packets are not kept waiting.
const MAX_TURNS: usize = 4096;
