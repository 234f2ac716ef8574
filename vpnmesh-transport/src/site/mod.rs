//! The site agent: the door to a protected network, and a fence of its own (design rule S5).
//!
//! A [`SiteMachine`] keeps a leg to every node. What comes from a client counts only through the
//! holder that the client's newest receipt names; what goes to a client leaves through it. `client`
//! keeps what is known of each client, `fence` decides, `links` keeps the legs.

mod client;
mod fence;
mod links;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use vpnmesh_core::{ClientId, NodeId, SiteId, Timestamp, Version};

use crate::flow::InnerPacket;
use crate::handshake::{Direction, Responder, direction};
use crate::leg::{Cadence, Opened};
use crate::path::PathFigures;
use crate::receipt::{Fence, STATE_AGAIN};
use crate::station::{Home, Station, StationConfig, responder_config};
use crate::wire::{self, Header};
use crate::{DropReason, Ecn, Error, Incarnation, Machine, Transmit};

use client::Known;
pub use fence::SiteFence;
use links::Link;

/// What a site is started with.
#[derive(Debug)]
pub struct SiteConfig {
    /// Identity, membership and cryptography.
    pub station: StationConfig,
    /// How often nodes are asked whether they live. Default 250 ms.
    pub link: Cadence,
    /// A node is down after so long a silence. Default 500 ms.
    pub link_patience: Duration,
}

/// What the program tells a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteCommand {
    /// Answer with [`SiteEvent::Report`].
    Report,
    /// A signed membership from outside the mesh.
    Membership(Vec<u8>),
    /// A new life, after a memory snapshot was resumed or the counter was found rolled back: all
    /// keys are erased, nothing is sealed until fresh handshakes.
    Resumed {
        /// The new life; its counter was durably advanced.
        incarnation: Incarnation,
    },
}

/// What a site tells the program.
#[derive(Debug, Clone, PartialEq)]
pub enum SiteEvent {
    /// A node is connected.
    Connected(NodeId),
    /// A node fell silent.
    Silent(NodeId),
    /// A client's packets come through another holder now.
    Moved {
        /// The client.
        client: ClientId,
        /// Its holder.
        holder: NodeId,
        /// The order of the statement.
        fence: Fence,
    },
    /// A newer membership is in force; keep it on disk.
    Membership(Vec<u8>),
    /// Peers have seen this incarnation counter: advance the durable one beyond it, then send
    /// [`SiteCommand::Resumed`]. Handshakes fail until then.
    IncarnationSeen(u64),
    /// The answer to [`SiteCommand::Report`].
    Report(Box<SiteReport>),
}

/// A site in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteReport {
    /// Nodes that are connected, with their paths.
    pub nodes: Vec<(NodeId, PathFigures)>,
    /// The holder of each client.
    pub holders: Vec<(ClientId, NodeId)>,
    /// Packets that came from a client through a holder that is not its own any more.
    pub fenced: u64,
    /// The membership in force here.
    pub membership: Version,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<DropReason, u64>,
}

/// One site.
#[derive(Debug)]
pub struct SiteMachine {
    station: Station,
    me: SiteId,
    responder: Responder,
    cadence: Cadence,
    patience: Duration,
    links: BTreeMap<NodeId, Link>,
    /// The owner of a receiver index.
    channels: HashMap<u32, NodeId>,
    clients: BTreeMap<ClientId, Known>,
    fenced: u64,
    /// For the owner; at most [`MAX_EVENTS`], the oldest gives way.
    events: VecDeque<SiteEvent>,
    #[cfg(feature = "testing")]
    tracer: crate::trace::Tracer,
}

impl SiteMachine {
    /// A site that starts to dial the nodes at `now`.
    ///
    /// # Errors
    /// [`Error::Membership`] or [`Error::NotAMember`]; nothing was started.
    pub fn new(config: SiteConfig, now: Timestamp) -> Result<Self, Error> {
        let mut station = Station::new(config.station)?;
        let key = station.config.identity.public();
        let me = station
            .membership
            .site_by_key(&key)
            .ok_or(Error::NotAMember {
                key,
                role: "site",
                version: station.version(),
            })?;
        let me = me.id;
        let responder = Responder::new(
            responder_config(&station),
            &mut *station.config.entropy,
            now,
        );
        let mut site = Self {
            station,
            me,
            responder,
            cadence: config.link,
            patience: config.link_patience,
            links: BTreeMap::new(),
            channels: HashMap::new(),
            clients: BTreeMap::new(),
            fenced: 0,
            events: VecDeque::new(),
            #[cfg(feature = "testing")]
            tracer: crate::trace::Tracer::default(),
        };
        site.follow_membership(now);
        site.handle_timeout(now);
        Ok(site)
    }

    fn emit(&mut self, event: SiteEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn handle_packet(
        &mut self,
        from: SocketAddr,
        ecn: Ecn,
        datagram: &mut [u8],
        now: Timestamp,
    ) -> Result<Option<Range<usize>>, DropReason> {
        let (header, len) = (Header::decode(datagram)?, datagram.len());
        let node = *self
            .channels
            .get(&header.index)
            .ok_or(DropReason::UnknownIndex)?;
        let link = self.links.get_mut(&node).ok_or(DropReason::UnknownIndex)?;
        let leg = link.leg.as_mut().ok_or(DropReason::UnknownIndex)?;
        let opened = leg.open(&header, from, ecn, datagram, now)?;
        let result = match opened {
            Opened::Packet(packet) => self
                .accept(node, header.counter, packet, now)
                .map(|()| Some(wire::text_of(len))),
            Opened::Joined(packet) => self
                .accept(node, header.counter, &packet, now)
                .map(|()| self.station.out.deliver(&packet))
                .map(|()| None),
            Opened::Control { closed: true, .. } => {
                self.disconnect(node, now);
                Ok(None)
            }
            Opened::Control { .. } | Opened::Nothing => Ok(None),
            Opened::Dropped(reason) => Err(reason),
        };
        self.read_node(node, now);
        self.flush_link(node, now);
        result
    }

    /// An inner packet through `node`: from a client only if the client says so.
    fn accept(
        &mut self,
        node: NodeId,
        counter: u64,
        packet: &[u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let inner = InnerPacket::parse(packet).ok_or(DropReason::Malformed)?;
        if !self.owns(inner.destination) {
            return Err(DropReason::NoRoute);
        }
        // Sites do not speak to each other here.
        let Home::Client(client) = self.station.home_of(inner.source) else {
            return Err(DropReason::NotAllowedSource);
        };
        let known = self.clients.get_mut(&client).ok_or(DropReason::Fenced)?;
        if !known.accepts(node, counter, now) {
            self.fenced += 1;
            if known.may_ask(now) {
                self.answer(node, client, vec![STATE_AGAIN], now);
            }
            return Err(DropReason::Fenced);
        }
        known.note_flow(inner.flow, node, now);
        #[cfg(feature = "testing")]
        self.tracer.note(crate::trace::Trace::SiteAccepted {
            client,
            holder: node,
        });
        Ok(())
    }

    /// An inner packet of the protected network.
    fn send(&mut self, packet: &[u8], now: Timestamp) -> Result<(), DropReason> {
        let inner = InnerPacket::parse(packet).ok_or(DropReason::Malformed)?;
        if !self.owns(inner.source) {
            return Err(DropReason::NotAllowedSource);
        }
        let Home::Client(client) = self.station.home_of(inner.destination) else {
            return Err(DropReason::NoRoute);
        };
        let known = self.clients.get_mut(&client).ok_or(DropReason::NoRoute)?;
        let node = known
            .holder_for(inner.flow, now)
            .ok_or(DropReason::NoRoute)?;
        let link = self.links.get_mut(&node).ok_or(DropReason::NoRoute)?;
        let leg = link.leg.as_mut().ok_or(DropReason::NoRoute)?;
        leg.send_packet(packet, &mut self.station.out, now)?;
        known.note_sent(node, leg.sealing().sealed().saturating_sub(1));
        Ok(())
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.station.home_of(address) == Home::Site(self.me)
    }

    /// A new life: whatever could be sealed twice is erased. Fences stay, but nobody is accepted
    /// on a statement from before: a newer one may have been forgotten.
    fn handle_resumed(&mut self, incarnation: Incarnation, now: Timestamp) {
        self.station.resume(incarnation);
        self.clients.values_mut().for_each(Known::doubt);
        let nodes: Vec<NodeId> = self.links.keys().copied().collect();
        for node in nodes {
            self.disconnect(node, now);
        }
        let config = responder_config(&self.station);
        self.responder = Responder::new(config, &mut *self.station.config.entropy, now);
        self.handle_timeout(now);
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
            ("links", self.links.len()),
            ("clients", self.clients.len()),
            ("channels", self.channels.len()),
            ("attempts", self.station.attempts()),
        ]
        .into()
    }

    fn report(&self) -> SiteReport {
        let connected = self
            .links
            .iter()
            .filter_map(|(node, link)| Some((*node, link.leg.as_ref()?.figures())));
        let holders = self
            .clients
            .iter()
            .filter_map(|(client, known)| Some((*client, known.holder()?)));
        SiteReport {
            nodes: connected.collect(),
            holders: holders.collect(),
            fenced: self.fenced,
            membership: self.station.version(),
            drops: self.station.out.drops().clone(),
        }
    }
}

impl Machine for SiteMachine {
    type Command = SiteCommand;
    type Event = SiteEvent;

    fn handle_datagram(
        &mut self,
        from: SocketAddr,
        ecn: Ecn,
        data: &mut [u8],
        now: Timestamp,
    ) -> Option<Range<usize>> {
        match direction(data) {
            Some(Direction::ToInitiator { receiver }) => {
                if let Some(ended) = self.station.handle_reply(receiver, data, now) {
                    self.handle_ended(ended, now);
                }
            }
            Some(Direction::ToResponder) => self.station.out.drop_because(DropReason::UnknownPeer),
            None => {
                let result = self.handle_packet(from, ecn, data, now);
                return self.station.out.count(result).flatten();
            }
        }
        None
    }

    fn handle_inner(&mut self, packet: &[u8], now: Timestamp) {
        let result = self.send(packet, now);
        self.station.out.count(result);
    }

    fn handle_command(&mut self, command: SiteCommand, now: Timestamp) {
        match command {
            SiteCommand::Report => {
                let report = Box::new(self.report());
                self.emit(SiteEvent::Report(report));
            }
            SiteCommand::Membership(signed) => self.handle_membership(&signed, now),
            SiteCommand::Resumed { incarnation } => self.handle_resumed(incarnation, now),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        if let Some(late) = self.station.note_wake(self.poll_timeout(), now) {
            for leg in self.links.values_mut().filter_map(|link| link.leg.as_mut()) {
                leg.handle_own_delay(late);
            }
        }
        if let Some(seen) = self.station.poll_seen() {
            self.emit(SiteEvent::IncarnationSeen(seen));
        }
        self.responder.handle_timeout(now);
        for ended in self.station.handle_timeout(now) {
            self.handle_ended(ended, now);
        }
        let nodes: Vec<NodeId> = self.links.keys().copied().collect();
        for node in nodes {
            self.tend_link(node, now);
            self.flush_link(node, now);
        }
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.station.out.poll_transmit()
    }

    fn poll_inner(&mut self) -> Option<Vec<u8>> {
        self.station.out.poll_inner()
    }

    fn poll_event(&mut self) -> Option<SiteEvent> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Timestamp {
        let mut next = self
            .station
            .poll_timeout()
            .min(self.responder.poll_timeout());
        for link in self.links.values() {
            next = next.min(link.next_duty(self.patience));
        }
        next
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.station.out.recycle(buffer);
    }
}

impl SiteConfig {
    /// The defaults of everything but the station.
    #[must_use]
    pub const fn new(station: StationConfig) -> Self {
        let quarter = Duration::from_millis(250);
        Self {
            station,
            link: Cadence {
                busy: quarter,
                idle: quarter,
            },
            link_patience: Duration::from_millis(500),
        }
    }
}

/// Relayed handshakes have no address of their own: the client's id stands for it, as a network, so
/// that each client is a source of its own.
fn relay_address(client: ClientId) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::from(u128::from(client.0) << 64).into(), 0)
}

const MAX_EVENTS: usize = 1024;
