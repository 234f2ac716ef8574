//! A tunnel between two ends that know each other's keys: no mesh, no sessions, no controller.
//!
//! Either end may dial. The one with the lower key does so at once and renews the keys every two
//! minutes; the other one waits a moment, so that their handshakes seldom cross. Crossing ones do
//! no harm: both ends open under both, and each seals under the newest that its peer has shown to
//! have. A peer that fell silent is dialed anew while its keys still hold, so that neither a new
//! address nor a restart of either end needs anybody's help.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use vpnmesh_core::{Membership, Prefix, PublicKey, Secret, Timestamp};

use crate::flow::InnerPacket;
use crate::frame::Frame;
use crate::handshake::{
    Authority, Decision, Direction, Established, Load, Pq, Refusal, Request, Responder, direction,
};
use crate::leg::{Cadence, Leg, Opened, Traffic};
use crate::message;
use crate::path::PathFigures;
use crate::station::{
    Ended, Hello, Route, Station, StationConfig, Verifier, link_channel, responder_config,
};
use crate::suite::Kem;
use crate::wire::{self, Header};
use crate::{
    Cipher, Ciphers, CryptoSuite, DropReason, Ecn, Entropy, Error, Identity, Incarnation, Machine,
    Marking, PeerProof, Profile, SecurityReport, Transmit,
};

/// What a tunnel is started with.
#[derive(Debug)]
pub struct TunnelConfig {
    /// The provider of cryptography.
    pub suite: CryptoSuite,
    /// Who we are.
    pub identity: Identity,
    /// Our life: greater than every one before. A clock will do; where it went backwards, the peer
    /// says what it has seen and the next life begins above.
    pub incarnation: Incarnation,
    /// Where random bytes come from.
    pub entropy: Box<dyn Entropy>,
    /// The profile that we ask for, and the weakest that is served.
    pub profile: Profile,
    /// Whether ML-KEM is asked for, and whether the peer may go without.
    pub pq: Pq,
    /// The packet ciphers that we are willing to use.
    pub ciphers: Ciphers,
    /// The peer's key.
    pub peer: PublicKey,
    /// Where the peer is; `None` waits for it to dial.
    pub endpoint: Option<SocketAddr>,
    /// The inner addresses behind the peer; empty allows every one.
    pub allow: Vec<Prefix>,
    /// How outer headers are marked.
    pub marking: Marking,
    /// Whether each handshake also gives a secret for other programs: [`TunnelEvent::Exported`].
    pub exports: bool,
    /// How often the peer is asked whether it lives. Default 250 ms while packets flow, 15 s else.
    pub cadence: Cadence,
}

/// What the program tells a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelCommand {
    /// Answer with [`TunnelEvent::Report`].
    Report,
}

/// What a tunnel tells the program.
#[derive(Debug, Clone, PartialEq)]
pub enum TunnelEvent {
    /// The peer is there: packets flow.
    Ready {
        /// Where it is.
        remote: SocketAddr,
        /// What protects the packets.
        security: SecurityReport,
    },
    /// The peer is in a new life: it was started anew.
    Restarted,
    /// Fresh keys are in use.
    Rekeyed,
    /// A secret that only the peer has too, unrelated to all keys of the tunnel. Fresh with each
    /// handshake that the end with the lower key started, so both ends agree which one is the newest.
    Exported(Arc<Secret<32>>),
    /// The peer does not answer; it is dialed.
    Silent,
    /// The peer answers, but says no: the two ends are configured differently. Told once for each
    /// reason until a handshake succeeds.
    Refused(Refusal),
    /// The answer to [`TunnelCommand::Report`].
    Report(Box<TunnelReport>),
}

/// A tunnel in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelReport {
    /// Where the peer is.
    pub remote: Option<SocketAddr>,
    /// What protects the packets; `None` before the first handshake.
    pub security: Option<SecurityReport>,
    /// The path to it.
    pub path: Option<PathFigures>,
    /// What was carried.
    pub traffic: Traffic,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<DropReason, u64>,
}

/// One end of a tunnel.
#[derive(Debug)]
pub struct TunnelMachine {
    station: Station,
    responder: Responder,
    peer: PublicKey,
    endpoint: Option<SocketAddr>,
    allow: Vec<Prefix>,
    cadence: Cadence,
    leg: Option<Leg>,
    exports: bool,
    peer_incarnation: Incarnation,
    /// What the handshake of each of the leg's channels agreed on, by our index.
    agreed: BTreeMap<u32, Agreed>,
    unproven: Option<Unproven>,
    ready: bool,
    silent: bool,
    /// What the owner was told last of the peer's refusals.
    refused: Option<Refusal>,
    dial_at: Timestamp,
    dials: u32,
    /// Inner packets that wait for the first keys; at most [`MAX_WAITING`].
    waiting: VecDeque<Vec<u8>>,
    /// For the owner; at most [`MAX_EVENTS`], the oldest gives way.
    events: VecDeque<TunnelEvent>,
}

/// What a handshake agreed on, and when.
#[derive(Debug, Clone, Copy)]
struct Agreed {
    profile: Profile,
    kem: Option<Kem>,
    cipher: Cipher,
    at: Timestamp,
}

/// A handshake of another life of the peer: it may be a recorded one until a packet under its keys
/// opens.
#[derive(Debug)]
struct Unproven {
    leg: Leg,
    incarnation: Incarnation,
    agreed: Agreed,
    export: Option<Arc<Secret<32>>>,
}

/// A tunnel has no members: its two keys are configured.
#[derive(Debug)]
struct NoMembers;

impl Verifier for NoMembers {
    fn verify(&self, _signed: &[u8]) -> Option<Membership> {
        Some(Membership::default())
    }
}

/// Accepts the one peer.
struct Gate {
    peer: PublicKey,
    local_index: u32,
}

impl Authority for Gate {
    fn knows(&mut self, peer: &PublicKey) -> bool {
        *peer == self.peer
    }

    fn decide(&mut self, request: &Request<'_>) -> Decision {
        match message::decode(request.payload) {
            Ok(Hello::Link { .. }) => Decision::Accept {
                local_index: self.local_index,
                payload: Vec::new(),
            },
            _ => Decision::Refuse(Refusal::NotAllowed),
        }
    }
}

impl TunnelMachine {
    /// A tunnel that starts to dial at `now`, or a moment later if the peer's key is the lower one.
    ///
    /// # Errors
    /// None yet; the type leaves room for configurations that contradict themselves.
    pub fn new(config: TunnelConfig, now: Timestamp) -> Result<Self, Error> {
        let mut station = Station::new(StationConfig {
            suite: config.suite,
            identity: config.identity,
            incarnation: config.incarnation,
            entropy: config.entropy,
            profile: config.profile,
            ciphers: config.ciphers,
            site_secret: None,
            membership: Vec::new(),
            verifier: Box::new(NoMembers),
            marking: config.marking,
        })?;
        station.pq = config.pq;
        let responder = responder(&mut station, now);
        let mut tunnel = Self {
            station,
            responder,
            peer: config.peer,
            endpoint: config.endpoint,
            allow: config.allow,
            cadence: config.cadence,
            leg: None,
            exports: config.exports,
            peer_incarnation: Incarnation::default(),
            agreed: BTreeMap::new(),
            unproven: None,
            ready: false,
            silent: false,
            refused: None,
            dial_at: Timestamp::MAX,
            dials: 0,
            waiting: VecDeque::new(),
            events: VecDeque::new(),
        };
        let pause = if tunnel.is_lower() {
            Duration::ZERO
        } else {
            COURTESY
        };
        tunnel.dial_at = now + pause;
        tunnel.handle_timeout(now);
        Ok(tunnel)
    }

    /// Whether ours is the lower key.
    fn is_lower(&self) -> bool {
        self.station.config.identity.public() < self.peer
    }

    fn emit(&mut self, event: TunnelEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Where to dial: in turn where the peer was heard last and where it is configured.
    fn address(&self) -> Option<SocketAddr> {
        let heard = self.leg.as_ref().map(Leg::remote);
        if self.dials.is_multiple_of(2) {
            heard.or(self.endpoint)
        } else {
            self.endpoint.or(heard)
        }
    }

    fn dial_if_due(&mut self, now: Timestamp) {
        if now < self.dial_at {
            return;
        }
        self.dial_at = now + REDIAL;
        let Some(address) = self.address() else {
            return;
        };
        if self
            .station
            .is_dialing(&self.peer, |hello| matches!(hello, Hello::Link { .. }))
        {
            return;
        }
        self.dials += 1;
        let legs = [
            self.leg.as_ref(),
            self.unproven.as_ref().map(|unproven| &unproven.leg),
        ];
        let taken = |index: u32| {
            legs.iter()
                .flatten()
                .any(|leg| leg.channel(index).is_some())
        };
        let (peer, route) = (self.peer, Route::Direct(address));
        let hello = Hello::Link {
            continues: self.leg.is_some(),
        };
        let dialed = self.station.dial(peer, route, hello, taken, RETRY, now);
        self.station.out.count(dialed);
    }

    fn handle_handshake(&mut self, from: SocketAddr, datagram: &[u8], now: Timestamp) {
        let legs = [
            self.leg.as_ref(),
            self.unproven.as_ref().map(|unproven| &unproven.leg),
        ];
        let taken = |index: u32| {
            legs.iter()
                .flatten()
                .any(|leg| leg.channel(index).is_some())
        };
        let mut gate = Gate {
            peer: self.peer,
            local_index: self.station.fresh_index(taken),
        };
        let entropy = &mut *self.station.config.entropy;
        let load = Load::Normal;
        let outcome = self
            .responder
            .handle_datagram(from, datagram, load, &mut gate, entropy, now);
        for reply in outcome.replies {
            self.station.out.send(from, reply);
        }
        if let Some(reason) = outcome.dropped {
            self.station.out.drop_because(reason);
        }
        if let Some(established) = outcome.established {
            self.connect(&established, from, now);
        }
    }

    fn handle_ended(&mut self, ended: Ended, now: Timestamp) {
        if let (Some(established), Route::Direct(address)) = (ended.established, ended.route) {
            self.connect(&established, address, now);
        }
        // A life that is too old is repaired without anybody's help.
        let refusal = ended.refusal;
        let refusal = refusal.filter(|refusal| !matches!(refusal, Refusal::Stale { .. }));
        if let Some(reason) = refusal
            && self.refused.replace(reason) != refusal
        {
            self.emit(TunnelEvent::Refused(reason));
        }
    }

    /// A handshake succeeded: the first keys, fresh ones, or those of a peer that started anew.
    fn connect(&mut self, established: &Established, remote: SocketAddr, now: Timestamp) {
        let suite = self.station.config.suite;
        let channel = link_channel(&suite, established, &self.station, now);
        let same_life = self.peer_incarnation == established.peer_incarnation;
        let exports = self.exports && established.initiator == self.is_lower();
        let export = exports.then(|| Arc::new(established.export(PURPOSE)));
        let agreed = Agreed {
            profile: established.profile,
            kem: established.kem(),
            cipher: established.cipher,
            at: now,
        };
        match self.leg.as_mut().filter(|_| same_life) {
            Some(leg) => {
                leg.add_channel(channel, now + leg.grace());
                if established.initiator {
                    leg.set_remote(remote);
                }
                self.agreed.insert(established.local_index, agreed);
                self.agreed.retain(|index, _| leg.channel(*index).is_some());
                self.emit(TunnelEvent::Rekeyed);
                self.tell_export(export);
            }
            None => {
                let leg = Leg::new(remote, channel, self.cadence, now);
                self.unproven = Some(Unproven {
                    leg,
                    incarnation: established.peer_incarnation,
                    agreed,
                    export,
                });
                if !established.initiator {
                    return; // until the peer's first packet
                }
                self.adopt();
            }
        }
        self.note_connected(now);
        if established.initiator {
            if let Some(leg) = &mut self.leg {
                leg.send_frame(Frame::Ack); // shows the peer that we have the keys
            }
            self.note_ready(now);
        }
    }

    fn tell_export(&mut self, export: Option<Arc<Secret<32>>>) {
        if let Some(secret) = export {
            self.emit(TunnelEvent::Exported(secret));
        }
    }

    /// The peer has shown that it lives the life of the newest handshake.
    fn adopt(&mut self) {
        let Some(unproven) = self.unproven.take() else {
            return;
        };
        self.tell_export(unproven.export);
        let index = unproven.leg.newest().local_index;
        self.agreed = BTreeMap::from([(index, unproven.agreed)]);
        if self.leg.replace(unproven.leg).is_some() {
            self.emit(TunnelEvent::Restarted);
        }
        self.peer_incarnation = unproven.incarnation;
    }

    fn note_connected(&mut self, now: Timestamp) {
        self.silent = false;
        self.refused = None;
        self.dials = 0;
        let late = if self.is_lower() {
            Duration::ZERO
        } else {
            LATER
        };
        self.dial_at = now + REFRESH + late;
    }

    /// Packets flow both ways.
    fn note_ready(&mut self, now: Timestamp) {
        let Some(leg) = self.leg.as_mut() else { return };
        let remote = leg.remote();
        for packet in std::mem::take(&mut self.waiting) {
            let sent = leg.send_packet(&packet, &mut self.station.out, now);
            self.station.out.count(sent);
        }
        if !self.ready
            && let Some(security) = self.security_report(now)
        {
            self.ready = true;
            self.emit(TunnelEvent::Ready { remote, security });
        }
    }

    fn handle_packet(
        &mut self,
        from: SocketAddr,
        ecn: Ecn,
        datagram: &mut [u8],
        now: Timestamp,
    ) -> Result<Option<Range<usize>>, DropReason> {
        let (header, len) = (Header::decode(datagram)?, datagram.len());
        let unproven = self.unproven.as_mut().map(|unproven| &mut unproven.leg);
        let unproven = unproven.filter(|leg| leg.channel(header.index).is_some());
        let proves = unproven.is_some();
        let leg = unproven.or(self.leg.as_mut());
        let leg = leg.ok_or(DropReason::UnknownIndex)?;
        let opened = leg.open(&header, from, ecn, datagram, now)?;
        if proves {
            self.adopt();
            self.note_connected(now);
        }
        self.silent = false;
        let accepted = match opened {
            Opened::Packet(packet) => accept(&self.allow, packet).map(|()| wire::text_of(len)),
            Opened::Joined(packet) => accept(&self.allow, &packet).map(|()| {
                self.station.out.deliver(&packet);
                0..0
            }),
            Opened::Control { .. } | Opened::Nothing => {
                self.flush(now);
                Ok(0..0)
            }
            Opened::Dropped(reason) => Err(reason),
        };
        if !self.ready || !self.waiting.is_empty() {
            self.note_ready(now);
        }
        accepted.map(|text| (!text.is_empty()).then_some(text))
    }

    fn send(&mut self, packet: &[u8], now: Timestamp) -> Result<(), DropReason> {
        let inner = InnerPacket::parse(packet).ok_or(DropReason::Malformed)?;
        if !allows(&self.allow, inner.destination) {
            return Err(DropReason::NoRoute);
        }
        if let Some(leg) = self.leg.as_mut() {
            return leg.send_packet(packet, &mut self.station.out, now);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(DropReason::QueueFull);
        }
        self.waiting.push_back(packet.to_vec());
        Ok(())
    }

    /// A peer that does not answer is dialed; its keys stay, it may answer after all.
    fn check_silence(&mut self, now: Timestamp) {
        let Some(leg) = self.leg.as_mut() else { return };
        if leg.silent_at().is_none_or(|at| at > now) {
            return;
        }
        leg.note_judged();
        self.dial_at = self.dial_at.min(now);
        if !std::mem::replace(&mut self.silent, true) {
            self.emit(TunnelEvent::Silent);
        }
    }

    fn flush(&mut self, now: Timestamp) {
        let Some(leg) = self.leg.as_mut() else { return };
        let flushed = leg.flush(&mut self.station.out, now);
        if self.station.out.count(flushed).is_none() {
            self.dial_at = self.dial_at.min(now); // the keys are exhausted
        }
        leg.expire(now);
    }

    /// The peer has seen a later life of ours: a clock went backwards.
    fn live_anew(&mut self, seen: u64, now: Timestamp) {
        let Some(counter) = seen.checked_add(1) else {
            return;
        };
        let random = self.station.random();
        self.station.resume(Incarnation { counter, random });
        self.responder = responder(&mut self.station, now);
        self.leg = None;
        self.agreed.clear();
        self.unproven = None;
        self.peer_incarnation = Incarnation::default();
        self.dial_at = now;
    }

    /// What protects the packets that are sealed now; `None` before the first handshake.
    #[must_use]
    pub fn security_report(&self, now: Timestamp) -> Option<SecurityReport> {
        let sealing = self.leg.as_ref()?.sealing().local_index;
        let agreed = self.agreed.get(&sealing)?;
        Some(SecurityReport {
            profile: agreed.profile,
            kem: agreed.kem,
            cipher: agreed.cipher,
            peer: PeerProof::StaticKey,
            key_age: now.since(agreed.at),
            floor: None,
        })
    }

    fn report(&self, now: Timestamp) -> TunnelReport {
        let leg = self.leg.as_ref();
        TunnelReport {
            remote: leg.map(Leg::remote),
            security: self.security_report(now),
            path: leg.map(Leg::figures),
            traffic: leg.map(Leg::traffic).unwrap_or_default(),
            drops: self.station.out.drops().clone(),
        }
    }
}

impl Machine for TunnelMachine {
    type Command = TunnelCommand;
    type Event = TunnelEvent;

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
                if let Some(seen) = self.station.poll_seen() {
                    self.live_anew(seen, now);
                    self.dial_if_due(now);
                }
            }
            Some(Direction::ToResponder) => self.handle_handshake(from, data, now),
            None => {
                let result = self.handle_packet(from, ecn, data, now);
                return self.station.out.count(result).flatten();
            }
        }
        self.flush(now);
        None
    }

    fn handle_inner(&mut self, packet: &[u8], now: Timestamp) {
        let result = self.send(packet, now);
        self.station.out.count(result);
    }

    fn handle_command(&mut self, command: TunnelCommand, now: Timestamp) {
        match command {
            TunnelCommand::Report => {
                let report = Box::new(self.report(now));
                self.emit(TunnelEvent::Report(report));
            }
        }
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        if let Some(late) = self.station.note_wake(self.poll_timeout(), now)
            && let Some(leg) = self.leg.as_mut()
        {
            leg.handle_own_delay(late);
        }
        self.responder.handle_timeout(now);
        for ended in self.station.handle_timeout(now) {
            self.handle_ended(ended, now);
        }
        self.check_silence(now);
        self.dial_if_due(now);
        self.flush(now);
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.station.out.poll_transmit()
    }

    fn poll_inner(&mut self) -> Option<Vec<u8>> {
        self.station.out.poll_inner()
    }

    fn poll_event(&mut self) -> Option<TunnelEvent> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Timestamp {
        let machines = self
            .station
            .poll_timeout()
            .min(self.responder.poll_timeout());
        let leg = self.leg.as_ref();
        let leg_at = leg.map_or(Timestamp::MAX, Leg::poll_timeout);
        machines.min(leg_at).min(self.dial_at)
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.station.out.recycle(buffer);
    }
}

impl TunnelConfig {
    /// The keepalives of a tunnel.
    pub const CADENCE: Cadence = Cadence {
        busy: Duration::from_millis(250),
        idle: Duration::from_secs(15),
    };
}

/// A packet of the peer: its source must lie behind the peer.
fn accept(allow: &[Prefix], packet: &[u8]) -> Result<(), DropReason> {
    let inner = InnerPacket::parse(packet).ok_or(DropReason::Malformed)?;
    let allowed = allows(allow, inner.source);
    allowed.then_some(()).ok_or(DropReason::NotAllowedSource)
}

fn allows(allow: &[Prefix], address: std::net::IpAddr) -> bool {
    allow.is_empty() || allow.iter().any(|prefix| prefix.contains(address))
}

fn responder(station: &mut Station, now: Timestamp) -> Responder {
    let config = responder_config(station);
    Responder::new(config, &mut *station.config.entropy, now)
}

/// After a handshake without an answer.
const REDIAL: Duration = Duration::from_millis(1000);
const RETRY: Duration = Duration::from_millis(250);
const REFRESH: Duration = Duration::from_secs(120);
/// The end with the greater key leaves the first word to the other one for so long.
const COURTESY: Duration = Duration::from_millis(300);
/// It renews the keys only if the other one has not.
const LATER: Duration = Duration::from_secs(10);
/// What an exported secret is for: any program that takes 32 bytes.
const PURPOSE: &[u8] = b"psk";
const MAX_WAITING: usize = 64; // the first packets of some connections
const MAX_EVENTS: usize = 256;
