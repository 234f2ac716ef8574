//! The handshake: each side against any bytes, and both against any network.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use vpnmesh_core::{PublicKey, Timestamp};
use vpnmesh_transport::handshake::{
    Attempt, Authority, Cookie, Decision, Direction, Initiator, Load, MAX_DATAGRAM, Outcome,
    Progress, Request, Responder, ResponderConfig, direction,
};
use vpnmesh_transport::kdf::{digest, label};
use vpnmesh_transport::{
    Cipher, Ciphers, Established, Exchange, Identity, Pq, Profile, Profiles, SeededEntropy,
};

use super::members::{self, START, suite};
use super::script::Script;

const CLIENT: u64 = 11;
const SERVER: u64 = 1;
const RETRY: Duration = Duration::from_millis(250);

/// Keyed BLAKE2s, as the handshake and the receipts use it.
pub(super) fn mac(key: &[u8; 32], text: &[u8]) -> [u8; 16] {
    let mut mac = Blake2sMac::<U16>::new_from_slice(key).expect("BLAKE2s takes keys of 32 bytes");
    Mac::update(&mut mac, text);
    mac.finalize().into_bytes().into()
}

/// Makes mac1 of an A or K right, as anybody can who knows the responder's key.
fn repair_hello(datagram: &mut [u8], responder: &PublicKey) {
    if let Some(at) = datagram.len().checked_sub(32) {
        let mac = mac(&digest(label::MAC1, &[&responder.0]), &datagram[..at]);
        datagram[at..at + 16].copy_from_slice(&mac);
    }
}

/// Makes the MAC of an answer right, as anybody can who saw A.
fn repair_answer(datagram: &mut [u8], initiator: &PublicKey, hello: &[u8]) {
    let mac1 = hello.len().checked_sub(32).map(|at| &hello[at..at + 16]);
    if let (Some(mac1), Some(at)) = (mac1, datagram.len().checked_sub(16)) {
        let key = digest(label::MAC_BACK, &[&initiator.0, mac1]);
        let mac = mac(&key, &datagram[..at]);
        datagram[at..].copy_from_slice(&mac);
    }
}

/// Accepts everybody.
struct Open {
    next_index: u32,
}

impl Authority for Open {
    fn knows(&mut self, _peer: &PublicKey) -> bool {
        true
    }

    fn decide(&mut self, request: &Request<'_>) -> Decision {
        self.next_index += 1;
        Decision::Accept {
            local_index: self.next_index,
            payload: request.payload.to_vec(),
        }
    }
}

/// A responder, and what an address that proved nothing may get from it.
struct Server {
    responder: Responder,
    entropy: SeededEntropy,
    authority: Open,
    received: usize,
    sent: usize,
}

impl Server {
    fn new() -> Self {
        let config = ResponderConfig {
            suite: suite(),
            identity: members::identity(SERVER),
            site_secret: None,
            incarnation: members::life(SERVER),
            profiles: Profiles::of(&Profile::ALL),
            ciphers: Ciphers::of(&Cipher::ALL),
            pq: Pq::Require,
        };
        let mut entropy = SeededEntropy::new(SERVER);
        Self {
            responder: Responder::new(config, &mut entropy, START),
            entropy,
            authority: Open { next_index: 0 },
            received: 0,
            sent: 0,
        }
    }

    fn handle(&mut self, datagram: &[u8], load: Load, now: Timestamp) -> Outcome {
        let (authority, entropy) = (&mut self.authority, &mut self.entropy);
        let outcome =
            self.responder
                .handle_datagram(from(), datagram, load, authority, entropy, now);
        self.received += datagram.len();
        self.sent += outcome.replies.iter().map(Vec::len).sum::<usize>();
        assert!(self.sent <= self.received, "more out than in");
        let fits = |reply: &Vec<u8>| reply.len() <= MAX_DATAGRAM;
        assert!(outcome.replies.iter().all(fits));
        outcome
    }
}

fn from() -> SocketAddr {
    members::address(CLIENT)
}

/// An attempt and all that it sends at first.
fn start(
    identity: &Identity,
    profile: Profile,
    (counter, cookie): (u32, Option<Cookie>),
    now: Timestamp,
) -> Option<(Initiator, Vec<Vec<u8>>)> {
    let mut entropy = SeededEntropy::new(1000 + u64::from(counter));
    let attempt = Attempt {
        suite: suite(),
        identity,
        peer: members::identity(SERVER).public(),
        site_secret: None,
        profile,
        exchange: Exchange::Hybrid,
        ciphers: Ciphers::of(&Cipher::ALL),
        incarnation: members::life(CLIENT),
        counter,
        local_index: 7000 + counter,
        payload: b"options",
        cookie,
        retry: RETRY,
    };
    let mut initiator = Initiator::new(attempt, &mut entropy, now).ok()?;
    let flight = std::iter::from_fn(|| initiator.poll_transmit()).collect();
    Some((initiator, flight))
}

/// Datagrams for a responder, as they come and with mac1 made right. The first byte says whether
/// it is under load.
pub fn hellos(data: &[u8]) {
    let mut script = Script::new(data);
    let load = if script.byte() & 1 == 0 {
        Load::Normal
    } else {
        Load::Heavy
    };
    let mut server = Server::new();
    let public = server.responder.public();
    let mut now = START;
    while script.goes_on() && now < START + MAX_STEPS {
        let mut datagram = script.text().to_vec();
        let _ = server.handle(&datagram, load, now);
        repair_hello(&mut datagram, &public);
        let _ = server.handle(&datagram, load, now);
        now += Duration::from_millis(1);
    }
}

/// Datagrams for an initiator, addressed to its attempt, with and without a right MAC.
pub fn answers(data: &[u8]) {
    let mut script = Script::new(data);
    let profile = Profile::ALL[usize::from(script.byte()) % Profile::ALL.len()];
    let identity = members::identity(CLIENT);
    let Some((mut initiator, flight)) = start(&identity, profile, (1, None), START) else {
        return;
    };
    let mut now = START;
    while script.goes_on() && now < START + MAX_STEPS {
        let mut datagram = script.text().to_vec();
        if let Some(index) = datagram.get_mut(4..8) {
            index.copy_from_slice(&initiator.local_index().to_le_bytes());
        }
        for _ in 0..2 {
            let progress = initiator.handle_datagram(&datagram, now);
            let established = matches!(progress, Ok(Progress::Established(_)));
            assert!(!established, "nobody who could answer did");
            repair_answer(&mut datagram, &identity.public(), &flight[0]);
        }
        now += Duration::from_millis(1);
        while initiator.poll_transmit().is_some() {}
    }
}

/// Both sides and a network that loses, repeats, reorders and changes datagrams.
pub fn handshake(data: &[u8]) {
    let mut script = Script::new(data);
    let mut network = Network::new();
    let mut steps = 0;
    while script.goes_on() && steps < MAX_OPERATIONS {
        steps += 1;
        network.step(&mut script);
    }
    network.check();
}

struct Network {
    client: Identity,
    server: Server,
    attempts: Vec<(Initiator, Vec<u8>)>,
    cookie: Option<Cookie>,
    counter: u32,
    /// To the server, or to the attempt of that place.
    flying: Vec<(Option<usize>, Vec<u8>)>,
    ended: [BTreeMap<[u8; 32], Established>; 2],
    load: Load,
    now: Timestamp,
}

impl Network {
    fn new() -> Self {
        Self {
            client: members::identity(CLIENT),
            server: Server::new(),
            attempts: Vec::new(),
            cookie: None,
            counter: 0,
            flying: Vec::new(),
            ended: [BTreeMap::new(), BTreeMap::new()],
            load: Load::Normal,
            now: START,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 8 {
            0 => self.start(script.byte()),
            1 => self.deliver(script.byte(), true),
            2 => self.deliver(script.byte(), false), // and it stays: it will come again
            3 => {
                if let Some(place) = self.place(script.byte()) {
                    self.flying.remove(place);
                }
            }
            4 => self.change(script.byte(), script.short(), script.byte()),
            5 => {
                self.now += Duration::from_millis(script.short().into());
                self.server.responder.handle_timeout(self.now);
                self.repeat();
            }
            6 => self.load = Load::Heavy,
            _ => self.load = Load::Normal,
        }
        self.flying.truncate(MAX_FLYING);
    }

    fn start(&mut self, profile: u8) {
        if self.attempts.len() >= MAX_ATTEMPTS {
            return;
        }
        self.counter += 1;
        let profile = Profile::ALL[usize::from(profile) % Profile::ALL.len()];
        let cookie = (self.counter, self.cookie.take());
        if let Some((initiator, flight)) = start(&self.client, profile, cookie, self.now) {
            let hello = flight[0].clone();
            self.flying
                .extend(flight.into_iter().map(|datagram| (None, datagram)));
            self.attempts.push((initiator, hello));
        }
    }

    fn place(&self, byte: u8) -> Option<usize> {
        usize::from(byte).checked_rem(self.flying.len())
    }

    fn deliver(&mut self, byte: u8, last: bool) {
        let Some(place) = self.place(byte) else {
            return;
        };
        let (to, datagram) = if last {
            self.flying.remove(place)
        } else {
            self.flying[place].clone()
        };
        let Some(attempt) = to else {
            let outcome = self.server.handle(&datagram, self.load, self.now);
            for reply in outcome.replies {
                let Some(Direction::ToInitiator { receiver }) = direction(&reply) else {
                    panic!("a reply that is for nobody");
                };
                let mut all = self.attempts.iter();
                let found = all.position(|(initiator, _)| initiator.local_index() == receiver);
                self.flying.extend(found.map(|place| (Some(place), reply)));
            }
            self.end(0, outcome.established);
            return;
        };
        let initiator = &mut self.attempts[attempt].0;
        let progress = initiator.handle_datagram(&datagram, self.now);
        self.cookie = initiator.cookie().or(self.cookie.take());
        if let Ok(Progress::Established(established)) = progress {
            self.end(1, Some(established));
        }
        self.repeat();
    }

    fn end(&mut self, side: usize, established: Option<Box<Established>>) {
        if let Some(established) = established {
            let before = self.ended[side].insert(established.handshake_hash, *established);
            assert!(before.is_none(), "one handshake ends once");
        }
    }

    /// Changes a bit of a datagram; its outer MAC may be made right again.
    fn change(&mut self, byte: u8, at: u16, bit: u8) {
        let Some(place) = self.place(byte) else {
            return;
        };
        let public = self.server.responder.public();
        let (to, datagram) = &mut self.flying[place];
        if let Some(at) = usize::from(at).checked_rem(datagram.len()) {
            datagram[at] ^= 1 << (bit % 8);
        }
        match *to {
            None if bit & 8 != 0 => repair_hello(datagram, &public),
            Some(attempt) if bit & 8 != 0 => {
                let hello = &self.attempts[attempt].1;
                repair_answer(datagram, &self.client.public(), hello);
            }
            None | Some(_) => {}
        }
    }

    /// What the attempts want to say again.
    fn repeat(&mut self) {
        for (initiator, _) in &mut self.attempts {
            initiator.handle_timeout(self.now);
            while let Some(datagram) = initiator.poll_transmit() {
                self.flying.push((None, datagram));
            }
        }
    }

    /// Whoever ended the same handshake holds the same keys.
    fn check(&self) {
        let [server, client] = &self.ended;
        for (hash, mine) in client {
            let theirs = server.get(hash).expect("the client ends after the server");
            assert!(mine.root == theirs.root, "one handshake, two roots");
            assert_eq!(mine.local_index, theirs.remote_index);
            assert_eq!(mine.remote_index, theirs.local_index);
            assert_eq!((mine.profile, mine.cipher), (theirs.profile, theirs.cipher));
        }
    }
}

/// A few datagrams show all that many would.
const MAX_STEPS: Duration = Duration::from_millis(16);
const MAX_OPERATIONS: u32 = 200;
const MAX_ATTEMPTS: usize = 6;
const MAX_FLYING: usize = 64;
