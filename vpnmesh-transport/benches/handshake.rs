//! What handshakes, moves and junk cost, without any socket.
//!
//! `cargo bench -p vpnmesh-transport --bench handshake [-- --json]`: processor time of one thread in
//! virtual time, each figure with its limit. The classical handshake is the one without ML-KEM, of
//! the same provider.
#![allow(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

mod common;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use vpnmesh_core::{NodeId, PublicKey, Secret, SessionId, Timestamp};
use vpnmesh_transport::channel::{Channel, ChannelId, End};
use vpnmesh_transport::handshake::{
    Attempt, Authority, Decision, Established, Initiator, Load, Outcome, Progress, Request,
    Responder, ResponderConfig,
};
use vpnmesh_transport::schedule::{self, BranchContext, MoveContext};
use vpnmesh_transport::{
    Cipher, Ciphers, CryptoSuite, Exchange, Identity, Incarnation, Pq, Profile, Profiles,
    SeededEntropy,
};

use common::cpu_time;

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let hybrid = Pair::new(Exchange::Hybrid).handshakes();
    let classical = Pair::new(Exchange::Classical).handshakes();
    let mut figures = vec![
        Figure::new("handshake, both sides, hybrid", us(hybrid.both), "us"),
        Figure::new("handshake, both sides, classical", us(classical.both), "us"),
        Figure::new(
            "hybrid : classical",
            hybrid.both.as_secs_f64() / classical.both.as_secs_f64(),
            "x",
        )
        .at_most(1.3),
        Figure::new(
            "handshakes as responder",
            1.0 / hybrid.responder.as_secs_f64(),
            "/s",
        )
        .at_least(5000.0),
        Figure::new(
            "session moves (keys derived and installed)",
            1.0 / session_move().as_secs_f64(),
            "/s",
        )
        .at_least(50_000.0),
    ];
    for (name, cost) in junk() {
        figures.push(Figure::new(format!("junk: {name}"), us(cost), "us").at_most(1.0));
    }
    if json {
        let all: Vec<_> = figures.iter().map(Figure::json).collect();
        return println!("{}", serde_json::to_string_pretty(&all).unwrap());
    }
    println!("provider {}", CryptoSuite::preferred().name);
    for figure in &figures {
        println!("{figure}");
    }
}

/// A measured figure and the limit that it is held against.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    limit: Option<(&'static str, f64)>,
}

impl Figure {
    fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            limit: None,
        }
    }

    fn at_most(self, limit: f64) -> Self {
        let limit = Some(("at most", limit));
        Self { limit, ..self }
    }

    fn at_least(self, limit: f64) -> Self {
        let limit = Some(("at least", limit));
        Self { limit, ..self }
    }

    fn is_held(&self) -> Option<bool> {
        self.limit.map(|(way, limit)| {
            if way == "at most" {
                self.value <= limit
            } else {
                self.value >= limit
            }
        })
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name, "value": self.value, "unit": self.unit,
            "limit": self.limit.map(|(_, limit)| limit), "held": self.is_held(),
        })
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:44} {:12.2} {:3}", self.name, self.value, self.unit)?;
        let Some((way, limit)) = self.limit else {
            return Ok(());
        };
        let held = if self.is_held() == Some(true) {
            "held"
        } else {
            "NOT held"
        };
        write!(f, " {way} {limit} {held}")
    }
}

/// An initiator's identity and the responder that knows it.
struct Pair {
    suite: CryptoSuite,
    exchange: Exchange,
    identity: Identity,
    responder: Responder,
    public: PublicKey,
    gate: Gate,
    entropy: SeededEntropy,
    counter: u32,
    now: Timestamp,
}

/// Lets one peer in.
struct Gate(PublicKey);

impl Authority for Gate {
    fn knows(&mut self, peer: &PublicKey) -> bool {
        *peer == self.0
    }

    fn decide(&mut self, _: &Request<'_>) -> Decision {
        Decision::Accept {
            local_index: 7,
            payload: Vec::new(),
        }
    }
}

/// Processor time of one handshake.
struct Costs {
    both: Duration,
    responder: Duration,
}

impl Pair {
    fn new(exchange: Exchange) -> Self {
        let suite = CryptoSuite::preferred();
        let mut entropy = SeededEntropy::new(1);
        let identity = Identity::generate(&suite, &mut entropy);
        let own = Identity::generate(&suite, &mut entropy);
        let (now, public) = (Timestamp(1_000_000_000), own.public());
        let config = ResponderConfig {
            suite,
            identity: own,
            site_secret: None,
            incarnation: Incarnation::new(1, &mut entropy),
            profiles: Profiles::default(),
            ciphers: Ciphers::of(&Cipher::ALL),
            pq: Pq::Prefer,
        };
        Self {
            suite,
            exchange,
            responder: Responder::new(config, &mut entropy, now),
            public,
            gate: Gate(identity.public()),
            identity,
            entropy,
            counter: 0,
            now,
        }
    }

    fn initiator(&mut self) -> Initiator {
        self.counter += 1;
        let attempt = Attempt {
            suite: self.suite,
            identity: &self.identity,
            peer: self.public,
            site_secret: None,
            profile: Profile::Standard,
            exchange: self.exchange,
            ciphers: Ciphers::of(&[Cipher::Aes256Gcm]),
            incarnation: Incarnation::default(),
            counter: self.counter,
            local_index: self.counter,
            payload: &[],
            cookie: None,
            retry: Duration::from_millis(250),
        };
        Initiator::new(attempt, &mut self.entropy, self.now).unwrap()
    }

    fn respond(&mut self, datagram: &[u8], load: Load) -> Outcome {
        let (gate, entropy) = (&mut self.gate, &mut self.entropy);
        self.responder
            .handle_datagram(FROM, datagram, load, gate, entropy, self.now)
    }

    fn handshakes(&mut self) -> Costs {
        self.series(WARM_UP);
        self.series(HANDSHAKES)
    }

    /// One after the other, each through all its messages.
    fn series(&mut self, count: u32) -> Costs {
        let (start, mut responder) = (cpu_time(), Duration::ZERO);
        for _ in 0..count {
            // Slower than what makes the responder ask for cookies.
            self.now += Duration::from_millis(2);
            let mut initiator = self.initiator();
            let before = cpu_time();
            let mut replies = Vec::new();
            while let Some(datagram) = initiator.poll_transmit() {
                replies.extend(self.respond(&datagram, Load::Normal).replies);
            }
            self.responder.handle_timeout(self.now);
            responder += cpu_time() - before;
            assert!(is_established(&mut initiator, &replies, self.now));
        }
        Costs {
            both: (cpu_time() - start) / count,
            responder: responder / count,
        }
    }
}

fn is_established(initiator: &mut Initiator, replies: &[Vec<u8>], now: Timestamp) -> bool {
    let progress = replies
        .iter()
        .map(|reply| initiator.handle_datagram(reply, now));
    progress
        .filter_map(Result::ok)
        .any(|progress| matches!(progress, Progress::Established(it) if is_fresh(&it)))
}

fn is_fresh(established: &Established) -> bool {
    established.initiator && established.remote_index == 7
}

/// What a holder does when a session comes to it: from the branch to keys that are ready.
fn session_move() -> Duration {
    let suite = CryptoSuite::preferred();
    let context = BranchContext {
        session: SessionId([3; 16]),
        generation: 1,
        branch: 1,
        holder: NodeId(1),
        holder_key: PublicKey([4; 32]),
        profile: Profile::Standard,
        cipher: Cipher::Aes256Gcm,
        handshake_hash: [5; 32],
    };
    let branch = schedule::branch_secret(&Secret::take(&mut [6; 32]), &context);
    let dh = Secret::take(&mut [7; 32]);
    each(MOVES, |number| {
        let bound = schedule::bound_branch(&branch, &dh);
        let of_move = MoveContext {
            session: context.session,
            generation: 1,
            branch: 1,
            number,
            nonce: [8; 16],
            holder: Incarnation::default(),
        };
        let keys = schedule::move_keys(&bound, &of_move);
        let id = ChannelId {
            session: context.session,
            generation: 1,
            number,
            branch: 1,
        };
        let (cipher, now) = (context.cipher, Timestamp(1));
        black_box(Channel::new(
            &suite,
            cipher,
            End::Holder,
            id,
            &keys,
            (1, 2),
            now,
        ));
    })
}

/// Datagrams that are worth nothing, and what each costs the responder.
fn junk() -> Vec<(&'static str, Duration)> {
    let mut pair = Pair::new(Exchange::Hybrid);
    let flight: Vec<Vec<u8>> = {
        let mut initiator = pair.initiator();
        std::iter::from_fn(|| initiator.poll_transmit()).collect()
    };
    let mut forged = flight[0].clone();
    let at = forged.len() - 20; // within mac1
    forged[at] ^= 1;
    let bad = pair.cost(&forged, Load::Normal);

    assert!(pair.respond(&flight[0], Load::Normal).dropped.is_none());
    let replayed = pair.cost(&flight[0], Load::Normal);

    let mut stranger = Pair::new(Exchange::Hybrid);
    let hello = stranger.initiator().poll_transmit().unwrap();
    let no_cookie = stranger.cost(&hello, Load::Heavy);
    let orphan = stranger.cost(&flight[1], Load::Heavy);
    vec![
        ("bad mac1", bad),
        ("replayed A", replayed),
        ("good mac1 without mac2, cookie sent", no_cookie),
        ("orphan chunk under load", orphan),
    ]
}

impl Pair {
    /// Of one datagram that leads nowhere.
    fn cost(&mut self, datagram: &[u8], load: Load) -> Duration {
        each(JUNK, |_| {
            let outcome = self.respond(black_box(datagram), load);
            assert!(outcome.dropped.is_some() && outcome.established.is_none());
        })
    }
}

fn each(count: u32, mut work: impl FnMut(u32)) -> Duration {
    (0..count / 10).for_each(&mut work);
    let start = cpu_time();
    (0..count).for_each(&mut work);
    (cpu_time() - start) / count
}

fn us(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);
const WARM_UP: u32 = 200;
const HANDSHAKES: u32 = 4000;
const MOVES: u32 = 100_000;
const JUNK: u32 = 200_000;
