//! The client: the one arbiter of which holder carries its session (design rule S2).
//!
//! A [`ClientMachine`] keeps one session with the mesh. It has an *active* holder; in a planned move
//! it has an *other* one beside it, and afterwards one that *drains*. It decides by its own silence
//! timer when a holder is lost, activates a shadow of the roster without asking anybody, and tells
//! the sites. `attach` dials members, `moves` changes holders, `generation` keeps the roster,
//! `ties` keeps the receipts.

mod attach;
mod generation;
mod holder;
mod moves;
mod ties;
mod usage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use vpnmesh_core::{ClientId, KeyUsage, NodeId, SessionId, SiteId, Tier, Timestamp, Version};

use crate::flow::{FlowTable, InnerPacket};
use crate::handshake::{Direction, direction};
use crate::leg::{Cadence, Leg, Opened, Traffic};
use crate::message::{self, ClientMessage, HolderMessage};
use crate::path::PathFigures;
use crate::probe::{self, Prober};
use crate::receipt::Fence;
use crate::station::{Home, Station, StationConfig};
use crate::wire::{self, Header};
use crate::{DropReason, Ecn, Error, Floor, Machine, PeerProof, SecurityReport, Transmit};

use generation::Generations;
pub(crate) use holder::ActivateBody;
use holder::Holder;
use moves::Move;
use ties::Tie;
use usage::Usage;

/// What a client is started with.
#[derive(Debug)]
pub struct ClientConfig {
    /// Identity, membership and cryptography.
    pub station: StationConfig,
    /// The tier to ask for; `None` leaves it to the membership.
    pub tier: Option<Tier>,
    /// Timers.
    pub timers: ClientTimers,
}

/// The timers of a client.
#[derive(Debug, Clone, Copy)]
pub struct ClientTimers {
    /// How often the active holder is asked whether it lives. Default: 250 ms busy, 15 s idle; idle
    /// above 25 s lets address translators forget the path.
    pub cadence: Cadence,
    /// A fresh handshake at least this often while packets flow. Default 120 s, as WireGuard; longer
    /// keeps old secrets alive longer.
    pub refresh_every: Duration,
    /// After a crash takeover a fresh handshake starts within this time. Default 1 s; shorter makes
    /// a storm when a large node dies.
    pub refresh_after_crash: Duration,
    /// How often a busy client probes all nodes. Default 2 s; longer makes the choice of a shadow older.
    pub probe_every: Duration,
}

/// What the program tells a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCommand {
    /// Answer with [`ClientEvent::Report`].
    Report,
    /// Ask for another tier in the live session.
    SetTier(Option<Tier>),
    /// A signed membership from outside the mesh.
    Membership(Vec<u8>),
    /// The keys have served long enough: fresh secrets are asked for at once, and the present keys
    /// serve until then. Ignored while a request is under way or being repeated, which stays paced.
    Refresh,
    /// The keys must not serve any longer: they are erased, and nothing is sealed until a fresh
    /// handshake with any member. Connections inside survive if that is quick.
    DropKeys,
    /// A new life, after a memory snapshot was resumed or the counter was found rolled back: all
    /// keys are erased, nothing is sealed until a fresh handshake.
    Resumed {
        /// The new life; its counter was durably advanced.
        incarnation: crate::Incarnation,
    },
}

/// What a client tells the program.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    /// A handshake with a member succeeded, at the start or after all holders were gone.
    Attached {
        /// The holder.
        node: NodeId,
        /// The generation that began.
        generation: u32,
    },
    /// A planned move began.
    Moving {
        /// The holder that is left.
        from: NodeId,
        /// The holder that takes over.
        to: NodeId,
    },
    /// A planned move was committed.
    Moved {
        /// The holder that was left.
        from: NodeId,
        /// The holder that took over.
        to: NodeId,
        /// Its number.
        number: u32,
    },
    /// A planned move was given up; the old holder keeps the traffic.
    MoveAbandoned {
        /// The holder that did not take over.
        to: NodeId,
    },
    /// The active holder fell silent and a shadow was activated.
    TakenOver {
        /// The holder that is lost.
        from: NodeId,
        /// The shadow.
        to: NodeId,
        /// How long the lost one was silent.
        silence: Duration,
    },
    /// No holder is left; members are being dialed.
    Detached,
    /// Fresh secrets are in force.
    Refreshed {
        /// The generation that began.
        generation: u32,
    },
    /// A new roster is in force.
    Roster {
        /// The generation.
        generation: u32,
        /// The holders that may be activated.
        holders: Vec<NodeId>,
    },
    /// A newer membership is in force; keep it on disk.
    Membership(Vec<u8>),
    /// Peers have seen this incarnation counter: advance the durable one beyond it, then send
    /// [`ClientCommand::Resumed`]. Handshakes fail until then.
    IncarnationSeen(u64),
    /// The answer to [`ClientCommand::Report`].
    Report(Box<ClientReport>),
}

/// A client in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientReport {
    /// The session.
    pub session: SessionId,
    /// Generation in force.
    pub generation: u32,
    /// Last move.
    pub number: u32,
    /// The active holder, if there is one.
    pub active: Option<NodeId>,
    /// The other holder of a planned move.
    pub other: Option<NodeId>,
    /// The path to the active holder.
    pub path: Option<PathFigures>,
    /// Who may be activated.
    pub roster: Vec<NodeId>,
    /// Whether the secrets date from before the last crash takeover.
    pub unrefreshed: bool,
    /// What the keys have done since the last handshake; `None` without a holder.
    pub keys: Option<KeyUsage>,
    /// What protects the session; `None` without a holder.
    pub security: Option<SecurityReport>,
    /// Sites that confirmed the newest receipt.
    pub sites_ready: usize,
    /// The membership in force here.
    pub membership: Version,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<DropReason, u64>,
    /// Worst lateness of the own thread since the last report.
    pub lateness: Duration,
}

/// One client and its session.
#[derive(Debug)]
pub struct ClientMachine {
    station: Station,
    me: ClientId,
    timers: ClientTimers,
    tier: Option<Tier>,
    session: SessionId,
    /// The greatest move number ever used.
    number: u32,
    generations: Generations,
    active: Option<Holder>,
    other: Option<Holder>,
    planned: Option<Move>,
    draining: Option<(Holder, Timestamp)>,
    /// Holders that were tried since the last one that answered.
    tried: BTreeSet<NodeId>,
    /// When the next member is dialed, while there is no holder.
    next_dial: Timestamp,
    refresh_at: Timestamp,
    refresh_failures: u32,
    /// What the active holder had carried when its secrets were fresh.
    traffic_when_fresh: Option<Traffic>,
    /// Whether the active holder's keys were seen to be nearly spent.
    worn: bool,
    unrefreshed_since: Option<Timestamp>,
    usage: Usage,
    ties: BTreeMap<SiteId, Tie>,
    flows: FlowTable<NodeId>,
    prober: Prober,
    next_report: Timestamp,
    /// Receiver indices of holders that were fenced; at most [`MAX_FENCED`].
    fenced: VecDeque<u32>,
    /// For the owner; at most [`MAX_EVENTS`], the oldest gives way.
    events: VecDeque<ClientEvent>,
    #[cfg(feature = "testing")]
    tracer: crate::trace::Tracer,
}

impl Default for ClientTimers {
    fn default() -> Self {
        Self {
            cadence: Cadence {
                busy: Duration::from_millis(250),
                idle: Duration::from_secs(15),
            },
            refresh_every: Duration::from_secs(120),
            refresh_after_crash: Duration::from_secs(1),
            probe_every: Duration::from_secs(2),
        }
    }
}

impl ClientMachine {
    /// A client that starts to dial at `now`.
    ///
    /// # Errors
    /// [`Error::Membership`] or [`Error::NotAMember`]; nothing was started.
    pub fn new(config: ClientConfig, now: Timestamp) -> Result<Self, Error> {
        let mut station = Station::new(config.station)?;
        let key = station.config.identity.public();
        let me = station
            .membership
            .client_by_key(&key)
            .ok_or(Error::NotAMember {
                key,
                role: "client",
                version: station.version(),
            })?;
        let me = me.id;
        let mut prober = Prober::new(config.timers.probe_every, now);
        prober.follow(&station.membership);
        let session = SessionId::new(me, station.random());
        let mut client = Self {
            station,
            me,
            timers: config.timers,
            tier: config.tier,
            session,
            number: 0,
            generations: Generations::default(),
            active: None,
            other: None,
            planned: None,
            draining: None,
            tried: BTreeSet::new(),
            next_dial: now,
            refresh_at: Timestamp::MAX,
            refresh_failures: 0,
            traffic_when_fresh: None,
            worn: false,
            unrefreshed_since: None,
            usage: Usage::since(now),
            ties: BTreeMap::new(),
            flows: FlowTable::new(),
            prober,
            next_report: now,
            fenced: VecDeque::new(),
            events: VecDeque::new(),
            #[cfg(feature = "testing")]
            tracer: crate::trace::Tracer::default(),
        };
        client.follow_sites(now);
        client.handle_timeout(now);
        Ok(client)
    }

    /// The fence of the newest move.
    fn fence(&self, generation: u32, number: u32) -> Fence {
        Fence {
            incarnation: self.station.config.incarnation.counter,
            generation,
            number,
        }
    }

    fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    fn emit(&mut self, event: ClientEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn holders(&self) -> impl Iterator<Item = &Holder> {
        let draining = self.draining.as_ref().map(|(holder, _)| holder);
        self.active.iter().chain(self.other.iter()).chain(draining)
    }

    fn holders_mut(&mut self) -> impl Iterator<Item = &mut Holder> {
        let draining = self.draining.as_mut().map(|(holder, _)| holder);
        self.active
            .iter_mut()
            .chain(self.other.iter_mut())
            .chain(draining)
    }

    /// Erases the keys of a holder; what still comes from it is counted as fenced.
    fn drop_holder(&mut self, holder: Holder) {
        for index in holder.leg.indices() {
            self.fence_index(index);
        }
    }

    fn fence_index(&mut self, index: u32) {
        if self.fenced.len() >= MAX_FENCED {
            self.fenced.pop_front();
        }
        self.fenced.push_back(index);
    }

    fn handle_packet(
        &mut self,
        from: SocketAddr,
        ecn: Ecn,
        datagram: &mut [u8],
        now: Timestamp,
    ) -> Result<Option<Range<usize>>, DropReason> {
        let (header, len) = (Header::decode(datagram)?, datagram.len());
        let holder = self
            .holders_mut()
            .find(|holder| holder.leg.channel(header.index).is_some());
        let Some(holder) = holder else {
            let fenced = self.fenced.contains(&header.index);
            return Err(if fenced {
                DropReason::Fenced
            } else {
                DropReason::UnknownIndex
            });
        };
        #[cfg(feature = "testing")]
        let keys = holder.leg.channel(header.index).map(|channel| channel.id);
        let opened = holder.leg.open(&header, from, ecn, datagram, now)?;
        let node = holder.node;
        let confirmed =
            header.index == holder.leg.newest().local_index && holder.activation.take().is_some();
        #[cfg(feature = "testing")]
        if let (Opened::Packet(_) | Opened::Joined(_), Some(keys)) = (&opened, keys) {
            self.tracer.note(crate::trace::Trace::ClientAccepted {
                holder: node,
                generation: keys.generation,
                number: keys.number,
            });
        }
        let mut arrived = None;
        match opened {
            Opened::Packet(packet) => {
                self.usage.note_opened(packet.len());
                self.accept(packet)?;
                arrived = Some(wire::text_of(len));
                if !confirmed {
                    return Ok(arrived);
                }
            }
            Opened::Joined(packet) => {
                self.usage.note_opened(packet.len());
                self.accept(&packet)?;
                self.station.out.deliver(&packet);
            }
            Opened::Control { closed: true, .. } => self.handle_closed(node, now),
            Opened::Control { .. } | Opened::Nothing => {}
            Opened::Dropped(reason) => self.station.out.drop_because(reason),
        }
        if confirmed {
            self.handle_activated(node, now);
        }
        self.handle_messages(now);
        self.flush(now);
        Ok(arrived)
    }

    /// An inner packet from a holder: it must be for us, from behind a site or another client.
    fn accept(&self, packet: &[u8]) -> Result<(), DropReason> {
        let inner = InnerPacket::parse(packet).ok_or(DropReason::Malformed)?;
        if self.station.home_of(inner.source) == Home::Nowhere {
            return Err(DropReason::NotAllowedSource);
        }
        if !self.owns(inner.destination) {
            return Err(DropReason::NoRoute);
        }
        Ok(())
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.station.home_of(address) == Home::Client(self.me)
    }

    fn send(&mut self, packet: &[u8], now: Timestamp) -> Result<(), DropReason> {
        let inner = InnerPacket::parse(packet).ok_or(DropReason::Malformed)?;
        if !self.owns(inner.source) {
            return Err(DropReason::NotAllowedSource);
        }
        let onto_other = self.steer(inner.flow, now);
        let holder = if onto_other {
            self.other.as_mut()
        } else {
            self.active.as_mut()
        };
        let holder = holder.ok_or(DropReason::NoRoute)?;
        holder.leg.send_packet(packet, &mut self.station.out, now)?;
        holder.last_data = holder.leg.sealing().sealed().checked_sub(1);
        self.usage.note_sealed(packet.len());
        Ok(())
    }

    /// Reads what holders said in their control streams.
    fn handle_messages(&mut self, now: Timestamp) {
        let mut arrived = Vec::new();
        for holder in self.holders_mut() {
            while let Some(bytes) = holder.leg.poll_message() {
                arrived.push((holder.node, bytes));
            }
        }
        for (node, bytes) in arrived {
            let message = message::decode(&bytes);
            if let Some(message) = self.station.out.count(message) {
                self.handle_message(node, message, now);
            }
        }
    }

    fn handle_message(&mut self, node: NodeId, message: HolderMessage, now: Timestamp) {
        match message {
            HolderMessage::RootOffer {
                generation,
                primary_random,
            } => {
                self.handle_root_offer(node, generation, &primary_random);
            }
            HolderMessage::Roster {
                generation,
                entries,
            } => self.handle_roster(node, generation, entries, now),
            HolderMessage::Shift { order, to, share } => {
                self.handle_shift(node, order, to, share, now)
            }
            HolderMessage::FromSite { site, body } => self.handle_from_site(site, &body, now),
            HolderMessage::Left { number, down_final } => {
                self.handle_left(node, number, down_final, now)
            }
            HolderMessage::Membership(signed) => self.handle_membership(&signed, now),
        }
    }

    fn handle_membership(&mut self, signed: &[u8], now: Timestamp) {
        if !self.station.adopt(signed) {
            return;
        }
        self.prober.follow(&self.station.membership);
        self.follow_sites(now);
        self.emit(ClientEvent::Membership(signed.to_vec()));
        self.next_report = now;
        self.leave_removed(now);
    }

    /// Queues a message for a holder.
    fn tell(&mut self, node: NodeId, message: &ClientMessage) {
        let bytes = message::encode(message);
        let holder = self.holders_mut().find(|holder| holder.node == node);
        if let Some(result) = holder.map(|holder| holder.leg.send_message(&bytes)) {
            self.station.out.count(result);
        }
    }

    fn tell_active(&mut self, message: &ClientMessage) {
        if let Some(node) = self.active.as_ref().map(|holder| holder.node) {
            self.tell(node, message);
        }
    }

    /// Tells the holder what we want and see.
    fn report_if_due(&mut self, now: Timestamp) {
        if now < self.next_report || self.active.is_none() {
            return;
        }
        let busy = self
            .active
            .as_ref()
            .is_some_and(|holder| holder.leg.is_busy(now));
        self.next_report = now
            + if busy {
                self.timers.probe_every
            } else {
                self.timers.cadence.idle
            };
        let micros = |rtt: Duration| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        let report = ClientMessage::Report {
            tier: self.tier,
            membership: self.station.version(),
            generation: self.generations.greatest(),
            paths: self
                .prober
                .rtts(now)
                .map(|(node, rtt)| (node, micros(rtt)))
                .collect(),
        };
        self.tell_active(&report);
    }

    /// An idle client asks the nodes as seldom as it keeps its path alive.
    fn pace_probes(&mut self, now: Timestamp) {
        let active = self.active.as_ref();
        let idle = active.is_some_and(|holder| !holder.leg.is_busy(now));
        let every = if idle && self.generations.members().len() > 1 {
            self.timers.cadence.idle
        } else {
            self.timers.probe_every
        };
        self.prober.set_every(every, now);
    }

    fn flush(&mut self, now: Timestamp) {
        let mut out = std::mem::take(&mut self.station.out);
        let mut exhausted = false;
        for holder in self.holders_mut() {
            holder.flush_activation(&mut out, now);
            exhausted |= holder.leg.flush(&mut out, now).is_err();
        }
        self.station.out = out;
        if exhausted {
            self.refresh_at = self.refresh_at.min(now);
        }
    }

    fn expire_keys(&mut self, now: Timestamp) {
        let gone: Vec<u32> = self
            .holders_mut()
            .flat_map(|holder| holder.leg.expire(now))
            .collect();
        for index in gone {
            self.fence_index(index);
        }
    }

    /// What protects the session; `None` without a holder.
    #[must_use]
    pub fn security_report(&self, now: Timestamp) -> Option<SecurityReport> {
        let holder = self.active.as_ref()?;
        let context = self.generations.context(holder.generation)?;
        Some(SecurityReport {
            profile: context.profile,
            kem: Some(context.profile.kem()), // members of a mesh make no other exchange
            cipher: context.cipher,
            peer: PeerProof::Membership,
            key_age: self.usage.until(now).age,
            floor: Some(Floor {
                generation: holder.generation,
                number: holder.number,
            }),
        })
    }

    fn report(&mut self, now: Timestamp) -> ClientReport {
        let newest = self
            .statement()
            .map(|receipt| (receipt.fence, receipt.phase));
        ClientReport {
            session: self.session,
            generation: self.generations.current(),
            number: self.number,
            active: self.active.as_ref().map(|holder| holder.node),
            other: self.other.as_ref().map(|holder| holder.node),
            path: self.active.as_ref().map(|holder| holder.leg.figures()),
            roster: self.generations.roster_nodes(),
            unrefreshed: self.unrefreshed_since.is_some(),
            keys: self.active.as_ref().map(|_| self.usage.until(now)),
            security: self.security_report(now),
            sites_ready: self
                .ties
                .values()
                .filter(|tie| tie.has_answered(newest))
                .count(),
            membership: self.station.version(),
            drops: self.station.out.drops().clone(),
            lateness: self.station.take_lateness(),
        }
    }

    /// The next decision of the fence.
    #[cfg(feature = "testing")]
    pub fn poll_trace(&mut self) -> Option<crate::trace::Trace> {
        self.tracer.poll()
    }

    /// How large the tables are.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn sizes(&self) -> crate::trace::Sizes {
        [
            ("ties", self.ties.len()),
            ("tried", self.tried.len()),
            ("channels", self.legs().flat_map(Leg::indices).count()),
            ("attempts", self.station.attempts()),
            ("roster", self.generations.members().len()),
        ]
        .into()
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.holders().map(|holder| &holder.leg)
    }
}

impl Machine for ClientMachine {
    type Command = ClientCommand;
    type Event = ClientEvent;

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
                Direction::ToResponder => self.station.out.drop_because(DropReason::UnknownPeer),
            }
        } else if probe::is_probe(data) {
            let reply = self.prober.handle_reply(from, data, now);
            self.station.out.count(reply);
        } else {
            let result = self.handle_packet(from, ecn, data, now);
            return self.station.out.count(result).flatten();
        }
        self.flush(now);
        None
    }

    fn handle_inner(&mut self, packet: &[u8], now: Timestamp) {
        let result = self.send(packet, now);
        self.station.out.count(result);
    }

    fn handle_command(&mut self, command: ClientCommand, now: Timestamp) {
        match command {
            ClientCommand::Report => {
                let report = Box::new(self.report(now));
                self.emit(ClientEvent::Report(report));
            }
            ClientCommand::SetTier(tier) => {
                self.tier = tier;
                self.next_report = now;
                self.report_if_due(now);
                self.flush(now);
            }
            ClientCommand::Membership(signed) => self.handle_membership(&signed, now),
            ClientCommand::Refresh => self.refresh_now(now),
            ClientCommand::DropKeys => self.drop_keys(now),
            ClientCommand::Resumed { incarnation } => self.handle_resumed(incarnation, now),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        if let Some(late) = self.station.note_wake(self.poll_timeout(), now) {
            for holder in self.holders_mut() {
                holder.leg.handle_own_delay(late);
            }
        }
        for ended in self.station.handle_timeout(now) {
            self.handle_ended(ended, now);
        }
        if let Some(seen) = self.station.poll_seen() {
            self.emit(ClientEvent::IncarnationSeen(seen));
        }
        self.check_silence(now);
        self.advance_move(now);
        self.expire_drained(now);
        self.expire_keys(now);
        self.tend_ties(now);
        self.renew_worn(now);
        self.dial_if_due(now);
        self.refresh_if_due(now);
        self.pace_probes(now);
        self.prober.flush(&mut self.station.out, now);
        self.report_if_due(now);
        self.flush(now);
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.station.out.poll_transmit()
    }

    fn poll_inner(&mut self) -> Option<Vec<u8>> {
        self.station.out.poll_inner()
    }

    fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Timestamp {
        let mut next = self.station.poll_timeout().min(self.prober.poll_timeout());
        for leg in self.legs() {
            next = next.min(leg.poll_timeout());
        }
        for activation in self
            .holders()
            .filter_map(|holder| holder.activation.as_ref())
        {
            next = next.min(activation.due);
        }
        if let Some(planned) = &self.planned {
            next = next.min(planned.deadline);
        }
        if let Some((_, until)) = &self.draining {
            next = next.min(*until);
        }
        if self.active.is_none() {
            next = next.min(self.next_dial);
        } else {
            next = next.min(self.next_report);
            if self.may_refresh() {
                next = next.min(self.refresh_at);
            }
            next = next.min(
                self.ties
                    .values()
                    .map(|tie| tie.due)
                    .min()
                    .unwrap_or(Timestamp::MAX),
            );
        }
        next
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.station.out.recycle(buffer);
    }
}

const MAX_EVENTS: usize = 256;
const MAX_FENCED: usize = 64;
