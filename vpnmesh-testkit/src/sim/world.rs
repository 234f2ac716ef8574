//! A mesh in virtual time.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use vpnmesh_core::{ByteCount, Membership, NodeId, NodeState, Tier, Timestamp};
use vpnmesh_transport::Incarnation;
use vpnmesh_transport::client::{ClientCommand, ClientEvent, ClientReport};
use vpnmesh_transport::node::{NodeCommand, NodeEvent, NodeReport};
use vpnmesh_transport::site::{SiteCommand, SiteEvent, SiteReport};

use super::actor::{Actor, ActorId, Happened, Input, Journal, Output, Place, SharedEntropy};
use super::app::{self, Delivery, Departure, Flow, RESOURCE_PORT, Stream};
use super::invariant::Witness;
use super::ledger;
use super::members::{self, Disk, Shape};
use crate::link::{Link, LinkModel, Verdict, derive_seed};

/// A datagram under way.
#[derive(Debug)]
struct Flight {
    link: (ActorId, ActorId),
    to: ActorId,
    from: SocketAddr,
    payload: Vec<u8>,
}

/// What becomes of one datagram, beside what its path does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives so much later, behind others that left after it.
    Late(Duration),
    /// It arrives, and once more so much later.
    Again(Duration),
}

/// A mesh in virtual time.
#[derive(Debug)]
pub struct World {
    seed: u64,
    shape: Shape,
    now: Timestamp,
    places: BTreeMap<ActorId, Place>,
    by_address: HashMap<SocketAddr, ActorId>,
    agenda: BTreeMap<(Timestamp, u64), Flight>,
    flights: u64,
    /// Datagrams without inner packets that have left.
    offered: u64,
    fates: BTreeMap<u64, Fate>,
    links: HashMap<(ActorId, ActorId), LinkModel>,
    default_link: Link,
    streams: Vec<Stream>,
    tiers: BTreeMap<usize, Tier>,
    /// What went in, in order.
    pub departures: Vec<Departure>,
    /// What came out, in order.
    pub deliveries: Vec<Delivery>,
    /// What the machines said and what was done to them, in order.
    pub happened: Vec<(Timestamp, Happened)>,
    membership: Membership,
    witness: Witness,
    reseeds: u64,
    watched: Option<(ActorId, ActorId)>,
    /// When datagrams left on the watched path, and how long they were with all headers.
    pub seen_leaving: Vec<(Timestamp, u64)>,
}

impl World {
    /// A mesh whose every choice follows from `seed`; all paths are `link`.
    #[must_use]
    pub fn new(seed: u64, shape: Shape, link: Link) -> Self {
        ledger::reset();
        let membership = members::membership(seed, shape);
        let mut world = Self {
            seed,
            shape,
            now: Timestamp(1_000_000_000),
            places: BTreeMap::new(),
            by_address: HashMap::new(),
            agenda: BTreeMap::new(),
            flights: 0,
            offered: 0,
            fates: BTreeMap::new(),
            links: HashMap::new(),
            default_link: link,
            streams: Vec::new(),
            tiers: BTreeMap::new(),
            departures: Vec::new(),
            deliveries: Vec::new(),
            happened: Vec::new(),
            membership,
            witness: Witness::default(),
            reseeds: 0,
            watched: None,
            seen_leaving: Vec::new(),
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

    /// How large the mesh is.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The virtual time.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// What the laws saw.
    #[must_use]
    pub const fn witness(&self) -> &Witness {
        &self.witness
    }

    /// The actor's machine, if it lives.
    #[must_use]
    pub fn actor(&self, id: ActorId) -> Option<&Actor> {
        self.places.get(&id)?.actor.as_ref()
    }

    /// All machines that live.
    pub fn actors(&self) -> impl Iterator<Item = (ActorId, &Actor)> {
        let living = self.places.iter();
        living.filter_map(|(id, place)| Some((*id, place.actor.as_ref()?)))
    }

    /// Whether an actor lives and is not stopped.
    #[must_use]
    pub fn is_running(&self, id: ActorId) -> bool {
        let place = self.places.get(&id);
        place.is_some_and(|place| place.actor.is_some() && place.frozen.is_none())
    }

    /// Packets that were sent and did not come out, on all flows.
    #[must_use]
    pub fn lost(&self) -> usize {
        let lost = |sent: &&Departure| !self.witness.has(sent.flow, sent.number);
        self.departures.iter().filter(lost).count()
    }

    /// Writes down what is done to the mesh.
    pub fn note(&mut self, what: impl Into<String>) {
        self.happened.push((self.now, Happened::Note(what.into())));
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
        self.put(id, address, disk);
        self.start(id);
    }

    fn put(&mut self, id: ActorId, address: SocketAddr, disk: Disk) {
        let place = Place {
            actor: None,
            address,
            disk,
            lives: 0,
            frozen: None,
            wake: Timestamp::MAX,
            entropy: SharedEntropy::new(0),
            journal: None,
        };
        self.by_address.insert(address, id);
        self.places.insert(id, place);
    }

    /// Starts an actor, or starts it again with what is on its disk.
    pub fn start(&mut self, id: ActorId) {
        let (seed, now) = (self.seed, self.now);
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.disk.incarnation += 1;
        place.lives += 1;
        place.frozen = None;
        let own = place.disk.key_seed ^ u64::from(id.is_twin());
        let life_seed = derive_seed(derive_seed(seed, own), place.lives);
        if place.journal.is_some() {
            place.journal = Some(Journal::new(place.disk.clone(), life_seed, now));
        }
        let (actor, entropy) = Actor::start(id, &place.disk, life_seed, now);
        place.actor = Some(actor);
        place.entropy = entropy;
        self.witness.handle_start(id);
        self.drain(id, None);
        self.set_tier_again(id);
    }

    /// A client's tier stands in its settings.
    fn set_tier_again(&mut self, id: ActorId) {
        if let ActorId::Client(index) = id
            && let Some(tier) = self.tiers.get(&index)
        {
            self.command_client(index, ClientCommand::SetTier(Some(*tier)));
        }
    }

    /// Starts an actor again and keeps a journal of this life, so that it can be snapshotted.
    pub fn restart_with_journal(&mut self, id: ActorId) {
        if let Some(place) = self.places.get_mut(&id) {
            place.actor = None;
            place.journal = Some(Journal::new(place.disk.clone(), 0, self.now));
        }
        self.start(id);
    }

    /// Kills an actor: nothing of its memory is left.
    pub fn kill(&mut self, id: ActorId) {
        if let Some(place) = self.places.get_mut(&id) {
            place.actor = None;
            place.frozen = None;
            place.wake = Timestamp::MAX;
        }
        if id.is_twin()
            && let Some(place) = self.places.remove(&id)
        {
            self.by_address.remove(&place.address);
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
        let frozen = self
            .places
            .get_mut(&id)
            .and_then(|place| place.frozen.take());
        let Some(waiting) = frozen else { return };
        for (from, payload) in waiting {
            self.give(id, Input::Datagram(from, payload));
        }
        self.give(id, Input::Timeout);
    }

    /// Rolls the durable counter of a dead actor back, as a restored disk image does.
    pub fn roll_back(&mut self, id: ActorId, by: u64) {
        self.witness.handle_roll_back(id);
        if let Some(place) = self.places.get_mut(&id) {
            place.disk.incarnation = place.disk.incarnation.saturating_sub(by);
        }
    }

    /// Starts a second actor with the same key and the same counter at another address.
    pub fn clone_process(&mut self, id: ActorId) -> Option<ActorId> {
        let place = self.places.get(&id).filter(|place| place.actor.is_some())?;
        let mut disk = place.disk.clone();
        disk.incarnation = disk.incarnation.saturating_sub(1);
        let twin = id.twin();
        self.put(twin, twin_address(twin), disk);
        self.start(twin);
        Some(twin)
    }

    /// A second actor from a memory snapshot of the first, which goes on; the second is told that
    /// it was resumed. `None` without a journal.
    pub fn clone_memory(&mut self, id: ActorId) -> Option<ActorId> {
        let place = self.places.get(&id).filter(|place| place.actor.is_some())?;
        let (actor, entropy) = place.journal.as_ref()?.rebuild(id, self.now);
        let (twin, disk) = (id.twin(), place.disk.clone());
        self.put(twin, twin_address(twin), disk);
        self.resume_from(twin, actor, entropy);
        Some(twin)
    }

    /// Puts an actor's memory back to what it was `before` now, and tells it. False without a
    /// journal that reaches so far.
    pub fn restore_memory(&mut self, id: ActorId, before: Duration) -> bool {
        let until = self.now - before;
        let Some(place) = self.places.get_mut(&id) else {
            return false;
        };
        let Some(journal) = place.journal.as_mut() else {
            return false;
        };
        journal.cut(until);
        let (actor, entropy) = journal.rebuild(id, until);
        self.witness.handle_start(id);
        self.resume_from(id, actor, entropy);
        self.set_tier_again(id);
        true
    }

    fn resume_from(&mut self, id: ActorId, actor: Actor, entropy: SharedEntropy) {
        if let Some(place) = self.places.get_mut(&id) {
            place.actor = Some(actor);
            place.entropy = entropy;
            place.frozen = None;
        }
        self.resume(id, 0);
    }

    /// The actor's owner advances the durable counter beyond `seen` and tells the machine.
    fn resume(&mut self, id: ActorId, seen: u64) {
        self.reseeds += 1;
        let seed = derive_seed(self.seed ^ 0x5eed, self.reseeds);
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.disk.incarnation = place.disk.incarnation.max(seen) + 1;
        place.entropy.reseed(seed);
        self.witness.handle_start(id);
        let incarnation = Incarnation::new(place.disk.incarnation, &mut place.entropy.clone());
        if let Some(command) = place.actor.as_ref().map(|actor| actor.resumed(incarnation)) {
            self.give(id, command);
        }
    }

    /// A client's outer address changes.
    pub fn roam(&mut self, client: usize) {
        let id = ActorId::Client(client);
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        self.by_address.remove(&place.address);
        place.address.set_port(place.address.port() + 1);
        if let SocketAddr::V4(address) = &mut place.address {
            let [a, b, c, d] = address.ip().octets();
            address.set_ip(Ipv4Addr::new(a, b, c ^ 0x40, d));
        }
        self.by_address.insert(place.address, id);
    }

    /// The path from one actor to another, as it is now.
    pub fn link(&mut self, from: ActorId, to: ActorId) -> Link {
        self.model(from, to).link()
    }

    /// Sets one direction of the path between two actors.
    pub fn set_way(&mut self, from: ActorId, to: ActorId, link: Link) {
        self.model(from, to).set(link);
    }

    /// Sets the path between two actors, both ways.
    pub fn set_link(&mut self, a: ActorId, b: ActorId, link: Link) {
        self.set_way(a, b, link);
        self.set_way(b, a, link);
    }

    /// Sets all paths.
    pub fn set_all_links(&mut self, link: Link) {
        self.default_link = link;
        for model in self.links.values_mut() {
            model.set(link);
        }
    }

    /// How many datagrams without inner packets have left their senders so far: handshakes,
    /// activations, control.
    #[must_use]
    pub const fn offered(&self) -> u64 {
        self.offered
    }

    /// Decides what becomes of single datagrams, by their numbers as [`World::offered`] counts
    /// them.
    pub fn set_fates(&mut self, fates: impl IntoIterator<Item = (u64, Fate)>) {
        self.fates = fates.into_iter().collect();
    }

    /// Writes down every datagram from one actor to another, from now on.
    pub fn watch(&mut self, from: ActorId, to: ActorId) {
        self.watched = Some((from, to));
        self.seen_leaving.clear();
    }

    /// Starts a stream of packets from a client to a site's resource, which echoes them.
    pub fn stream(&mut self, client: usize, site: usize, port: u16, every: Duration) {
        let up = true;
        let flow = Flow {
            client,
            site,
            port,
            up,
        };
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

    /// Commands a node.
    pub fn command_node(&mut self, index: usize, command: NodeCommand) {
        self.give(ActorId::Node(index), Input::Node(command));
    }

    /// Commands a client.
    pub fn command_client(&mut self, index: usize, command: ClientCommand) {
        self.give(ActorId::Client(index), Input::Client(command));
    }

    /// Commands a site.
    pub fn command_site(&mut self, index: usize, command: SiteCommand) {
        self.give(ActorId::Site(index), Input::Site(command));
    }

    /// Sets the tier of a client in its live session.
    pub fn set_tier(&mut self, client: usize, tier: Tier) {
        self.tiers.insert(client, tier);
        self.command_client(client, ClientCommand::SetTier(Some(tier)));
    }

    /// The tier that a client asked for.
    #[must_use]
    pub fn tier(&self, client: usize) -> Tier {
        self.tiers.get(&client).copied().unwrap_or(self.shape.tier)
    }

    /// Signs a membership in which a node has another state, and tells another running node.
    pub fn set_node_state(&mut self, node: usize, state: NodeState) {
        self.membership.version.index += 1;
        if let Some(entry) = self.membership.nodes.get_mut(node) {
            entry.state = state;
        }
        self.tell_membership(node);
    }

    /// Tells the membership in force to one running node, not to `except`, which others may not
    /// speak to; the mesh carries it further.
    pub fn tell_membership(&mut self, except: usize) {
        let fit = |index: &usize| *index != except && self.is_running(ActorId::Node(*index));
        let signed = members::sign(&self.membership);
        if let Some(told) = (0..self.shape.nodes).find(fit) {
            self.command_node(told, NodeCommand::Membership(signed));
        }
    }

    /// The index of a node.
    #[must_use]
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.membership
            .nodes
            .iter()
            .position(|entry| entry.id == node)
    }

    /// A client in figures, if it runs.
    pub fn report(&mut self, client: usize) -> Option<ClientReport> {
        self.command_client(client, ClientCommand::Report);
        match self.happened.pop()?.1 {
            Happened::Client(_, ClientEvent::Report(report)) => Some(*report),
            _ => None,
        }
    }

    /// A node in figures, if it runs.
    pub fn node_report(&mut self, node: usize) -> Option<NodeReport> {
        self.command_node(node, NodeCommand::Report);
        match self.happened.pop()?.1 {
            Happened::Node(_, NodeEvent::Report(report)) => Some(*report),
            _ => None,
        }
    }

    /// A site in figures, if it runs.
    pub fn site_report(&mut self, site: usize) -> Option<SiteReport> {
        self.command_site(site, SiteCommand::Report);
        match self.happened.pop()?.1 {
            Happened::Site(_, SiteEvent::Report(report)) => Some(*report),
            _ => None,
        }
    }

    /// The holder of a client, and its roster.
    pub fn holder(&mut self, client: usize) -> Option<(usize, Vec<usize>)> {
        let report = self.report(client)?;
        let roster = report
            .roster
            .iter()
            .filter_map(|node| self.index_of(*node))
            .collect();
        Some((self.index_of(report.active?)?, roster))
    }

    /// Runs for a span of virtual time, or until a law is broken.
    pub fn run(&mut self, span: Duration) {
        self.run_until(self.now + span, |_| false);
    }

    /// Runs until `done`, at most to `end`; whether it was done. Stops when a law is broken.
    pub fn run_until(&mut self, end: Timestamp, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let next = self.next_moment();
            if next > end {
                self.now = self.now.max(end);
                return false;
            }
            self.now = self.now.max(next);
            self.step();
            self.witness.handle_step();
            if self.witness.broken().is_some() {
                return false;
            }
        }
    }

    fn next_moment(&self) -> Timestamp {
        let agenda = self
            .agenda
            .first_key_value()
            .map_or(Timestamp::MAX, |((at, _), _)| *at);
        let running = self.places.values().filter(|place| place.frozen.is_none());
        let wake = running
            .map(|place| place.wake)
            .min()
            .unwrap_or(Timestamp::MAX);
        let stream = self.streams.iter().map(|stream| stream.next).min();
        agenda.min(wake).min(stream.unwrap_or(Timestamp::MAX))
    }

    fn step(&mut self) {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            let flight = entry.remove();
            if !self
                .links
                .get(&flight.link)
                .is_some_and(|model| model.link().cut)
            {
                self.arrive(flight.to, flight.from, flight.payload);
            }
        }
        self.feed_streams();
        let due = self
            .places
            .iter()
            .filter(|(_, place)| place.wake <= self.now);
        let due: Vec<ActorId> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.witness.handle_timer(id, self.now);
            self.give(id, Input::Timeout);
        }
    }

    fn arrive(&mut self, to: ActorId, from: SocketAddr, payload: Vec<u8>) {
        let Some(place) = self.places.get_mut(&to) else {
            return;
        };
        match &mut place.frozen {
            Some(waiting) if waiting.len() < INBOX => waiting.push((from, payload)),
            Some(_) => {}
            None => {
                self.give(to, Input::Datagram(from, payload));
            }
        }
    }

    /// Gives an actor something and takes everything out; whether it runs.
    fn give(&mut self, id: ActorId, input: Input) -> bool {
        let now = self.now;
        let place = self
            .places
            .get_mut(&id)
            .filter(|place| place.frozen.is_none());
        let Some(place) = place else { return false };
        let Some(actor) = place.actor.as_mut() else {
            return false;
        };
        if let Some(journal) = &mut place.journal {
            journal.note(now, &input);
        }
        let arrived = actor.apply(input, now);
        self.drain(id, arrived);
        true
    }

    /// Takes out what an actor has to give, behind the inner packet that just `arrived` there.
    fn drain(&mut self, id: ActorId, arrived: Option<Vec<u8>>) {
        let now = self.now;
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        let Some(actor) = place.actor.as_mut() else {
            return;
        };
        let address = place.address;
        let Output {
            datagrams,
            inner,
            events,
            traces,
            wake,
        } = actor.drain(id.index());
        // A machine that asks for "now" is asked again a little later, as by a real clock.
        place.wake = grid(wake).max(now + GRID);
        for trace in traces {
            self.witness.handle_trace(id, trace, now);
        }
        let mut seen = None;
        for event in events {
            seen = seen.max(event.seen());
            if let (Some(signed), Some(place)) = (event.membership(), self.places.get_mut(&id)) {
                place.disk.membership = signed.to_vec();
            }
            self.witness.handle_event(id, &event, now);
            if !matches!(event, Happened::Node(_, NodeEvent::PeerHealth { .. })) {
                self.happened.push((now, event));
            }
        }
        for transmit in datagrams {
            if let Some(to) = self.by_address.get(&transmit.to).copied() {
                for datagram in transmit.datagrams() {
                    self.carry(id, to, address, datagram.to_vec());
                }
            }
        }
        for packet in arrived.into_iter().chain(inner) {
            self.deliver(id, &packet);
        }
        if let Some(seen) = seen {
            self.resume(id, seen);
        }
    }

    fn carry(&mut self, from: ActorId, to: ActorId, address: SocketAddr, payload: Vec<u8>) {
        let now = self.now;
        let size = ByteCount(payload.len() as u64 + 28);
        if self.watched == Some((from, to)) {
            self.seen_leaving.push((now, size.0));
        }
        let fate = self.fate_of(&payload);
        let Verdict::Deliver(at) = self.model(from, to).offer(size, now) else {
            return;
        };
        let (at, again) = match fate {
            None => (Some(at), None),
            Some(Fate::Lost) => (None, None),
            Some(Fate::Late(by)) => (Some(at + by), None),
            Some(Fate::Again(after)) => (Some(at), Some(at + after)),
        };
        let again = again.map(|at| (at, payload.clone()));
        let once = at.map(|at| (at, payload));
        for (at, payload) in once.into_iter().chain(again) {
            self.flights += 1;
            let flight = Flight {
                link: (from, to),
                to,
                from: address,
                payload,
            };
            self.agenda.insert((at, self.flights), flight);
        }
    }

    /// What was decided about this datagram, which is about to leave.
    fn fate_of(&mut self, payload: &[u8]) -> Option<Fate> {
        if matches!(payload.first(), Some(&(DATA | SPLIT))) {
            return None;
        }
        self.offered += 1;
        self.fates.get(&(self.offered - 1)).copied()
    }

    fn model(&mut self, from: ActorId, to: ActorId) -> &mut LinkModel {
        let number = |id: ActorId| match id {
            ActorId::Node(index) => index as u64,
            ActorId::Client(index) => 1000 + index as u64,
            ActorId::Site(index) => 2000 + index as u64,
        };
        let seed = derive_seed(self.seed, number(from) * 10_000 + number(to));
        let link = self.default_link;
        let model = self.links.entry((from, to));
        model.or_insert_with(|| LinkModel::new(link, seed))
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
            let ends = (
                members::client_inner(flow.client),
                members::site_inner(flow.site),
            );
            let packet = app::packet(ends, (flow.port, RESOURCE_PORT), number, now);
            self.send_inner(ActorId::Client(flow.client), flow, number, packet);
        }
    }

    fn send_inner(&mut self, id: ActorId, flow: Flow, number: u64, packet: Vec<u8>) {
        let at = self.now;
        if self.is_running(id) {
            self.departures.push(Departure { flow, number, at });
            self.give(id, Input::Inner(packet));
        }
    }

    /// A packet came out of the mesh: noted, and echoed if it reached a resource.
    fn deliver(&mut self, id: ActorId, packet: &[u8]) {
        let Some((source, destination, number, sent)) = app::read(packet) else {
            return;
        };
        let octet = |at: usize| usize::from(packet[at]) - 1;
        let index = id.index();
        let flow = match id {
            ActorId::Site(_) if id.is_twin() => return, // no resource stands behind it
            ActorId::Site(site) => Flow {
                client: octet(15),
                site,
                port: source,
                up: true,
            },
            ActorId::Client(_) => Flow {
                client: index % 100,
                site: octet(14),
                port: destination,
                up: false,
            },
            ActorId::Node(_) => return,
        };
        let at = self.now;
        let delivery = Delivery {
            flow,
            number,
            sent,
            at,
        };
        self.witness.handle_delivery(&delivery);
        self.deliveries.push(delivery);
        if flow.up {
            let ends = (
                members::site_inner(flow.site),
                members::client_inner(flow.client),
            );
            let echo = app::packet(ends, (RESOURCE_PORT, flow.port), number, at);
            self.send_inner(id, Flow { up: false, ..flow }, number, echo);
        }
    }
}

fn twin_address(id: ActorId) -> SocketAddr {
    let group = match id {
        ActorId::Node(_) => 11,
        ActorId::Site(_) => 12,
        ActorId::Client(_) => 13,
    };
    members::outer(group, id.index())
}

/// Timers fire on a coarse grid, as a kernel's do.
fn grid(at: Timestamp) -> Timestamp {
    let step = GRID.as_nanos() as u64;
    Timestamp(at.0.div_ceil(step).saturating_mul(step))
}

/// The first bytes of datagrams with inner packets.
const DATA: u8 = 0x10;
const SPLIT: u8 = 0x12;
/// A socket's receive buffer, in datagrams.
const INBOX: usize = 200;
const GRID: Duration = Duration::from_micros(200);
