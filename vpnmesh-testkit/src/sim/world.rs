//! A mesh in virtual time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use vpnmesh_core::{ByteCount, Membership, NodeId, Timestamp};
use vpnmesh_transport::client::{ClientCommand, ClientEvent, ClientMachine};
use vpnmesh_transport::node::{NodeCommand, NodeEvent, NodeMachine};
use vpnmesh_transport::site::{SiteEvent, SiteMachine};
use vpnmesh_transport::Machine;

use super::app::{self, Delivery, Flow, RESOURCE_PORT};
use super::ledger;
use super::members::{self, Disk, Shape};
use crate::link::{Link, LinkModel, Verdict, derive_seed};

/// An actor of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActorId {
    /// The node of that index.
    Node(usize),
    /// The client of that index.
    Client(usize),
    /// The site of that index.
    Site(usize),
}

/// The machine of an actor.
#[derive(Debug)]
pub enum Actor {
    /// A node.
    Node(Box<NodeMachine>),
    /// A client.
    Client(Box<ClientMachine>),
    /// A site.
    Site(Box<SiteMachine>),
}

/// What a world tells its test.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// From a node.
    Node(usize, NodeEvent),
    /// From a client.
    Client(usize, ClientEvent),
    /// From a site.
    Site(usize, SiteEvent),
}

#[derive(Debug)]
struct Place {
    actor: Option<Actor>,
    address: SocketAddr,
    disk: Disk,
    lives: u64,
    /// Stopped as by SIGSTOP: what arrives waits; at most [`INBOX`] datagrams.
    frozen: Option<Vec<(SocketAddr, Vec<u8>)>>,
    wake: Timestamp,
}

/// A stream of numbered packets of a client to a site, echoed by the site's resource.
#[derive(Debug, Clone, Copy)]
struct Stream {
    flow: Flow,
    every: Duration,
    next: Timestamp,
    number: u64,
}

#[derive(Debug)]
enum Incident {
    Arrive { to: ActorId, from: SocketAddr, payload: Vec<u8> },
}

/// A mesh in virtual time.
#[derive(Debug)]
pub struct World {
    seed: u64,
    now: Timestamp,
    places: BTreeMap<ActorId, Place>,
    by_address: HashMap<SocketAddr, ActorId>,
    agenda: BTreeMap<(Timestamp, u64), Incident>,
    incidents: u64,
    links: BTreeMap<(ActorId, ActorId), LinkModel>,
    default_link: Link,
    streams: Vec<Stream>,
    /// What came out, in order.
    pub deliveries: Vec<Delivery>,
    /// Packets that came out a second time.
    pub duplicates: Vec<Delivery>,
    seen: BTreeSet<(Flow, u64)>,
    sent: BTreeMap<Flow, u64>,
    /// What the machines said, in order.
    pub happened: Vec<(Timestamp, Happened)>,
    membership: Membership,
}

impl World {
    /// A mesh whose every choice follows from `seed`; all paths are `link`.
    #[must_use]
    pub fn new(seed: u64, shape: Shape, link: Link) -> Self {
        ledger::reset();
        let membership = members::membership(seed, shape);
        let mut world = Self {
            seed,
            now: Timestamp(1_000_000_000),
            places: BTreeMap::new(),
            by_address: HashMap::new(),
            agenda: BTreeMap::new(),
            incidents: 0,
            links: BTreeMap::new(),
            default_link: link,
            streams: Vec::new(),
            deliveries: Vec::new(),
            duplicates: Vec::new(),
            seen: BTreeSet::new(),
            sent: BTreeMap::new(),
            happened: Vec::new(),
            membership,
        };
        let groups = [
            (1, shape.nodes, ActorId::Node as fn(usize) -> ActorId),
            (2, shape.sites, ActorId::Site),
            (3, shape.clients, ActorId::Client),
        ];
        for (group, count, id) in groups {
            for index in 0..count {
                world.place(id(index), members::outer(group, index));
            }
        }
        world
    }

    fn place(&mut self, id: ActorId, address: SocketAddr) {
        let number = match id {
            ActorId::Node(index) => members::node_id(index).0,
            ActorId::Client(index) => members::client_id(index).0,
            ActorId::Site(index) => members::site_id(index).0,
        };
        let disk = Disk {
            key_seed: members::key_seed(self.seed, number),
            incarnation: 0,
            membership: members::sign(&self.membership),
        };
        let place = Place {
            actor: None,
            address,
            disk,
            lives: 0,
            frozen: None,
            wake: Timestamp::MAX,
        };
        self.by_address.insert(address, id);
        self.places.insert(id, place);
        self.start(id);
    }

    /// Starts an actor, or starts it again with what is on its disk.
    pub fn start(&mut self, id: ActorId) {
        let (seed, now) = (self.seed, self.now);
        let Some(place) = self.places.get_mut(&id) else { return };
        place.disk.incarnation += 1;
        place.lives += 1;
        place.frozen = None;
        let life_seed = derive_seed(derive_seed(seed, place.disk.key_seed), place.lives);
        let actor = match id {
            ActorId::Node(_) => {
                let config = members::node_config(&place.disk, life_seed);
                NodeMachine::new(config, now).map(|node| Actor::Node(Box::new(node)))
            }
            ActorId::Client(_) => {
                let config = members::client_config(&place.disk, life_seed);
                ClientMachine::new(config, now).map(|client| Actor::Client(Box::new(client)))
            }
            ActorId::Site(_) => {
                let config = members::site_config(&place.disk, life_seed);
                SiteMachine::new(config, now).map(|site| Actor::Site(Box::new(site)))
            }
        };
        place.actor = Some(actor.expect("a simulated membership names all its actors"));
        self.drain(id);
    }

    /// Kills an actor: nothing of its memory is left.
    pub fn kill(&mut self, id: ActorId) {
        if let Some(place) = self.places.get_mut(&id) {
            place.actor = None;
            place.frozen = None;
            place.wake = Timestamp::MAX;
        }
    }

    /// Stops an actor as SIGSTOP does: its memory stays, what arrives waits.
    pub fn freeze(&mut self, id: ActorId) {
        if let Some(place) = self.places.get_mut(&id) {
            place.frozen.get_or_insert_with(Vec::new);
        }
    }

    /// Lets a stopped actor go on.
    pub fn thaw(&mut self, id: ActorId) {
        let Some(waiting) = self.places.get_mut(&id).and_then(|place| place.frozen.take()) else { return };
        for (from, payload) in waiting {
            self.arrive(id, from, payload);
        }
        self.wake(id);
    }

    /// Rolls the durable counter of a dead actor back, as a restored disk image does.
    pub fn roll_back(&mut self, id: ActorId, by: u64) {
        if let Some(place) = self.places.get_mut(&id) {
            place.disk.incarnation = place.disk.incarnation.saturating_sub(by);
        }
    }

    /// Sets the path between two actors, both ways.
    pub fn set_link(&mut self, a: ActorId, b: ActorId, link: Link) {
        self.model(a, b).set(link);
        self.model(b, a).set(link);
    }

    /// Sets all paths.
    pub fn set_all_links(&mut self, link: Link) {
        self.default_link = link;
        for model in self.links.values_mut() {
            model.set(link);
        }
    }

    /// Starts a stream of packets from a client to a site's resource, which echoes them.
    pub fn stream(&mut self, client: usize, site: usize, port: u16, every: Duration) {
        let flow = Flow { client, site, port, up: true };
        self.streams.push(Stream {
            flow,
            every,
            next: self.now,
            number: 0,
        });
    }

    /// Stops all streams.
    pub fn hush(&mut self) {
        self.streams.clear();
    }

    /// How many packets were sent on each flow.
    #[must_use]
    pub const fn sent(&self) -> &BTreeMap<Flow, u64> {
        &self.sent
    }

    /// The virtual time.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The actor's machine, if it lives.
    pub fn actor(&mut self, id: ActorId) -> Option<&mut Actor> {
        self.places.get_mut(&id)?.actor.as_mut()
    }

    /// Whether an actor lives and is not stopped.
    #[must_use]
    pub fn is_running(&self, id: ActorId) -> bool {
        self.places.get(&id).is_some_and(|place| place.actor.is_some() && place.frozen.is_none())
    }

    /// Commands a node.
    pub fn command_node(&mut self, index: usize, command: NodeCommand) {
        let (id, now) = (ActorId::Node(index), self.now);
        if let Some(Actor::Node(node)) = self.actor(id) {
            node.handle_command(command, now);
        }
        self.drain(id);
    }

    /// Commands a client.
    pub fn command_client(&mut self, index: usize, command: ClientCommand) {
        let (id, now) = (ActorId::Client(index), self.now);
        if let Some(Actor::Client(client)) = self.actor(id) {
            client.handle_command(command, now);
        }
        self.drain(id);
    }

    /// The index of a node.
    #[must_use]
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.membership.nodes.iter().position(|entry| entry.id == node)
    }

    /// The holder of a client, and its roster.
    pub fn holder(&mut self, client: usize) -> Option<(usize, Vec<usize>)> {
        self.command_client(client, ClientCommand::Report);
        let report = self.happened.iter().rev().find_map(|(_, happened)| match happened {
            Happened::Client(index, ClientEvent::Report(report)) if *index == client => Some(report.clone()),
            _ => None,
        })?;
        let roster = report.roster.iter().filter_map(|node| self.index_of(*node)).collect();
        Some((self.index_of(report.active?)?, roster))
    }

    /// Runs for a span of virtual time.
    pub fn run(&mut self, span: Duration) {
        self.run_until(self.now + span, |_| false);
    }

    /// Runs until `done`, at most to `end`; whether it was done.
    pub fn run_until(&mut self, end: Timestamp, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let next = self.next_moment();
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn next_moment(&self) -> Timestamp {
        let agenda = self.agenda.first_key_value().map_or(Timestamp::MAX, |((at, _), _)| *at);
        let running = self.places.values().filter(|place| place.actor.is_some() && place.frozen.is_none());
        let wake = running.map(|place| place.wake).min().unwrap_or(Timestamp::MAX);
        let stream = self.streams.iter().map(|stream| stream.next).min().unwrap_or(Timestamp::MAX);
        agenda.min(wake).min(stream)
    }

    fn step(&mut self) {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            let Incident::Arrive { to, from, payload } = entry.remove();
            self.arrive(to, from, payload);
        }
        self.feed_streams();
        let due: Vec<ActorId> = self.places.iter().filter(|(_, place)| place.wake <= self.now).map(|(id, _)| *id).collect();
        for id in due {
            self.wake(id);
        }
    }

    fn arrive(&mut self, to: ActorId, from: SocketAddr, mut payload: Vec<u8>) {
        let now = self.now;
        let Some(place) = self.places.get_mut(&to) else { return };
        if let Some(waiting) = &mut place.frozen {
            if waiting.len() < INBOX {
                waiting.push((from, payload));
            }
            return;
        }
        match &mut place.actor {
            Some(Actor::Node(node)) => node.handle_datagram(from, &mut payload, now),
            Some(Actor::Client(client)) => client.handle_datagram(from, &mut payload, now),
            Some(Actor::Site(site)) => site.handle_datagram(from, &mut payload, now),
            None => return,
        }
        self.drain(to);
    }

    fn wake(&mut self, id: ActorId) {
        let now = self.now;
        let Some(place) = self.places.get_mut(&id).filter(|place| place.frozen.is_none()) else { return };
        match &mut place.actor {
            Some(Actor::Node(node)) => node.handle_timeout(now),
            Some(Actor::Client(client)) => client.handle_timeout(now),
            Some(Actor::Site(site)) => site.handle_timeout(now),
            None => return,
        }
        self.drain(id);
    }

    /// Takes everything out of an actor.
    fn drain(&mut self, id: ActorId) {
        match id {
            ActorId::Node(index) => self.drain_one(id, |happened| Happened::Node(index, happened), |actor| match actor {
                Actor::Node(node) => Some(&mut **node),
                Actor::Client(_) | Actor::Site(_) => None,
            }),
            ActorId::Client(index) => self.drain_one(id, |happened| Happened::Client(index, happened), |actor| match actor {
                Actor::Client(client) => Some(&mut **client),
                Actor::Node(_) | Actor::Site(_) => None,
            }),
            ActorId::Site(index) => self.drain_one(id, |happened| Happened::Site(index, happened), |actor| match actor {
                Actor::Site(site) => Some(&mut **site),
                Actor::Node(_) | Actor::Client(_) => None,
            }),
        }
    }

    fn drain_one<M: Machine>(
        &mut self,
        id: ActorId,
        wrap: impl Fn(M::Event) -> Happened,
        pick: impl Fn(&mut Actor) -> Option<&mut M>,
    ) {
        let (mut datagrams, mut inner) = (Vec::new(), Vec::new());
        let now = self.now;
        let Some(place) = self.places.get_mut(&id) else { return };
        let address = place.address;
        let Some(machine) = place.actor.as_mut().and_then(pick) else { return };
        while let Some(transmit) = machine.poll_transmit() {
            datagrams.push(transmit);
        }
        while let Some(packet) = machine.poll_inner() {
            inner.push(packet);
        }
        while let Some(event) = machine.poll_event() {
            self.happened.push((now, wrap(event)));
        }
        place.wake = machine.poll_timeout().max(now + MIN_WAKE);
        for transmit in datagrams {
            if let Some(to) = self.by_address.get(&transmit.to).copied() {
                self.carry(id, to, address, transmit.payload);
            }
        }
        for packet in inner {
            self.deliver(id, &packet);
        }
    }

    fn carry(&mut self, from: ActorId, to: ActorId, address: SocketAddr, payload: Vec<u8>) {
        let now = self.now;
        let size = ByteCount(payload.len() as u64 + 28);
        if let Verdict::Deliver(at) = self.model(from, to).offer(size, now) {
            self.incidents += 1;
            let incident = Incident::Arrive { to, from: address, payload };
            self.agenda.insert((at, self.incidents), incident);
        }
    }

    fn model(&mut self, from: ActorId, to: ActorId) -> &mut LinkModel {
        let number = |id: ActorId| match id {
            ActorId::Node(index) => index as u64,
            ActorId::Client(index) => 1000 + index as u64,
            ActorId::Site(index) => 2000 + index as u64,
        };
        let seed = derive_seed(self.seed, number(from) * 10_000 + number(to));
        let link = self.default_link;
        self.links.entry((from, to)).or_insert_with(|| LinkModel::new(link, seed))
    }

    fn feed_streams(&mut self) {
        let now = self.now;
        let mut due = Vec::new();
        for stream in self.streams.iter_mut().filter(|stream| stream.next <= now) {
            due.push((stream.flow, stream.number));
            stream.number += 1;
            stream.next = now + stream.every;
        }
        for (flow, number) in due {
            let ends = (members::client_inner(flow.client), members::site_inner(flow.site));
            let packet = app::packet(ends, (flow.port, RESOURCE_PORT), number, now);
            self.send_inner(ActorId::Client(flow.client), &packet);
            *self.sent.entry(flow).or_default() += 1;
        }
    }

    fn send_inner(&mut self, id: ActorId, packet: &[u8]) {
        let now = self.now;
        let Some(place) = self.places.get_mut(&id).filter(|place| place.frozen.is_none()) else { return };
        match &mut place.actor {
            Some(Actor::Client(client)) => client.handle_inner(packet, now),
            Some(Actor::Site(site)) => site.handle_inner(packet, now),
            Some(Actor::Node(_)) | None => return,
        }
        self.drain(id);
    }

    /// A packet came out of the mesh: noted, and echoed if it reached a resource.
    fn deliver(&mut self, id: ActorId, packet: &[u8]) {
        let Some((source, destination, number, sent)) = app::read(packet) else { return };
        let octet = |at: usize| usize::from(packet[at]) - 1;
        let flow = match id {
            ActorId::Site(site) => Flow { client: octet(15), site, port: source, up: true },
            ActorId::Client(client) => Flow { client, site: octet(14), port: destination, up: false },
            ActorId::Node(_) => return,
        };
        let delivery = Delivery {
            flow,
            number,
            sent,
            at: self.now,
        };
        if !self.seen.insert((flow, number)) {
            self.duplicates.push(delivery);
            return;
        }
        self.deliveries.push(delivery);
        if flow.up {
            let ends = (members::site_inner(flow.site), members::client_inner(flow.client));
            let echo = app::packet(ends, (RESOURCE_PORT, flow.port), number, self.now);
            *self.sent.entry(Flow { up: false, ..flow }).or_default() += 1;
            self.send_inner(id, &echo);
        }
    }
}

/// A socket's receive buffer, in datagrams.
const INBOX: usize = 200;
/// A machine that asks for "now" is asked again a little later, as by a real clock.
const MIN_WAKE: Duration = Duration::from_micros(10);
