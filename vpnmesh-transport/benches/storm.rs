//! A node with all its sessions dies: how soon they go on, and how soon all have fresh secrets.
//!
//! `cargo bench -p vpnmesh-transport --bench storm [-- SESSIONS]`: 100 000 sessions by default of whole client
//! machines, three nodes and a site, over paths of 1 ms. Time is virtual, but for nodes and the site it
//! passes as fast as their own code takes on one core of this machine: while they work, datagrams wait
//! in a socket buffer of 4 MiB, and what does not fit is lost. Clients are machines of their own and
//! cost nothing.

#![allow(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, Prefix, Region, ShadowPolicy,
    SiteEntry, SiteId, Tier, Timestamp, Version,
};
use vpnmesh_transport::client::{ClientConfig, ClientEvent, ClientMachine, ClientTimers};
use vpnmesh_transport::node::{NodeConfig, NodeMachine, NodeTimers};
use vpnmesh_transport::site::{SiteConfig, SiteMachine};
use vpnmesh_transport::{CryptoSuite, Ecn, Machine, Transmit};

use common::{cpu_time, identity, station};

fn main() {
    let sessions = std::env::args().filter_map(|word| word.parse().ok()).next();
    let mut mesh = Mesh::new(sessions.unwrap_or(100_000));
    mesh.connect();
    let storm = mesh.storm();
    println!(
        "{} sessions lost their node at once; two nodes take over",
        mesh.clients.len()
    );
    storm.tell("packets go on", &storm.through, Duration::from_secs(2));
    storm.tell("fresh secrets", &storm.fresh, Duration::from_secs(30));
    for (number, node) in mesh.nodes.iter().enumerate().skip(1) {
        println!(
            "node {number}: {:.1} s of processor time, {} datagrams lost at its socket",
            node.cpu.as_secs_f64(),
            node.lost
        );
    }
}

/// When each client got what, since the death.
struct Storm {
    clients: usize,
    through: Vec<Duration>,
    fresh: Vec<Duration>,
}

impl Storm {
    fn tell(&self, what: &str, times: &[Duration], limit: Duration) {
        let mut times = times.to_vec();
        times.sort();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1));
        let seconds = |at: Option<&Duration>| at.map_or(f64::NAN, Duration::as_secs_f64);
        let all = times.len() == self.clients;
        let held = all && times.last().is_some_and(|last| *last <= limit);
        println!(
            "{what}: {} of {} clients, p50 {:.2} s, p99 {:.2} s, last {:.2} s, limit {} s: {}",
            times.len(),
            self.clients,
            seconds(at(50)),
            seconds(at(99)),
            seconds(times.last()),
            limit.as_secs(),
            if held { "held" } else { "NOT held" }
        );
    }
}

/// A machine whose work takes time.
struct Server<M> {
    machine: M,
    /// Datagrams that wait; at most `SOCKET` bytes with what the kernel adds to each.
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    weight: usize,
    busy_until: Timestamp,
    cpu: Duration,
    lost: u64,
}

impl<M: Machine> Server<M> {
    fn new(machine: M) -> Self {
        Self {
            machine,
            queue: VecDeque::new(),
            weight: 0,
            busy_until: Timestamp::ZERO,
            cpu: Duration::ZERO,
            lost: 0,
        }
    }

    fn arrive(&mut self, from: SocketAddr, datagram: Vec<u8>) {
        if self.weight + datagram.len() + OVERHEAD > SOCKET {
            self.lost += 1;
            return;
        }
        self.weight += datagram.len() + OVERHEAD;
        self.queue.push_back((from, datagram));
    }

    /// When it works next.
    fn next(&self) -> Timestamp {
        let asked = if self.queue.is_empty() {
            self.machine.poll_timeout()
        } else {
            Timestamp::ZERO
        };
        asked.max(self.busy_until)
    }

    /// One turn: what it sends, once that took its time, and the inner packets that it gives out.
    fn work(&mut self, now: Timestamp) -> (Vec<Transmit>, Vec<Vec<u8>>) {
        let before = cpu_time();
        let mut inner = Vec::new();
        for _ in 0..BATCH {
            let Some((from, mut datagram)) = self.queue.pop_front() else {
                break;
            };
            self.weight -= datagram.len() + OVERHEAD;
            if let Some(packet) =
                self.machine
                    .handle_datagram(from, Ecn::NotEct, &mut datagram, now)
            {
                inner.push(datagram[packet].to_vec());
            }
        }
        if self.machine.poll_timeout() <= now {
            self.machine.handle_timeout(now);
        }
        let sent: Vec<_> = std::iter::from_fn(|| self.machine.poll_transmit()).collect();
        inner.extend(std::iter::from_fn(|| self.machine.poll_inner()));
        while self.machine.poll_event().is_some() {}
        let took = (cpu_time() - before).max(Duration::from_micros(1));
        self.cpu += took;
        self.busy_until = now + took;
        (sent, inner)
    }
}

/// A client and what it noticed.
struct Client {
    machine: ClientMachine,
    wake: Timestamp,
    attached: bool,
    refreshed: Option<Timestamp>,
    through: Option<Timestamp>,
    says: Timestamp,
}

struct Mesh {
    now: Timestamp,
    nodes: Vec<Server<NodeMachine>>,
    site: Server<SiteMachine>,
    clients: Vec<Client>,
    flights: BTreeMap<(Timestamp, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    number: u64,
    wakes: BTreeSet<(Timestamp, usize)>,
    gathering: bool, // only the first node hears handshakes of clients
    dead: bool,      // the first node
}

impl Mesh {
    fn new(sessions: usize) -> Self {
        let suite = CryptoSuite::preferred();
        let nodes = (0..NODES).map(|index| NodeEntry {
            id: NodeId(1 + index as u64),
            name: format!("n{index}"),
            region: Region(["eu", "us", "ap"][index].to_owned()),
            key: identity(&suite, index as u64).public(),
            addresses: vec![address(NODE_NET, index)],
            state: NodeState::Active,
        });
        let clients = (0..sessions).map(|index| ClientEntry {
            id: ClientId(FIRST_CLIENT + index as u64),
            name: format!("c{index}"),
            key: identity(&suite, FIRST_CLIENT + index as u64).public(),
            prefixes: vec![Prefix::host(inner_address(index))],
            tier: Tier::Standard,
        });
        let site = SiteEntry {
            id: SiteId(SITE),
            name: "s".to_owned(),
            region: Region("eu".to_owned()),
            key: identity(&suite, SITE).public(),
            prefixes: vec!["172.16.0.0/16".parse().unwrap()],
        };
        let whole = Membership {
            version: Version { term: 1, index: 1 },
            nodes: nodes.collect(),
            clients: clients.collect(),
            sites: vec![site],
        };
        let now = Timestamp(1_000_000_000);
        let node = |index: usize| {
            let config = NodeConfig {
                station: station(&suite, index as u64, &whole),
                shadows: ShadowPolicy::default(),
                timers: NodeTimers::default(),
            };
            Server::new(NodeMachine::new(config, now).unwrap())
        };
        let site = SiteConfig::new(station(&suite, SITE, &whole));
        Self {
            now,
            nodes: (0..NODES).map(node).collect(),
            site: Server::new(SiteMachine::new(site, now).unwrap()),
            clients: Vec::new(),
            flights: BTreeMap::new(),
            number: 0,
            wakes: BTreeSet::new(),
            gathering: true,
            dead: false,
        }
        .with_clients(&suite, &whole)
    }

    /// Clients start, 500 a second. All end up at the first node, as no other hears their handshakes
    /// until all are connected.
    fn with_clients(mut self, suite: &CryptoSuite, whole: &Membership) -> Self {
        self.run(Duration::from_secs(2));
        for (index, entry) in whole.clients.iter().enumerate() {
            // Each knows itself, the nodes and the site: memory for the whole is the mesh's.
            let own = Membership {
                clients: vec![entry.clone()],
                ..Membership {
                    clients: Vec::new(),
                    version: whole.version,
                    nodes: whole.nodes.clone(),
                    sites: whole.sites.clone(),
                }
            };
            let config = ClientConfig {
                station: station(suite, FIRST_CLIENT + index as u64, &own),
                tier: None,
                timers: ClientTimers::default(),
            };
            self.clients.push(Client {
                machine: ClientMachine::new(config, self.now).unwrap(),
                wake: Timestamp::MAX,
                attached: false,
                refreshed: None,
                through: None,
                says: Timestamp::MAX,
            });
            self.tend(index);
            self.run(Duration::from_millis(2));
            if index % 10_000 == 9_999 {
                eprintln!("{} clients started", index + 1);
            }
        }
        self
    }

    /// All clients are attached and have their shadows.
    fn connect(&mut self) {
        self.run(Duration::from_secs(2));
        self.gathering = false;
        self.run(Duration::from_secs(20));
        assert!(self.clients.iter().all(|client| client.attached));
    }

    /// The node that holds most sessions dies.
    fn storm(&mut self) -> Storm {
        let start = self.now;
        self.dead = true;
        for index in 0..self.clients.len() {
            self.clients[index].refreshed = None;
            self.clients[index].says = start + Duration::from_micros(index as u64 % 100_000);
            let says = self.clients[index].says;
            self.wakes.insert((says, index));
        }
        for second in 1..=40 {
            self.run(Duration::from_secs(1));
            let through = self
                .clients
                .iter()
                .filter(|it| it.through.is_some())
                .count();
            let fresh = self
                .clients
                .iter()
                .filter(|it| it.refreshed.is_some())
                .count();
            eprintln!("{second:2} s: {through} go on, {fresh} fresh");
        }
        let since = |at: Option<Timestamp>| at.map(|at| at.since(start));
        Storm {
            clients: self.clients.len(),
            through: self
                .clients
                .iter()
                .filter_map(|it| since(it.through))
                .collect(),
            fresh: self
                .clients
                .iter()
                .filter_map(|it| since(it.refreshed))
                .collect(),
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let flight = self.flights.first_key_value().map(|((at, _), _)| *at);
            let wake = self.wakes.first().map(|(at, _)| *at);
            let first = usize::from(self.dead);
            let servers = self.nodes[first..].iter().map(Server::next);
            let servers = servers.chain([self.site.next()]).min();
            let next = [flight, wake, servers].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            while let Some(entry) = self.flights.first_entry()
                && entry.key().0 <= self.now
            {
                let (from, to, datagram) = entry.remove();
                self.arrive(from, to, datagram);
            }
            for index in first..NODES {
                if self.nodes[index].next() <= self.now {
                    let (sent, _) = self.nodes[index].work(self.now);
                    let leaves = self.nodes[index].busy_until;
                    self.send(address(NODE_NET, index), sent, leaves);
                }
            }
            if self.site.next() <= self.now {
                let (sent, inner) = self.site.work(self.now);
                let leaves = self.site.busy_until;
                self.send(site_address(), sent, leaves);
                for packet in inner {
                    let octets: [u8; 4] = packet[12..16].try_into().unwrap();
                    let index = index_of(Ipv4Addr::from(octets), INNER_NET).unwrap();
                    let now = self.now;
                    self.clients[index].through.get_or_insert(now);
                }
            }
            while let Some((at, index)) = self.wakes.first().copied()
                && at <= self.now
            {
                self.wakes.remove(&(at, index));
                self.tend(index);
            }
        }
        self.now = end;
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, mut datagram: Vec<u8>) {
        let IpAddr::V4(ip) = to.ip() else { return };
        if let Some(index) = index_of(ip, NODE_NET) {
            let IpAddr::V4(source) = from.ip() else {
                return;
            };
            let asks = index_of(source, CLIENT_NET).is_some() && matches!(datagram[0], 0x01 | 0x02);
            let deaf = if index == 0 {
                self.dead
            } else {
                asks && self.gathering
            };
            if !deaf {
                self.nodes[index].arrive(from, datagram);
            }
        } else if let Some(index) = index_of(ip, CLIENT_NET) {
            let now = self.now;
            let client = &mut self.clients[index];
            client
                .machine
                .handle_datagram(from, Ecn::NotEct, &mut datagram, now);
            self.tend(index);
        } else {
            self.site.arrive(from, datagram);
        }
    }

    /// What a client has to do, to say and to tell.
    fn tend(&mut self, index: usize) {
        let now = self.now;
        let client = &mut self.clients[index];
        if client.says <= now {
            // Again and again until it is through, then now and then.
            let pause = if client.through.is_some() { 2000 } else { 250 };
            client.says = now + Duration::from_millis(pause);
            client.machine.handle_inner(&packet(index), now);
            self.wakes.insert((client.says, index));
        }
        if client.machine.poll_timeout() <= now {
            client.machine.handle_timeout(now);
        }
        let sent: Vec<_> = std::iter::from_fn(|| client.machine.poll_transmit()).collect();
        while let Some(event) = client.machine.poll_event() {
            match event {
                ClientEvent::Attached { .. } => client.attached = true,
                ClientEvent::Refreshed { .. } => client.refreshed = client.refreshed.or(Some(now)),
                _ => {}
            }
        }
        // A machine that asks for "now" is asked again a little later, as by a real clock.
        let wake = client
            .machine
            .poll_timeout()
            .max(now + Duration::from_micros(200));
        let before = std::mem::replace(&mut client.wake, wake);
        self.wakes.remove(&(before, index));
        self.wakes.insert((wake, index));
        self.send(address(CLIENT_NET, index), sent, now);
    }

    fn send(&mut self, from: SocketAddr, sent: Vec<Transmit>, leaves: Timestamp) {
        for transmit in sent {
            for datagram in transmit.datagrams() {
                self.number += 1;
                let key = (leaves + Duration::from_millis(1), self.number);
                self.flights
                    .insert(key, (from, transmit.to, datagram.to_vec()));
            }
        }
    }
}

/// A datagram of a client to the site.
fn packet(index: usize) -> Vec<u8> {
    let mut packet = vec![0; 128];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&128_u16.to_be_bytes());
    packet[8..10].copy_from_slice(&[64, 17]);
    packet[12..16].copy_from_slice(&octets(INNER_NET, index));
    packet[16..20].copy_from_slice(&[172, 16, 0, 1]);
    packet
}

fn octets(net: u8, index: usize) -> [u8; 4] {
    (u32::from(net) << 24 | index as u32).to_be_bytes()
}

fn address(net: u8, index: usize) -> SocketAddr {
    SocketAddr::from((octets(net, index), 4500))
}

fn site_address() -> SocketAddr {
    address(SITE_NET, 0)
}

fn inner_address(index: usize) -> IpAddr {
    IpAddr::from(octets(INNER_NET, index))
}

fn index_of(address: Ipv4Addr, net: u8) -> Option<usize> {
    let [first, a, b, c] = address.octets();
    (first == net).then_some(u32::from_be_bytes([0, a, b, c]) as usize)
}

const NODES: usize = 3;
const SITE: u64 = 900;
const FIRST_CLIENT: u64 = 1000;
const NODE_NET: u8 = 198;
const SITE_NET: u8 = 199;
const CLIENT_NET: u8 = 10;
const INNER_NET: u8 = 11;
const BATCH: usize = 256;
/// A node's socket buffer, as the drivers ask for, and what the kernel adds to a datagram.
const SOCKET: usize = 4 << 20;
const OVERHEAD: usize = 512;
