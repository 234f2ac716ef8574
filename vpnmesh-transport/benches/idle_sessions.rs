//! What idle sessions cost a primary and its shadows.
//!
//! `cargo bench -p vpnmesh-transport --bench idle_sessions [-- SESSIONS]`: 100 000 sessions by default,
//! each by a real handshake with a key of its own, on one primary with two shadows, in virtual time
//! over paths of 1 ms. Clients are no whole client machines (each would keep the membership of all
//! others): they shake hands, take their roster and then only keep their path alive.
//! Bytes are those of the wire with IP and UDP headers and the primary's and the shadows' answers;
//! CPU time is that of all three nodes' own code; memory is what the heap gives back with a node.

#![allow(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, Prefix, Region, SessionId,
    ShadowPolicy, Tier, Timestamp, Version,
};
use vpnmesh_transport::handshake::{Attempt, Direction, Initiator, Progress, direction};
use vpnmesh_transport::leg::{Cadence, Leg};
use vpnmesh_transport::message::{self, ClientMessage, HolderMessage};
use vpnmesh_transport::node::{
    NodeCommand, NodeConfig, NodeEvent, NodeMachine, NodeReport, NodeTimers,
};
use vpnmesh_transport::outbox::Outbox;
use vpnmesh_transport::station::{FirstBranch, Hello};
use vpnmesh_transport::wire::Header;
use vpnmesh_transport::{
    Ciphers, CryptoSuite, Ecn, Exchange, Identity, Incarnation, Machine, Profile, SeededEntropy,
    Transmit,
};

use common::{cpu_time, identity, station};

fn main() {
    let sessions = std::env::args().filter_map(|word| word.parse().ok()).next();
    let sessions = sessions.unwrap_or(100_000);
    let mut mesh = Mesh::new(sessions);
    mesh.run(Duration::from_secs(2));
    mesh.start_clients();
    mesh.run(Duration::from_secs(30));
    let report = mesh.report(0);
    assert_eq!(
        (report.sessions, report.covered),
        (sessions, sessions),
        "all have their shadows"
    );
    println!(
        "{sessions} sessions, {} shadows each",
        Tier::Standard.shadows()
    );
    let setup = mesh.bytes_between_nodes() as f64 / sessions as f64;
    println!(
        "{:52} {setup:10.0} B",
        "to hand one session to its shadows, on the wire"
    );
    mesh.measure(Duration::from_secs(60));
    let left = mesh.report(0);
    assert_eq!(left.covered, sessions, "none was lost meanwhile");
    mesh.measure_memory();
}

/// Three nodes and their idle clients.
struct Mesh {
    now: Timestamp,
    nodes: Vec<Option<NodeMachine>>,
    clients: Vec<Client>,
    flights: BTreeMap<(Timestamp, u64), Flight>,
    number: u64,
    wakes: BTreeSet<(Timestamp, usize)>,
    /// Bytes from one node to another.
    carried: HashMap<(usize, usize), u64>,
    cpu: Vec<Duration>,
}

/// A datagram under way.
struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    payload: Vec<u8>,
}

/// A client that has nothing to say.
struct Client {
    identity: Identity,
    session: SessionId,
    initiator: Option<Initiator>,
    leg: Option<Leg>,
    wake: Timestamp,
}

impl Mesh {
    fn new(sessions: usize) -> Self {
        let suite = CryptoSuite::preferred();
        let clients: Vec<Client> = (0..sessions)
            .map(|index| Client {
                identity: identity(&suite, FIRST_CLIENT + index as u64),
                session: SessionId::new(client_id(index), (index as u64).to_le_bytes()),
                initiator: None,
                leg: None,
                wake: Timestamp::MAX,
            })
            .collect();
        let membership = membership(&suite, &clients);
        let now = Timestamp(1_000_000_000);
        let node = |index: usize| {
            let config = NodeConfig {
                station: station(&suite, index as u64, &membership),
                shadows: ShadowPolicy::default(),
                timers: NodeTimers::default(),
            };
            Some(NodeMachine::new(config, now).unwrap())
        };
        Self {
            now,
            nodes: (0..NODES).map(node).collect(),
            clients,
            flights: BTreeMap::new(),
            number: 0,
            wakes: BTreeSet::new(),
            carried: HashMap::new(),
            cpu: vec![Duration::ZERO; NODES],
        }
    }

    /// All clients shake hands with the first node, 500 a second.
    fn start_clients(&mut self) {
        let suite = CryptoSuite::preferred();
        let mut entropy = SeededEntropy::new(1);
        let primary = identity(&suite, 0).public();
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let hello = Hello::Session {
                session: client.session,
                generation: 1,
                number: 1,
                refresh: false,
            };
            let attempt = Attempt {
                suite,
                identity: &client.identity,
                peer: primary,
                site_secret: None,
                profile: Profile::Standard,
                exchange: Exchange::Hybrid,
                ciphers: Ciphers::of(&vpnmesh_transport::Cipher::ALL),
                incarnation: Incarnation::default(),
                counter: 1,
                local_index: index as u32 + 1,
                payload: &message::encode(&hello),
                cookie: None,
                retry: Duration::from_secs(1),
            };
            let mut initiator = Initiator::new(attempt, &mut entropy, self.now).unwrap();
            while let Some(payload) = initiator.poll_transmit() {
                let transmit = Transmit::one(node_address(0), payload);
                self.send(client_address(index), &transmit);
            }
            self.clients[index].initiator = Some(initiator);
            self.run(Duration::from_millis(2));
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(next) = self.next_moment().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            while let Some(entry) = self.flights.first_entry()
                && entry.key().0 <= self.now
            {
                let flight = entry.remove();
                self.arrive(flight);
            }
            for index in 0..NODES {
                let due = |node: &NodeMachine| node.poll_timeout() <= self.now;
                if self.nodes[index].as_ref().is_some_and(due) {
                    let now = self.now;
                    self.with_node(index, |node| node.handle_timeout(now));
                }
            }
            while let Some((at, index)) = self.wakes.first().copied()
                && at <= self.now
            {
                self.wakes.remove(&(at, index));
                self.clients[index].wake = Timestamp::MAX;
                self.flush_client(index);
            }
        }
        self.now = end;
    }

    fn next_moment(&self) -> Option<Timestamp> {
        let flight = self.flights.first_key_value().map(|((at, _), _)| *at);
        let wake = self.wakes.first().map(|(at, _)| *at);
        let nodes = self.nodes.iter().flatten().map(Machine::poll_timeout);
        // A machine that asks for "now" is asked again a little later, as by a real clock.
        let nodes = nodes
            .min()
            .map(|at| at.max(self.now + Duration::from_micros(200)));
        [flight, wake, nodes].into_iter().flatten().min()
    }

    fn arrive(&mut self, flight: Flight) {
        let Flight {
            from,
            to,
            mut payload,
        } = flight;
        let now = self.now;
        if let Some(index) = index_of(to, NODE_NET) {
            self.with_node(index, |node| {
                node.handle_datagram(from, Ecn::NotEct, &mut payload, now);
            });
        } else if let Some(index) = index_of(to, CLIENT_NET) {
            self.hear(index, from, &mut payload);
        }
    }

    /// Runs a node's code, measures it, and takes out what it sends.
    fn with_node(&mut self, index: usize, work: impl FnOnce(&mut NodeMachine)) {
        let Some(mut node) = self.nodes[index].take() else {
            return;
        };
        let before = cpu_time();
        work(&mut node);
        let mut sent = Vec::new();
        while let Some(transmit) = node.poll_transmit() {
            sent.push(transmit);
        }
        while node.poll_event().is_some() {}
        self.cpu[index] += cpu_time() - before;
        self.nodes[index] = Some(node);
        for transmit in sent {
            if let Some(to) = index_of(transmit.to, NODE_NET) {
                let headers = transmit.count() as u64 * IP_AND_UDP;
                let carried = self.carried.entry((index, to)).or_default();
                *carried += transmit.payload.len() as u64 + headers;
            }
            self.send(node_address(index), &transmit);
            if let Some(node) = self.nodes[index].as_mut() {
                node.recycle(transmit.payload);
            }
        }
    }

    fn send(&mut self, from: SocketAddr, transmit: &Transmit) {
        let at = self.now + Duration::from_millis(1);
        for datagram in transmit.datagrams() {
            self.number += 1;
            let flight = Flight {
                from,
                to: transmit.to,
                payload: datagram.to_vec(),
            };
            self.flights.insert((at, self.number), flight);
        }
    }

    fn hear(&mut self, index: usize, from: SocketAddr, datagram: &mut [u8]) {
        let now = self.now;
        let client = &mut self.clients[index];
        if matches!(direction(datagram), Some(Direction::ToInitiator { .. })) {
            let Some(initiator) = client.initiator.as_mut() else {
                return;
            };
            match initiator.handle_datagram(datagram, now) {
                Ok(Progress::Established(established)) => {
                    let suite = CryptoSuite::preferred();
                    let holder = (node_id(0), established.peer, established.peer_incarnation);
                    let session = (client.session, 1, 1);
                    let first = FirstBranch::derive(&suite, &established, session, holder, now);
                    let mut leg = Leg::new(from, first.channel, KEEPALIVE, now);
                    let report = ClientMessage::Report {
                        tier: None,
                        membership: version(),
                        generation: 1,
                        paths: Vec::new(),
                    };
                    leg.send_message(&message::encode(&report)).unwrap();
                    client.leg = Some(leg);
                    client.initiator = None;
                }
                Ok(Progress::Waiting) | Err(_) => return,
                Ok(Progress::Refused(refusal)) => panic!("refused: {refusal:?}"),
            }
        } else if let Some(leg) = client.leg.as_mut() {
            let header = Header::decode(datagram).unwrap();
            leg.open(&header, from, Ecn::NotEct, datagram, now).unwrap();
            while let Some(bytes) = leg.poll_message() {
                if let Ok(HolderMessage::Roster { generation, .. }) = message::decode(&bytes) {
                    let ack = ClientMessage::RosterAck { generation };
                    leg.send_message(&message::encode(&ack)).unwrap();
                }
            }
        }
        self.flush_client(index);
    }

    fn flush_client(&mut self, index: usize) {
        let now = self.now;
        let Some(leg) = self.clients[index].leg.as_mut() else {
            return;
        };
        let mut out = Outbox::default();
        leg.flush(&mut out, now).unwrap();
        if leg.silent_at().is_some_and(|at| at <= now) {
            leg.note_judged();
        }
        let wake = leg.poll_timeout().max(now + Duration::from_micros(200));
        let before = std::mem::replace(&mut self.clients[index].wake, wake);
        self.wakes.remove(&(before, index));
        self.wakes.insert((wake, index));
        while let Some(transmit) = out.poll_transmit() {
            self.send(client_address(index), &transmit);
        }
    }

    fn report(&mut self, index: usize) -> NodeReport {
        let node = self.nodes[index].as_mut().unwrap();
        node.handle_command(NodeCommand::Report, self.now);
        let events = std::iter::from_fn(|| node.poll_event());
        let report = events.filter_map(|event| match event {
            NodeEvent::Report(report) => Some(*report),
            _ => None,
        });
        report.last().unwrap()
    }

    fn bytes_between_nodes(&self) -> u64 {
        self.carried.values().sum()
    }

    fn measure(&mut self, span: Duration) {
        self.carried.clear();
        self.cpu.fill(Duration::ZERO);
        self.run(span);
        let seconds = span.as_secs_f64();
        for shadow in 1..NODES {
            let ways = [(0, shadow), (shadow, 0)];
            let bytes: u64 = ways.iter().filter_map(|way| self.carried.get(way)).sum();
            let rate = bytes as f64 / seconds;
            let what = format!("primary and shadow {shadow}, both ways");
            println!(
                "{what:52} {rate:10.0} B/s {:9.1} kbit/s",
                rate * 8.0 / 1000.0
            );
        }
        for (index, cpu) in self.cpu.iter().enumerate() {
            let what = format!(
                "CPU time of {}",
                if index == 0 {
                    "the primary"
                } else {
                    "a shadow"
                }
            );
            let share = cpu.as_secs_f64() / seconds;
            println!("{what:52} {:10.2} ms/s", share * 1000.0);
        }
    }

    fn measure_memory(&mut self) {
        let sessions = self.clients.len();
        for index in 0..NODES {
            let before = heap();
            self.nodes[index] = None;
            let what = if index == 0 { "held" } else { "shadowed" };
            let each = before.saturating_sub(heap()) as f64 / sessions as f64;
            println!(
                "{:52} {each:10.0} B",
                format!("memory of a session that is {what}")
            );
        }
    }
}

fn membership(suite: &CryptoSuite, clients: &[Client]) -> Membership {
    let nodes = (0..NODES).map(|index| NodeEntry {
        id: node_id(index),
        name: format!("n{index}"),
        region: Region(["eu", "us", "ap"][index].to_owned()),
        key: identity(suite, index as u64).public(),
        addresses: vec![node_address(index)],
        state: NodeState::Active,
    });
    let clients = clients
        .iter()
        .enumerate()
        .map(|(index, client)| ClientEntry {
            id: client_id(index),
            name: format!("c{index}"),
            key: client.identity.public(),
            prefixes: vec![Prefix::host(address(INNER_NET, index).into())],
            tier: Tier::Standard,
        });
    Membership {
        version: version(),
        nodes: nodes.collect(),
        clients: clients.collect(),
        sites: Vec::new(),
    }
}

const fn version() -> Version {
    Version { term: 1, index: 1 }
}

const fn node_id(index: usize) -> NodeId {
    NodeId(1 + index as u64)
}

const fn client_id(index: usize) -> ClientId {
    ClientId(FIRST_CLIENT + index as u64)
}

fn address(net: u8, index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net) << 24 | index as u32)
}

fn node_address(index: usize) -> SocketAddr {
    SocketAddr::from((address(NODE_NET, index), 4500))
}

fn client_address(index: usize) -> SocketAddr {
    SocketAddr::from((address(CLIENT_NET, index), 4500))
}

fn index_of(socket: SocketAddr, net: u8) -> Option<usize> {
    let SocketAddr::V4(socket) = socket else {
        return None;
    };
    let [first, rest @ ..] = socket.ip().octets();
    let [a, b, c] = rest;
    (first == net).then_some(u32::from_be_bytes([0, a, b, c]) as usize)
}

/// Bytes that the heap has given out.
#[allow(unsafe_code)]
fn heap() -> usize {
    // SAFETY: the call reads glibc's own counters and takes no argument.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

const NODES: usize = 3;
const FIRST_CLIENT: u64 = 1000;
const NODE_NET: u8 = 198;
const CLIENT_NET: u8 = 10;
const INNER_NET: u8 = 11;
const IP_AND_UDP: u64 = 28;
/// The default of an idle client.
const KEEPALIVE: Cadence = Cadence {
    busy: Duration::from_millis(250),
    idle: Duration::from_secs(15),
};
