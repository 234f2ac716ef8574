//! What clients, nodes and sites have in common: identity, handshake attempts, membership, exits.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vpnmesh_core::{
    ClientEntry, ClientId, Membership, Prefix, PublicKey, Secret, SessionId, SiteId, Timestamp,
    Version,
};

use crate::channel::{Channel, ChannelId, End};
use crate::handshake::{
    Attempt, Cookie, Exchange, Initiator, Pq, Progress, Refusal, ResponderConfig,
};
use crate::outbox::Outbox;
use crate::schedule::{self, BranchContext, MoveContext};
use crate::{
    Ciphers, CryptoSuite, DropReason, Entropy, Established, Identity, Incarnation, Marking,
    Profile, Profiles, message,
};
use vpnmesh_core::NodeId;

/// Checks the signature of a membership under the pinned root key of the mesh.
pub trait Verifier: Debug + Send {
    /// The membership within `signed`; `None` if anything about it is wrong.
    fn verify(&self, signed: &[u8]) -> Option<Membership>;
}

const _: Option<&dyn Verifier> = None; // must stay object safe

/// What every machine of a mesh is started with.
#[derive(Debug)]
pub struct StationConfig {
    /// The provider of cryptography.
    pub suite: CryptoSuite,
    /// Who we are.
    pub identity: Identity,
    /// Our life; its counter was durably advanced before.
    pub incarnation: Incarnation,
    /// Where random bytes come from.
    pub entropy: Box<dyn Entropy>,
    /// The profile that our handshakes ask for, and the weakest that is served.
    pub profile: Profile,
    /// The packet ciphers that we are willing to use.
    pub ciphers: Ciphers,
    /// A secret that all members share; `None` if there is none.
    pub site_secret: Option<Secret<32>>,
    /// The newest signed membership on disk.
    pub membership: Vec<u8>,
    /// Checks it and what comes later.
    pub verifier: Box<dyn Verifier>,
    /// How outer headers are marked.
    pub marking: Marking,
}

/// Why a handshake is made: the initiator's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hello {
    /// A leg between two nodes, or a site and a node.
    Link {
        /// Fresh keys for a leg that goes on; else both ends start a new one. The life of the peer
        /// does not tell: one end may have given a leg up that the other, stopped for a while,
        /// still has.
        continues: bool,
    },
    /// A generation of a client's session, with the responder as its primary.
    Session {
        /// The session.
        session: SessionId,
        /// The generation that begins.
        generation: u32,
        /// The move that begins with it.
        number: u32,
        /// Only fresh secrets are wanted: the roster that follows starts the generation.
        refresh: bool,
    },
    /// A receipt key between client and site.
    Receipts,
}

/// How an attempt reaches its responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// By datagrams.
    Direct(SocketAddr),
    /// Through the holder, to a site.
    Relay(SiteId),
}

/// The end of an attempt.
#[derive(Debug)]
pub struct Ended {
    /// Why it was made.
    pub hello: Hello,
    /// How it reached its responder.
    pub route: Route,
    /// With whom.
    pub peer: PublicKey,
    /// The session, if there is one now.
    pub established: Option<Box<Established>>,
    /// Why the responder said no, if it did.
    pub refusal: Option<Refusal>,
}

/// The common part of all machines.
#[derive(Debug)]
pub struct Station {
    pub(crate) config: StationConfig,
    pub(crate) out: Outbox,
    pub(crate) membership: Membership,
    pub(crate) clients: ClientIndex,
    homes: Homes,
    /// What is wanted of every key exchange. Members of a mesh all have ML-KEM: only a tunnel may set
    /// it lower.
    pub(crate) pq: Pq,
    attempts: BTreeMap<u32, Pending>,
    attempt_counter: u32,
    cookies: BTreeMap<PublicKey, Cookie>,
    relayed: VecDeque<(SiteId, Vec<u8>)>,
    lateness: Lateness,
    /// A responder knows a later life of ours than this one: the greatest counter it named.
    seen: Option<u64>,
    claims: Claims,
}

/// Where an inner address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Client(ClientId),
    Site(SiteId),
    Nowhere,
}

/// Finds the home of an inner address, in the membership that it was made of.
#[derive(Debug, Default)]
struct Homes {
    table: HashMap<Prefix, Home>,
    /// The lengths that occur, the longest first.
    lengths: Vec<u8>,
}

impl Homes {
    fn new(membership: &Membership) -> Self {
        let clients = membership.clients.iter();
        let clients = clients.map(|it| (Home::Client(it.id), &it.prefixes));
        let sites = membership.sites.iter();
        let sites = sites.map(|it| (Home::Site(it.id), &it.prefixes));
        let all = clients.chain(sites);
        let table: HashMap<Prefix, Home> = all
            .flat_map(|(home, prefixes)| prefixes.iter().map(move |prefix| (*prefix, home)))
            .collect();
        let lengths: BTreeSet<u8> = table.keys().map(Prefix::bits).collect();
        Self {
            table,
            lengths: lengths.into_iter().rev().collect(),
        }
    }

    fn find(&self, address: IpAddr) -> Home {
        let prefixes = self
            .lengths
            .iter()
            .filter_map(|len| Prefix::new(address, *len));
        let mut homes = prefixes.filter_map(|prefix| self.table.get(&prefix));
        homes.next().copied().unwrap_or(Home::Nowhere)
    }
}

/// Finds clients by key: a mesh has many more of them than of anything else.
#[derive(Debug, Default)]
pub(crate) struct ClientIndex(HashMap<PublicKey, usize>);

impl ClientIndex {
    fn new(membership: &Membership) -> Self {
        let keys = membership.clients.iter().enumerate();
        Self(keys.map(|(place, client)| (client.key, place)).collect())
    }

    /// The client of that key, in the membership that the index was made of.
    pub(crate) fn find<'m>(
        &self,
        membership: &'m Membership,
        key: &PublicKey,
    ) -> Option<&'m ClientEntry> {
        let client = membership.clients.get(*self.0.get(key)?)?;
        (client.key == *key).then_some(client)
    }
}

/// How often each peer was believed that it knows a later life of ours. A life costs all sessions,
/// so who makes lives up can end ours only so often.
#[derive(Debug, Default)]
struct Claims {
    /// When each peer's bucket will be empty; at most [`MAX_COOKIES`] that are not yet.
    empty_at: BTreeMap<PublicKey, Timestamp>,
}

impl Claims {
    /// Whether `peer` is believed once more.
    fn take(&mut self, peer: PublicKey, now: Timestamp) -> bool {
        if self.empty_at.len() >= MAX_COOKIES {
            self.empty_at.retain(|_, empty_at| *empty_at > now);
        }
        let known = self.empty_at.get(&peer).copied();
        if known.is_none() && self.empty_at.len() >= MAX_COOKIES {
            return false;
        }
        let filled = known.unwrap_or_default().max(now) + PER_CLAIM;
        let fits = filled.since(now) <= PER_CLAIM * CLAIMS;
        if fits {
            self.empty_at.insert(peer, filled);
        }
        fits
    }
}

/// How much later than asked the driver came.
#[derive(Debug, Default)]
struct Lateness {
    worst: Duration,
}

#[derive(Debug)]
struct Pending {
    initiator: Initiator,
    call: Call,
}

/// What an attempt is made for, and how.
#[derive(Debug, Clone, Copy)]
struct Call {
    peer: PublicKey,
    route: Route,
    hello: Hello,
    exchange: Exchange,
    retry: Duration,
}

impl Station {
    /// Checks the configuration's membership.
    ///
    /// # Errors
    /// [`crate::Error::Membership`] if its signature or its content is wrong.
    pub fn new(config: StationConfig) -> Result<Self, crate::Error> {
        let membership = config
            .verifier
            .verify(&config.membership)
            .ok_or(crate::Error::Membership)?;
        Ok(Self {
            out: Outbox::new(config.marking),
            config,
            clients: ClientIndex::new(&membership),
            homes: Homes::new(&membership),
            membership,
            pq: Pq::Require,
            attempts: BTreeMap::new(),
            attempt_counter: 0,
            cookies: BTreeMap::new(),
            relayed: VecDeque::new(),
            lateness: Lateness::default(),
            seen: None,
            claims: Claims::default(),
        })
    }

    /// Random bytes.
    pub fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.config.entropy.fill(&mut bytes);
        bytes
    }

    /// A random duration below `span`.
    pub fn jitter(&mut self, span: Duration) -> Duration {
        let random = u32::from_le_bytes(self.random());
        span.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// An index that is neither zero nor taken.
    pub fn fresh_index(&mut self, taken: impl Fn(u32) -> bool) -> u32 {
        loop {
            let index = u32::from_le_bytes(self.random());
            if index != 0 && !taken(index) && !self.attempts.contains_key(&index) {
                return index;
            }
        }
    }

    /// Starts a handshake.
    ///
    /// # Errors
    /// [`DropReason::WeakKey`] if the peer's key is unusable, [`DropReason::QueueFull`] at
    /// 1024 attempts.
    pub fn dial(
        &mut self,
        peer: PublicKey,
        route: Route,
        hello: Hello,
        taken: impl Fn(u32) -> bool,
        retry: Duration,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        if self.attempts.len() >= MAX_ATTEMPTS {
            return Err(DropReason::QueueFull);
        }
        let call = Call {
            peer,
            route,
            hello,
            exchange: self.pq.asks_for(),
            retry,
        };
        let local_index = self.fresh_index(taken);
        self.call(call, local_index, now)
    }

    /// Starts an attempt under an index that is free.
    fn call(&mut self, call: Call, local_index: u32, now: Timestamp) -> Result<(), DropReason> {
        self.attempt_counter += 1;
        let config = &mut self.config;
        let attempt = Attempt {
            suite: config.suite,
            identity: &config.identity,
            peer: call.peer,
            site_secret: config.site_secret.as_ref(),
            profile: config.profile,
            exchange: call.exchange,
            ciphers: config.ciphers,
            incarnation: config.incarnation,
            counter: self.attempt_counter,
            local_index,
            payload: &message::encode(&call.hello),
            cookie: self.cookies.remove(&call.peer),
            retry: call.retry,
        };
        let initiator =
            Initiator::new(attempt, &mut *config.entropy, now).map_err(|_| DropReason::WeakKey)?;
        self.attempts
            .insert(local_index, Pending { initiator, call });
        self.flush_attempt(local_index);
        Ok(())
    }

    /// How many attempts are under way.
    #[cfg(feature = "testing")]
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Whether an attempt for this purpose is under way.
    pub fn is_dialing(&self, peer: &PublicKey, wanted: impl Fn(&Hello) -> bool) -> bool {
        self.attempts
            .values()
            .any(|pending| pending.call.peer == *peer && wanted(&pending.call.hello))
    }

    /// Gives all attempts for this purpose up.
    pub fn hang_up(&mut self, wanted: impl Fn(&Hello) -> bool) {
        self.attempts
            .retain(|_, pending| !wanted(&pending.call.hello));
    }

    /// A handshake datagram for the attempt `receiver` arrived.
    pub fn handle_reply(
        &mut self,
        receiver: u32,
        datagram: &[u8],
        now: Timestamp,
    ) -> Option<Ended> {
        let Some(pending) = self.attempts.get_mut(&receiver) else {
            self.out.drop_because(DropReason::UnknownIndex);
            return None;
        };
        let progress = pending.initiator.handle_datagram(datagram, now);
        let progress = self.out.count(progress)?;
        match progress {
            Progress::Waiting => {
                self.flush_attempt(receiver);
                None
            }
            Progress::Established(established) => self.end(receiver, Some(established), None),
            Progress::Refused(refusal) => self.handle_refusal(receiver, refusal, now),
        }
    }

    fn handle_refusal(&mut self, receiver: u32, refusal: Refusal, now: Timestamp) -> Option<Ended> {
        self.out.drop_because(DropReason::Refused);
        let call = self.attempts.get(&receiver)?.call;
        let own = self.config.incarnation.counter;
        if let Refusal::Stale { seen } = refusal
            && (own..own.saturating_add(MAX_ROLLBACK)).contains(&seen)
            && self.claims.take(call.peer, now)
        {
            self.seen = self.seen.max(Some(seen));
        }
        let ended = self.end(receiver, None, Some(refusal));
        // The peer itself says that it has ML-KEM switched off.
        let falls_back = refusal == Refusal::Exchange
            && self.pq == Pq::Prefer
            && call.exchange == Exchange::Hybrid;
        let classical = Call {
            exchange: Exchange::Classical,
            ..call
        };
        if falls_back && self.call(classical, receiver, now).is_ok() {
            return None;
        }
        ended
    }

    /// Repeats and ends attempts; those that ended without an answer come out.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Vec<Ended> {
        let due = self
            .attempts
            .iter()
            .filter(|(_, pending)| pending.initiator.poll_timeout() <= now);
        let due: Vec<u32> = due.map(|(index, _)| *index).collect();
        let mut ended = Vec::new();
        for index in due {
            let Some(pending) = self.attempts.get_mut(&index) else {
                continue;
            };
            pending.initiator.handle_timeout(now);
            if pending.initiator.is_expired(now) {
                ended.extend(self.end(index, None, None));
            } else {
                self.flush_attempt(index);
            }
        }
        ended
    }

    /// An incarnation counter that a peer has seen of us and that is not below ours: the durable one
    /// was rolled back (rule S6).
    pub fn poll_seen(&mut self) -> Option<u64> {
        self.seen.take()
    }

    /// A new life begins: attempts of the old one end.
    pub fn resume(&mut self, incarnation: Incarnation) {
        self.config.incarnation = incarnation;
        self.attempts.clear();
        self.cookies.clear();
        self.relayed.clear();
        self.seen = None;
    }

    /// Bytes of an attempt that a holder shall relay to a site.
    pub fn poll_relayed(&mut self) -> Option<(SiteId, Vec<u8>)> {
        self.relayed.pop_front()
    }

    /// When an attempt has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        let times = self
            .attempts
            .values()
            .map(|pending| pending.initiator.poll_timeout());
        times.min().unwrap_or(Timestamp::MAX)
    }

    /// Takes a membership over if it is genuine and newer; whether it was.
    pub fn adopt(&mut self, signed: &[u8]) -> bool {
        let Some(membership) = self.config.verifier.verify(signed) else {
            self.out.drop_because(DropReason::Forged);
            return false;
        };
        if membership.version <= self.membership.version {
            return false;
        }
        self.clients = ClientIndex::new(&membership);
        self.homes = Homes::new(&membership);
        self.membership = membership;
        self.config.membership = signed.to_vec();
        true
    }

    /// Where an inner address lies.
    pub(crate) fn home_of(&self, address: IpAddr) -> Home {
        self.homes.find(address)
    }

    /// The version in force.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.membership.version
    }

    /// Notes that a timer asked for at `promised` came `now`; how late that was, if it matters.
    pub fn note_wake(&mut self, promised: Timestamp, now: Timestamp) -> Option<Duration> {
        if promised == Timestamp::MAX || promised == Timestamp::ZERO {
            return None;
        }
        let late = now.since(promised);
        self.lateness.worst = self.lateness.worst.max(late);
        (late >= LATE).then_some(late.min(MAX_LATE))
    }

    /// The worst lateness since the last call.
    pub fn take_lateness(&mut self) -> Duration {
        std::mem::take(&mut self.lateness.worst)
    }

    fn end(
        &mut self,
        index: u32,
        established: Option<Box<Established>>,
        refusal: Option<Refusal>,
    ) -> Option<Ended> {
        let Pending { initiator, call } = self.attempts.remove(&index)?;
        if let Some(cookie) = initiator.cookie()
            && self.cookies.len() < MAX_COOKIES
        {
            self.cookies.insert(call.peer, cookie);
        }
        Some(Ended {
            hello: call.hello,
            route: call.route,
            peer: call.peer,
            established,
            refusal,
        })
    }

    fn flush_attempt(&mut self, index: u32) {
        let Some(pending) = self.attempts.get_mut(&index) else {
            return;
        };
        while let Some(datagram) = pending.initiator.poll_transmit() {
            match pending.call.route {
                Route::Direct(to) => self.out.send(to, datagram),
                Route::Relay(site) if self.relayed.len() < MAX_RELAYED => {
                    self.relayed.push_back((site, datagram))
                }
                Route::Relay(_) => self.out.drop_because(DropReason::QueueFull),
            }
        }
    }
}

/// The responder of a machine with this station.
#[must_use]
pub(crate) fn responder_config(station: &Station) -> ResponderConfig {
    let config = &station.config;
    ResponderConfig {
        suite: config.suite,
        identity: config.identity.duplicate(),
        site_secret: config.site_secret.as_ref().map(Secret::duplicate),
        incarnation: config.incarnation,
        profiles: Profiles::from_floor(config.profile),
        ciphers: config.ciphers,
        pq: station.pq,
    }
}

/// The first branch of the generation that a handshake begins, and the channel of its first move.
#[derive(Debug)]
pub struct FirstBranch {
    /// The branch secret of the responder.
    pub secret: Secret<32>,
    /// The keys of the move.
    pub channel: Channel,
    /// What the branch was derived for.
    pub context: BranchContext,
}

impl FirstBranch {
    /// Derives it from a finished handshake. `holder` is the responder.
    #[must_use]
    pub fn derive(
        suite: &CryptoSuite,
        established: &Established,
        (session, generation, number): (SessionId, u32, u32),
        holder: (NodeId, PublicKey, Incarnation),
        now: Timestamp,
    ) -> Self {
        let (node, key, incarnation) = holder;
        let context = BranchContext {
            session,
            generation,
            branch: 0,
            holder: node,
            holder_key: key,
            profile: established.profile,
            cipher: established.cipher,
            handshake_hash: established.handshake_hash,
        };
        let secret = schedule::branch_secret(&established.root, &context);
        let of_move = MoveContext {
            session,
            generation,
            branch: 0,
            number,
            nonce: schedule::first_nonce(&established.root),
            holder: incarnation,
        };
        let keys = schedule::move_keys(&secret, &of_move);
        let end = if established.initiator {
            End::Client
        } else {
            End::Holder
        };
        let id = ChannelId {
            session,
            generation,
            number,
            branch: 0,
        };
        let indices = (established.local_index, established.remote_index);
        let mut channel = Channel::new(suite, established.cipher, end, id, &keys, indices, now);
        channel.confirmed = established.initiator; // the responder waits for the first packet
        Self {
            secret,
            channel,
            context,
        }
    }
}

/// A link has one session, generation and move for each handshake: the hash tells them apart.
#[must_use]
pub fn link_channel(
    suite: &CryptoSuite,
    established: &Established,
    own: &Station,
    now: Timestamp,
) -> Channel {
    let mut session = [0; 16];
    session.copy_from_slice(&established.handshake_hash[..16]);
    let (key, incarnation) = if established.initiator {
        (established.peer, established.peer_incarnation)
    } else {
        (own.config.identity.public(), own.config.incarnation)
    };
    let holder = (NodeId(0), key, incarnation);
    FirstBranch::derive(suite, established, (SessionId(session), 0, 0), holder, now).channel
}

/// More handshakes at once than a node of a large mesh starts.
const MAX_ATTEMPTS: usize = 1024;
const MAX_COOKIES: usize = 1024;
const MAX_RELAYED: usize = 256;
/// A counter further ahead than this was never ours: no disk is that old.
const MAX_ROLLBACK: u64 = 1 << 32;
/// A disk that was rolled back twice, and a clone of us that still runs, are believed at once.
const CLAIMS: u32 = 3;
const PER_CLAIM: Duration = Duration::from_secs(60);
/// A timer later than this was not scheduled in time.
const LATE: Duration = Duration::from_millis(3);
/// A machine that slept (a laptop's lid) is not "late" for hours.
const MAX_LATE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_makes_lives_up_is_believed_once_a_minute() {
        let mut claims = Claims::default();
        let (liar, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let now = Timestamp::ZERO + Duration::from_secs(1000);
        let believed = (0..600).filter(|tick| {
            let now = now + Duration::from_millis(100) * *tick;
            claims.take(liar, now)
        });
        assert_eq!(believed.count() as u32, CLAIMS);
        assert!(claims.take(other, now), "others are believed all the same");
        assert!(claims.take(liar, now + PER_CLAIM));
    }

    #[test]
    fn the_memory_of_claims_is_bounded() {
        let mut claims = Claims::default();
        let key = |n: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&n.to_le_bytes());
            PublicKey(bytes)
        };
        let believed = (0..2000).filter(|n| claims.take(key(*n), Timestamp::ZERO));
        assert_eq!(believed.count(), MAX_COOKIES);
        assert!(claims.take(key(5000), Timestamp::ZERO + PER_CLAIM));
    }
}
