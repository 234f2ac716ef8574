//! Answers all initiators, with one slot per configured peer.

use std::net::SocketAddr;

use vpnmesh_core::{PublicKey, Timestamp};

use super::authority::{Authority, Decision, Load, Outcome, Request, ResponderConfig};
use super::budget::SourceBudget;
use super::chunk::Chunks;
use super::exchange::{Exchange, Pq};
use super::identity::{Established, Refusal};
use super::mac::{self, CookieJar, MacKey};
use super::meter::LoadMeter;
use super::noise::{Mixed, Noise};
use super::ring::OvertakingRing;
use super::slot::{Freshness, FreshnessTable, Recent, Slot, SlotTable};
use super::wire::{
    self, AnswerPayload, ChunkView, HelloPayload, HelloView, MAX_RESPONSE, NO_COMMITMENT,
};
use crate::DropReason;
use crate::entropy::Entropy;
use crate::suite::{Cipher, Profiles};

/// Answers all initiators. Keeps nothing about strangers.
#[derive(Debug)]
pub struct Responder {
    config: ResponderConfig,
    mac1_key: MacKey,
    jar: CookieJar,
    slots: SlotTable,
    freshness: FreshnessTable,
    recent: Recent,
    ring: OvertakingRing,
    meter: LoadMeter,
    budget: SourceBudget,
}

/// A datagram with all that its handling needs.
struct Arrival<'a> {
    from: SocketAddr,
    datagram: &'a [u8],
    load: Load,
    authority: &'a mut dyn Authority,
    entropy: &'a mut dyn Entropy,
    now: Timestamp,
}

impl Responder {
    /// A responder without any state.
    #[must_use]
    pub fn new(config: ResponderConfig, entropy: &mut dyn Entropy, now: Timestamp) -> Self {
        let public = config.identity.public();
        let jar = CookieJar::new(config.suite, &public, entropy, now);
        Self {
            mac1_key: MacKey::towards(&public),
            budget: SourceBudget::new(jar.source_key()),
            jar,
            slots: SlotTable::default(),
            freshness: FreshnessTable::default(),
            recent: Recent::default(),
            ring: OvertakingRing::default(),
            meter: LoadMeter::new(),
            config,
        }
    }

    /// Our public key.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.config.identity.public()
    }

    /// Sets what is served from now on. Handshakes that run are not touched.
    pub const fn set_profiles(&mut self, profiles: Profiles) {
        self.config.profiles = profiles;
    }

    /// Sets which key exchanges are served from now on. Handshakes that run are not touched.
    pub const fn set_pq(&mut self, pq: Pq) {
        self.config.pq = pq;
    }

    /// A handshake datagram of an initiator (type A or K) arrived from `from`.
    pub fn handle_datagram(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        load: Load,
        authority: &mut dyn Authority,
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> Outcome {
        let heavy = self.meter.is_heavy(now);
        let arrival = Arrival {
            from,
            datagram,
            load: if heavy { Load::Heavy } else { load },
            authority,
            entropy,
            now,
        };
        let handled = match datagram.first() {
            Some(&wire::TYPE_A) => self.handle_hello(arrival),
            Some(&wire::TYPE_K) => self.handle_chunk(arrival),
            Some(_) | None => Err(DropReason::Malformed),
        };
        handled.unwrap_or_else(Outcome::dropped)
    }

    /// It is `now`: what is too old goes.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.slots.expire(now);
    }

    /// When to come back if nothing arrives before.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        self.slots.poll_timeout()
    }

    /// The peer left the mesh: its running handshake ends. How new it was stays known.
    pub fn forget(&mut self, peer: &PublicKey) {
        self.slots.remove(peer);
    }

    fn handle_hello(&mut self, mut arrival: Arrival<'_>) -> Result<Outcome, DropReason> {
        let hello = HelloView::parse(arrival.datagram)?;
        if let Some(cookie) = self.admit(&mut arrival)? {
            return Ok(cookie);
        }
        let mac1 = mac::mac1(arrival.datagram).ok_or(DropReason::Malformed)?;
        if self.recent.contains(&mac1) {
            return self.seen_again(&arrival, hello.sender, &mac1);
        }
        if arrival.load == Load::Heavy && !self.budget.take(arrival.from, arrival.now) {
            return Err(DropReason::QueueFull);
        }
        self.meter.count(arrival.now);
        let Opened {
            mut noise,
            peer,
            payload,
        } = self.open(&hello, &mut arrival)?;
        self.recent.add(mac1);
        let payload = HelloPayload::decode(&payload).ok_or(DropReason::Malformed)?;
        let back = MacKey::back(&peer, &mac1);
        let (exchange, cipher) = match self.judge(&hello, &peer, &payload, arrival.now)? {
            Ok(agreed) => agreed,
            Err(refusal) => {
                let place = (hello.mode, &back, hello.sender);
                let reply = refuse(&self.config, &mut noise, place, refusal)?;
                return Ok(Outcome::refused(reply));
            }
        };
        let chunks = match exchange {
            Exchange::Hybrid => Some(Chunks::new(hello.profile, payload.commitment)),
            Exchange::Classical if payload.commitment == NO_COMMITMENT => None,
            Exchange::Classical => return Err(DropReason::Malformed),
        };
        let slot = Slot {
            peer,
            from: arrival.from,
            sender: hello.sender,
            mac1,
            back,
            profile: hello.profile,
            exchange,
            cipher,
            incarnation: payload.incarnation,
            options: payload.options.to_vec(),
            chunks,
            noise: Some(noise),
            answer: None,
            received: arrival.datagram.len(),
            sent: 0,
            born: arrival.now,
        };
        let (from, now) = (arrival.from, arrival.now);
        if !self.slots.insert(slot, now) {
            return Err(DropReason::QueueFull);
        }
        match exchange {
            Exchange::Hybrid => self.take_overtaking(hello.sender, arrival),
            Exchange::Classical => {
                let slot = self.slots.find(from, hello.sender, now);
                answer(&self.config, slot.ok_or(DropReason::QueueFull)?, arrival)
            }
        }
    }

    fn handle_chunk(&mut self, mut arrival: Arrival<'_>) -> Result<Outcome, DropReason> {
        let chunk = ChunkView::parse(arrival.datagram)?;
        let (from, now) = (arrival.from, arrival.now);
        if self.slots.find(from, chunk.sender, now).is_none() {
            return self.keep_overtaking(&chunk, &arrival);
        }
        if let Some(cookie) = self.admit(&mut arrival)? {
            return Ok(cookie);
        }
        let slot = self.slots.find(from, chunk.sender, now);
        let slot = slot.ok_or(DropReason::UnknownChunk)?;
        let chunks = slot.chunks.as_mut().ok_or(DropReason::UnknownChunk)?;
        let whole = chunks.offer(&chunk)?;
        slot.received += arrival.datagram.len();
        if !whole {
            return Ok(Outcome::default());
        }
        if slot.noise.is_some() {
            return answer(&self.config, slot, arrival);
        }
        repeat(slot)
    }

    /// Checks the MACs. A cookie goes out if one is needed.
    fn admit(&mut self, arrival: &mut Arrival<'_>) -> Result<Option<Outcome>, DropReason> {
        let Arrival {
            from,
            datagram,
            now,
            ..
        } = *arrival;
        if !self.mac1_key.verifies_mac1(datagram) {
            return Err(DropReason::BadMac1);
        }
        if arrival.load == Load::Normal {
            return Ok(None);
        }
        self.ring.clear();
        if self.jar.accepts(from, datagram, arrival.entropy, now) {
            return Ok(None);
        }
        let reply = self.jar.reply(from, datagram);
        Ok(Some(Outcome {
            replies: reply.into_iter().collect(),
            established: None,
            dropped: Some(DropReason::CookieRequired),
        }))
    }

    /// An A that was opened before: it counts for the bytes of its slot, no more; without ML-KEM it
    /// is the whole request, and asks for the answer once more.
    fn seen_again(
        &mut self,
        arrival: &Arrival<'_>,
        sender: u32,
        mac1: &[u8; wire::MAC],
    ) -> Result<Outcome, DropReason> {
        match self.slots.find(arrival.from, sender, arrival.now) {
            Some(slot) if slot.mac1 == *mac1 => {
                slot.received += arrival.datagram.len();
                match slot.exchange {
                    Exchange::Hybrid => Err(DropReason::Duplicate),
                    Exchange::Classical => repeat(slot),
                }
            }
            Some(_) | None => Err(DropReason::Replayed),
        }
    }

    fn open(&self, hello: &HelloView<'_>, arrival: &mut Arrival<'_>) -> Result<Opened, DropReason> {
        let ResponderConfig {
            suite, identity, ..
        } = &self.config;
        let noise = Noise::responder(
            suite,
            hello.profile,
            identity,
            &hello.header,
            arrival.entropy,
        );
        let mut noise = noise.ok_or(DropReason::Malformed)?;
        let payload = noise.read(hello.noise).ok_or(DropReason::Forged)?;
        let peer = noise.peer().ok_or(DropReason::Forged)?;
        if peer == self.public() || !arrival.authority.knows(&peer) {
            return Err(DropReason::UnknownPeer);
        }
        Ok(Opened {
            noise,
            peer,
            payload,
        })
    }

    /// What becomes of an authentic A of a configured peer.
    fn judge(
        &mut self,
        hello: &HelloView<'_>,
        peer: &PublicKey,
        payload: &HelloPayload<'_>,
        now: Timestamp,
    ) -> Result<Result<(Exchange, Cipher), Refusal>, DropReason> {
        match self
            .freshness
            .record(*peer, payload.incarnation, payload.counter)
        {
            Freshness::Fresh => {}
            Freshness::Seen => return Err(DropReason::Replayed),
            Freshness::Stale { seen } if self.freshness.may_tell(peer, now) => {
                return Ok(Err(Refusal::Stale { seen }));
            }
            Freshness::Stale { .. } => return Err(DropReason::Stale),
        }
        if !self.config.profiles.contains(hello.profile) {
            return Ok(Err(Refusal::Profile));
        }
        let exchange = Exchange::from_code(hello.mode);
        let Some(exchange) = exchange.filter(|exchange| self.config.pq.serves(*exchange)) else {
            return Ok(Err(Refusal::Exchange));
        };
        let common = self.config.ciphers.and(payload.ciphers);
        let cipher = common.best_for(hello.profile).ok_or(Refusal::Cipher);
        Ok(cipher.map(|cipher| (exchange, cipher)))
    }

    /// Keeps a chunk whose A may still come; not under load.
    fn keep_overtaking(
        &mut self,
        chunk: &ChunkView<'_>,
        arrival: &Arrival<'_>,
    ) -> Result<Outcome, DropReason> {
        if arrival.load == Load::Heavy {
            return Err(DropReason::UnknownChunk);
        }
        if !self.mac1_key.verifies_mac1(arrival.datagram) {
            return Err(DropReason::BadMac1);
        }
        self.ring
            .push(arrival.from, chunk.sender, arrival.datagram, arrival.now);
        Ok(Outcome::default())
    }

    /// Handles the chunks that overtook the A which now has a slot.
    fn take_overtaking(
        &mut self,
        sender: u32,
        arrival: Arrival<'_>,
    ) -> Result<Outcome, DropReason> {
        let mut dropped = None;
        for datagram in self.ring.take(arrival.from, sender, arrival.now) {
            let arrival = Arrival {
                datagram: &datagram,
                authority: &mut *arrival.authority,
                entropy: &mut *arrival.entropy,
                ..arrival
            };
            match self.handle_chunk(arrival) {
                // answered: chunks that are there twice must not cost the one repetition
                Ok(outcome) if !outcome.is_empty() => return Ok(outcome),
                Ok(_) => {}
                Err(reason) => dropped = Some(reason),
            }
        }
        Ok(Outcome {
            dropped,
            ..Outcome::default()
        })
    }
}

/// A whose sender is a configured peer.
struct Opened {
    noise: Noise,
    peer: PublicKey,
    payload: Vec<u8>,
}

/// The whole request is here: asks the authority, then answers. The slot's handshake is used up.
fn answer(
    config: &ResponderConfig,
    slot: &mut Slot,
    arrival: Arrival<'_>,
) -> Result<Outcome, DropReason> {
    let mut noise = slot.noise.take().ok_or(DropReason::Duplicate)?;
    let sealed = match (&slot.chunks, slot.exchange.kem(slot.profile)) {
        (Some(chunks), Some(kem)) => {
            let key = chunks.key().ok_or(DropReason::UnknownChunk)?;
            let sealed = (config.suite.kem_encapsulate)(kem, &key, arrival.entropy);
            Some(sealed.ok_or(DropReason::WeakKey)?)
        }
        (None, _) | (_, None) => None,
    };
    let request = Request {
        peer: slot.peer,
        from: slot.from,
        profile: slot.profile,
        cipher: slot.cipher,
        incarnation: slot.incarnation,
        payload: &slot.options,
    };
    let decision = match arrival.authority.decide(&request) {
        Decision::Accept { payload, .. } if payload.len() > MAX_RESPONSE => {
            Decision::Refuse(Refusal::NotAllowed)
        }
        decision => decision,
    };
    let (local_index, options) = match decision {
        Decision::Accept {
            local_index,
            payload,
        } => (local_index, payload),
        Decision::Refuse(refusal) => {
            let place = (slot.exchange.code(), &slot.back, slot.sender);
            let reply = refuse(config, &mut noise, place, refusal)?;
            slot.sent += reply.len();
            return Ok(Outcome::refused(reply));
        }
    };
    let (mixed, ciphertext) = match &sealed {
        Some((ciphertext, secret)) => (Mixed::Answer { secret, ciphertext }, &ciphertext[..]),
        None => (Mixed::Classical, &[][..]),
    };
    noise.mix(config.site_secret.as_ref(), slot.exchange.code(), mixed);
    let payload = AnswerPayload {
        sender: local_index,
        incarnation: config.incarnation,
        cipher: slot.cipher,
        options: &options,
    };
    let message = noise.write(&payload.encode()).ok_or(DropReason::WeakKey)?;
    let split = noise.finish(slot.cipher).ok_or(DropReason::Malformed)?;
    let mut replies = wire::encode_answer(slot.sender, ciphertext, &message);
    replies
        .iter_mut()
        .for_each(|datagram| slot.back.append(datagram));
    if !slot.may_send(&replies) {
        return Err(DropReason::TooLarge);
    }
    slot.answer = Some(replies.clone());
    let established = Established {
        peer: slot.peer,
        root: split.root,
        handshake_hash: split.handshake_hash,
        local_index,
        remote_index: slot.sender,
        profile: slot.profile,
        cipher: slot.cipher,
        payload: std::mem::take(&mut slot.options),
        initiator: false,
        peer_incarnation: slot.incarnation,
        exchange: slot.exchange,
        provider: config.suite.name,
    };
    Ok(Outcome {
        replies,
        established: Some(Box::new(established)),
        dropped: None,
    })
}

/// The request came once more: the answer was lost. It is repeated once.
fn repeat(slot: &mut Slot) -> Result<Outcome, DropReason> {
    let replies = slot.answer.take().ok_or(DropReason::Duplicate)?;
    if !slot.may_send(&replies) {
        return Err(DropReason::Duplicate);
    }
    Ok(Outcome {
        replies,
        ..Outcome::default()
    })
}

/// A refusal: the second Noise message, without KEM material, so that it costs no more than A did.
fn refuse(
    config: &ResponderConfig,
    noise: &mut Noise,
    (mode, back, receiver): (u8, &MacKey, u32),
    refusal: Refusal,
) -> Result<Vec<u8>, DropReason> {
    noise.mix(config.site_secret.as_ref(), mode, Mixed::Refusal);
    let message = noise.write(&refusal.encode()).ok_or(DropReason::WeakKey)?;
    let mut reply = wire::encode_refusal(receiver, &message);
    back.append(&mut reply);
    Ok(reply)
}
