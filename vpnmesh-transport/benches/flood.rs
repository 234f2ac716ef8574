//! Whether good handshakes get through while a node is flooded with junk.
//!
//! `cargo bench -p vpnmesh-transport --bench flood [-- SECONDS]`: a node on its packet thread, 100 good handshakes a
//! second over loopback, and beside them each kind of junk as fast as one thread sends it, in segmented
//! batches: the generator, the node and the good clients share the machine. A handshake is good if it ends
//! within three attempts.
#![allow(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

mod common;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, Prefix, PublicKey, Region,
    SessionId, ShadowPolicy, Tier, Timestamp, Version,
};
use vpnmesh_transport::handshake::{Attempt, Cookie, Initiator, Progress};
use vpnmesh_transport::io::{Clock, Driver, IoCounters, UdpSocket};
use vpnmesh_transport::node::{NodeConfig, NodeMachine, NodeTimers};
use vpnmesh_transport::station::Hello;
use vpnmesh_transport::{
    Cipher, Ciphers, CryptoSuite, Exchange, Identity, Incarnation, Profile, SeededEntropy,
    TrafficClass, Transmit, message,
};

use common::{identity, station};

fn main() {
    let seconds = std::env::args().filter_map(|word| word.parse().ok()).next();
    let span = Duration::from_secs(seconds.unwrap_or(10));
    println!(
        "{:36} {:>12} {:>14} {:>10} {:>10}",
        "junk", "sent kpps", "handshakes", "good %", "p99 ms"
    );
    for (name, kind) in KINDS {
        let outcome = flood(kind, span);
        let share = 100.0 * outcome.good as f64 / outcome.asked as f64;
        let held = if share >= 99.0 { "held" } else { "NOT held" };
        println!(
            "{name:36} {:12.0} {:14} {share:10.2} {:10.1} {held}",
            outcome.kpps, outcome.asked, outcome.p99
        );
    }
}

/// A kind of junk: datagrams of one length, made by a client that never gets a session.
type Kind = fn(&mut Good) -> Vec<Vec<u8>>;

const KINDS: [(&str, Option<Kind>); 5] = [
    ("none", None),
    (
        "bad mac1",
        Some(|client| vec![spoiled(client.flight().remove(0))]),
    ),
    ("replayed A", Some(|client| vec![client.flight().remove(0)])),
    (
        "good mac1 without mac2",
        Some(|client| (0..4000).map(|_| client.flight().remove(0)).collect()),
    ),
    (
        "orphan chunk",
        Some(|client| vec![client.flight().remove(1)]),
    ),
];

fn spoiled(mut hello: Vec<u8>) -> Vec<u8> {
    let at = hello.len() - 20; // within mac1
    hello[at] ^= 1;
    hello
}

struct Outcome {
    asked: u32,
    good: u32,
    kpps: f64,
    p99: f64,
}

fn flood(kind: Option<Kind>, span: Duration) -> Outcome {
    let suite = CryptoSuite::preferred();
    let udp = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = udp.local_addr();
    let config = NodeConfig {
        station: station(&suite, NODE, &membership(&suite, address)),
        shadows: ShadowPolicy::default(),
        timers: NodeTimers::default(),
    };
    let machine = NodeMachine::new(config, Clock.now()).unwrap();
    let driver = Driver::spawn(machine, udp, None).unwrap();
    let (stop, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let junk = kind.map(|kind| {
        let mut stranger = Good::new(&suite, address, CLIENTS);
        let (junk, stop, sent) = (kind(&mut stranger), Arc::clone(&stop), Arc::clone(&sent));
        std::thread::spawn(move || generate(&junk, address, &stop, &sent))
    });
    let start = Instant::now();
    let (mut asked, mut times) = (0, Vec::new());
    let mut clients: Vec<Good> = (0..CLIENTS)
        .map(|client| Good::new(&suite, address, client))
        .collect();
    while start.elapsed() < span {
        let due = start + Duration::from_millis(10) * asked;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let client = &mut clients[asked as usize % CLIENTS as usize];
        times.extend(client.shake_hands());
        asked += 1;
    }
    let took = start.elapsed();
    stop.store(true, Ordering::Relaxed);
    if let Some(junk) = junk {
        junk.join().unwrap();
    }
    driver.stop().unwrap();
    times.sort();
    let p99 = times.get(times.len() * 99 / 100).or(times.last());
    Outcome {
        asked,
        good: times.len() as u32,
        kpps: sent.load(Ordering::Relaxed) as f64 / took.as_secs_f64() / 1e3,
        p99: p99.map_or(f64::NAN, |p99| p99.as_secs_f64() * 1e3),
    }
}

/// Sends these datagrams again and again, as fast as it can.
fn generate(junk: &[Vec<u8>], to: SocketAddr, stop: &AtomicBool, sent: &AtomicU64) {
    let mut udp = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut counters = IoCounters::default();
    let all: Vec<u8> = junk
        .iter()
        .cycle()
        .take(RUN * junk.len())
        .flatten()
        .copied()
        .collect();
    let segment = junk[0].len();
    let mut queue = VecDeque::new();
    for run in all.chunks(RUN * segment).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let payload = run.to_vec();
        let class = TrafficClass::default();
        queue.push_back(Transmit {
            to,
            payload,
            segment,
            class,
        });
        if queue.len() == MESSAGES {
            udp.send(&mut queue, &mut counters, drop);
            sent.store(counters.tx_datagrams, Ordering::Relaxed);
        }
    }
}

/// A client that shakes hands again and again.
struct Good {
    suite: CryptoSuite,
    identity: Identity,
    peer: PublicKey,
    client: u64,
    counter: u32,
    cookie: Option<Cookie>,
    entropy: SeededEntropy,
    socket: std::net::UdpSocket,
}

impl Good {
    fn new(suite: &CryptoSuite, node: SocketAddr, client: u64) -> Self {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(node).unwrap();
        Self {
            suite: *suite,
            identity: identity(suite, FIRST_CLIENT + client),
            peer: identity(suite, NODE).public(),
            client,
            counter: 0,
            cookie: None,
            entropy: SeededEntropy::new(client),
            socket,
        }
    }

    fn initiator(&mut self, now: Timestamp) -> Initiator {
        self.counter += 1;
        let hello = Hello::Session {
            session: SessionId::new(
                ClientId(FIRST_CLIENT + self.client),
                [self.counter as u8; 8],
            ),
            generation: 1,
            number: 1,
            refresh: false,
        };
        let attempt = Attempt {
            suite: self.suite,
            identity: &self.identity,
            peer: self.peer,
            site_secret: None,
            profile: Profile::Standard,
            exchange: Exchange::Hybrid,
            ciphers: Ciphers::of(&Cipher::ALL),
            incarnation: Incarnation::default(),
            counter: self.counter,
            local_index: self.counter,
            payload: &message::encode(&hello),
            cookie: self.cookie.take(),
            retry: RETRY,
        };
        Initiator::new(attempt, &mut self.entropy, now).unwrap()
    }

    fn flight(&mut self) -> Vec<Vec<u8>> {
        let mut initiator = self.initiator(Clock.now());
        std::iter::from_fn(|| initiator.poll_transmit()).collect()
    }

    /// How long it took, if it ended well within three attempts.
    fn shake_hands(&mut self) -> Option<Duration> {
        let start = Instant::now();
        (0..3)
            .find_map(|_| self.attempt())
            .map(|()| start.elapsed())
    }

    fn attempt(&mut self) -> Option<()> {
        let mut initiator = self.initiator(Clock.now());
        let mut buffer = [0; 2048];
        loop {
            while let Some(datagram) = initiator.poll_transmit() {
                self.socket.send(&datagram).unwrap();
            }
            let now = Clock.now();
            if initiator.is_expired(now) {
                self.cookie = initiator.cookie();
                return None;
            }
            let wait = initiator
                .poll_timeout()
                .since(now)
                .max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(wait)).unwrap();
            match self.socket.recv(&mut buffer) {
                Ok(len) => {
                    let progress = initiator.handle_datagram(&buffer[..len], Clock.now());
                    if let Ok(Progress::Established(_)) = progress {
                        self.cookie = initiator.cookie();
                        return Some(());
                    }
                }
                Err(_) => initiator.handle_timeout(Clock.now()),
            }
        }
    }
}

fn membership(suite: &CryptoSuite, address: SocketAddr) -> Membership {
    let node = NodeEntry {
        id: NodeId(1),
        name: "n".to_owned(),
        region: Region("eu".to_owned()),
        key: identity(suite, NODE).public(),
        addresses: vec![address],
        state: NodeState::Active,
    };
    let client = |client: u64| ClientEntry {
        id: ClientId(FIRST_CLIENT + client),
        name: format!("c{client}"),
        key: identity(suite, FIRST_CLIENT + client).public(),
        prefixes: vec![Prefix::host([10, 9, 0, client as u8].into())],
        tier: Tier::Basic,
    };
    Membership {
        version: Version { term: 1, index: 1 },
        nodes: vec![node],
        clients: (0..CLIENTS).map(client).collect(),
        sites: Vec::new(),
    }
}

const NODE: u64 = 0;
const FIRST_CLIENT: u64 = 1000;
const CLIENTS: u64 = 50;
/// For an unknown path; an attempt ends after four times as long.
const RETRY: Duration = Duration::from_millis(250);
/// Datagrams in one message of the generator: 64 KiB at the most.
const RUN: usize = 40;
/// Messages in one of its system calls.
const MESSAGES: usize = 16;
