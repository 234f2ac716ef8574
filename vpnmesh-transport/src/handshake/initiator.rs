//! One attempt to establish a session with a responder.

use std::fmt::{self, Debug};
use std::time::Duration;

use vpnmesh_core::{PublicKey, Secret, Timestamp};

use super::chunk;
use super::exchange::Exchange;
use super::identity::{Established, Identity, Incarnation, Refusal};
use super::mac::{self, Cookie, MacKey};
use super::noise::{Mixed, Noise};
use super::wire::{self, AnswerPayload, AnswerView, HelloPayload, MAX_OPTIONS, NO_COMMITMENT};
use crate::entropy::Entropy;
use crate::suite::{Ciphers, CryptoSuite, KemSecret, Profile};
use crate::{DropReason, Error};

/// What an attempt needs to know.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The provider of cryptography.
    pub suite: CryptoSuite,
    /// Who we are.
    pub identity: &'a Identity,
    /// Whom we want to reach.
    pub peer: PublicKey,
    /// A secret that all members of a mesh share, mixed into the keys; `None` if there is none.
    pub site_secret: Option<&'a Secret<32>>,
    /// The profile; the responder serves it or refuses.
    pub profile: Profile,
    /// The key exchange; the responder serves it or refuses.
    pub exchange: Exchange,
    /// The packet ciphers that we are willing to use.
    pub ciphers: Ciphers,
    /// Our life.
    pub incarnation: Incarnation,
    /// Greater than in every attempt before, towards the same peer and within this life.
    pub counter: u32,
    /// Our index for the session: unique among our sessions and attempts, and unpredictable.
    pub local_index: u32,
    /// Options for the peer, opaque here, at most [`MAX_OPTIONS`] bytes. Encrypted by X25519
    /// alone, without forward secrecy: no secrets here. The responder's options are fully hybrid.
    pub payload: &'a [u8],
    /// A cookie that an earlier attempt got from the same address.
    pub cookie: Option<Cookie>,
    /// When the same bytes are repeated, once. About twice the expected round trip; 250 ms is good
    /// for an unknown path. The attempt ends after four times as long, at the latest after
    /// [`Initiator::LIFETIME`].
    pub retry: Duration,
}

/// Where an attempt stands after a datagram.
#[derive(Debug)]
pub enum Progress {
    /// Nothing decided yet. There may be something to transmit.
    Waiting,
    /// The session exists; the attempt is used up. Data may be sent at once.
    Established(Box<Established>),
    /// The responder said no, authenticated by its static key; the attempt is used up.
    Refused(Refusal),
}

/// One attempt. A new one needs a greater counter.
pub struct Initiator {
    suite: CryptoSuite,
    peer: PublicKey,
    site_secret: Option<Secret<32>>,
    profile: Profile,
    exchange: Exchange,
    ciphers: Ciphers,
    local_index: u32,
    /// `None` once the attempt is used up.
    noise: Option<Noise>,
    /// `None` without ML-KEM.
    kem: Option<Box<dyn KemSecret>>,
    back: MacKey,
    /// A and all K, without mac2.
    flight: Vec<Vec<u8>>,
    /// How many datagrams of the flight were handed out; all of them if it is as long.
    handed_out: usize,
    cookie: Option<Cookie>,
    /// How often a cookie made us repeat the flight; at most [`MAX_COOKIES`].
    cookies: u32,
    /// How many answers did not authenticate; at most [`MAX_FORGED`].
    forged: u32,
    /// The first half of a ciphertext, and an R that waits for it.
    half: Option<Vec<u8>>,
    waiting: Option<Vec<u8>>,
    repeat_at: Timestamp,
    ends_at: Timestamp,
}

impl Initiator {
    /// The longest life of an attempt.
    pub const LIFETIME: Duration = Duration::from_secs(5);

    /// Starts an attempt; drain [`Initiator::poll_transmit`] next.
    ///
    /// # Errors
    /// [`Error::PayloadTooLong`], [`Error::UnusableKey`] or [`Error::NoCipher`]; nothing was sent.
    pub fn new(
        attempt: Attempt<'_>,
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, Error> {
        check(&attempt)?;
        let unusable = Error::UnusableKey { key: attempt.peer };
        let Attempt {
            suite,
            profile,
            exchange,
            local_index,
            ..
        } = attempt;
        let (kem, chunks, commitment) = match exchange.kem(profile) {
            Some(kem) => {
                let pair = (suite.kem_generate)(kem, entropy);
                let (chunks, commitment) = chunk::cut(profile, local_index, &pair.public);
                (Some(pair.secret), chunks, commitment)
            }
            None => (None, Vec::new(), NO_COMMITMENT),
        };
        let header = wire::header_a(profile, exchange, local_index);
        let noise = Noise::initiator(
            &suite,
            profile,
            attempt.identity,
            &attempt.peer,
            &header,
            entropy,
        );
        let mut noise = noise.ok_or(unusable.clone())?;
        let payload = HelloPayload {
            incarnation: attempt.incarnation,
            counter: attempt.counter,
            ciphers: attempt.ciphers,
            commitment,
            options: attempt.payload,
        };
        let message = noise.write(&payload.encode()).ok_or(unusable)?;
        let mac1_key = MacKey::towards(&attempt.peer);
        let hello = [&header[..], &message].concat();
        let mut flight: Vec<Vec<u8>> = std::iter::once(hello).chain(chunks).collect();
        flight
            .iter_mut()
            .for_each(|datagram| mac1_key.append(datagram));
        let mac1 = *flight[0].last_chunk().expect("a MAC was appended");
        Ok(Self {
            suite,
            peer: attempt.peer,
            site_secret: attempt.site_secret.map(Secret::duplicate),
            profile,
            exchange,
            ciphers: attempt.ciphers,
            local_index,
            noise: Some(noise),
            kem,
            back: MacKey::back(&attempt.identity.public(), &mac1),
            flight,
            handed_out: 0,
            cookie: attempt.cookie.filter(|cookie| cookie.is_fresh(now)),
            cookies: 0,
            forged: 0,
            half: None,
            waiting: None,
            repeat_at: now + attempt.retry,
            ends_at: now + (attempt.retry * 4).min(Self::LIFETIME),
        })
    }

    /// Our index: datagrams with it as their receiver belong to this attempt.
    #[must_use]
    pub const fn local_index(&self) -> u32 {
        self.local_index
    }

    /// Whom it wants to reach.
    #[must_use]
    pub const fn peer(&self) -> PublicKey {
        self.peer
    }

    /// A handshake datagram for our index arrived.
    ///
    /// # Errors
    /// Why it was dropped. The attempt goes on.
    pub fn handle_datagram(
        &mut self,
        datagram: &[u8],
        now: Timestamp,
    ) -> Result<Progress, DropReason> {
        if self.is_expired(now) {
            return Err(DropReason::Stale);
        }
        if wire::index(datagram)? != self.local_index {
            return Err(DropReason::UnknownIndex);
        }
        match datagram[0] {
            wire::TYPE_R => self.handle_answer(datagram),
            wire::TYPE_R_CHUNK => self.handle_half(datagram),
            wire::TYPE_COOKIE => self.handle_cookie(datagram, now),
            wire::TYPE_REFUSAL => self.handle_refusal(datagram),
            _ => Err(DropReason::Malformed),
        }
    }

    /// It is `now`: the repetition may be due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if now >= self.repeat_at && !self.is_expired(now) {
            self.repeat_at = Timestamp::MAX;
            self.handed_out = 0;
        }
    }

    /// The next datagram to send to the responder.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.noise.as_ref()?;
        let mut datagram = self.flight.get(self.handed_out)?.clone();
        self.handed_out += 1;
        mac::append_mac2(&mut datagram, self.cookie.as_ref());
        Some(datagram)
    }

    /// When to come back if nothing arrives before.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        self.repeat_at.min(self.ends_at)
    }

    /// Whether the attempt is over: drop it, and start afresh if it brought nothing.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.ends_at || self.noise.is_none()
    }

    /// The cookie the responder gave us, for the next attempt.
    #[must_use]
    pub fn cookie(&self) -> Option<Cookie> {
        self.cookie.as_ref().map(Cookie::duplicate)
    }

    fn handle_answer(&mut self, datagram: &[u8]) -> Result<Progress, DropReason> {
        self.check_mac(datagram)?;
        let answer = AnswerView::parse(datagram, self.exchange.kem(self.profile))?;
        if !answer.halved {
            return self.open(answer.ciphertext, answer.noise);
        }
        self.waiting = Some(datagram.to_vec());
        self.join()
    }

    fn handle_half(&mut self, datagram: &[u8]) -> Result<Progress, DropReason> {
        self.check_mac(datagram)?;
        let kem = self.exchange.kem(self.profile);
        let half = wire::parse_answer_chunk(datagram, kem.ok_or(DropReason::Malformed)?)?;
        self.half = Some(half.to_vec());
        self.join()
    }

    /// Opens the answer once both parts are here. Both stay: if one was forged, the true one may
    /// still come.
    fn join(&mut self) -> Result<Progress, DropReason> {
        let (Some(half), Some(datagram)) = (&self.half, &self.waiting) else {
            return Ok(Progress::Waiting);
        };
        let datagram = datagram.clone();
        let answer = AnswerView::parse(&datagram, self.exchange.kem(self.profile))?;
        let ciphertext = [half, answer.ciphertext].concat();
        self.open(&ciphertext, answer.noise)
    }

    fn open(&mut self, ciphertext: &[u8], message: &[u8]) -> Result<Progress, DropReason> {
        let secret = match &self.kem {
            Some(kem) => Some(kem.decapsulate(ciphertext).ok_or(DropReason::Malformed)?),
            None => None,
        };
        let mixed = match &secret {
            Some(secret) => Mixed::Answer { secret, ciphertext },
            None => Mixed::Classical,
        };
        let payload = self.read(mixed, message)?;
        // the message is authentic: whatever is wrong with it now ends the attempt
        let noise = self.noise.take().ok_or(DropReason::Stale)?;
        let payload = AnswerPayload::decode(&payload).ok_or(DropReason::Malformed)?;
        let cipher = payload.cipher;
        if !self.ciphers.contains(cipher) || !self.profile.ciphers().contains(&cipher) {
            return Err(DropReason::Refused);
        }
        let split = noise.finish(cipher).ok_or(DropReason::Malformed)?;
        Ok(Progress::Established(Box::new(Established {
            peer: self.peer,
            root: split.root,
            handshake_hash: split.handshake_hash,
            local_index: self.local_index,
            remote_index: payload.sender,
            profile: self.profile,
            cipher,
            payload: payload.options.to_vec(),
            initiator: true,
            peer_incarnation: payload.incarnation,
            exchange: self.exchange,
            provider: self.suite.name,
        })))
    }

    fn handle_refusal(&mut self, datagram: &[u8]) -> Result<Progress, DropReason> {
        self.check_mac(datagram)?;
        let message = wire::parse_refusal(datagram)?;
        let payload = self.read(Mixed::Refusal, message)?;
        self.noise = None;
        let refusal = Refusal::decode(&payload).ok_or(DropReason::Malformed)?;
        Ok(Progress::Refused(refusal))
    }

    fn read(&mut self, mixed: Mixed<'_>, message: &[u8]) -> Result<Vec<u8>, DropReason> {
        if self.forged >= MAX_FORGED {
            return Err(DropReason::Forged);
        }
        let noise = self.noise.as_mut().ok_or(DropReason::Stale)?;
        noise.mix(self.site_secret.as_ref(), self.exchange.code(), mixed);
        let payload = noise.read(message);
        self.forged += u32::from(payload.is_none());
        payload.ok_or(DropReason::Forged)
    }

    fn handle_cookie(&mut self, datagram: &[u8], now: Timestamp) -> Result<Progress, DropReason> {
        let sealed = wire::parse_cookie(datagram)?;
        if self.cookies >= MAX_COOKIES {
            return Err(DropReason::Duplicate);
        }
        let mac1s = self
            .flight
            .iter()
            .filter_map(|datagram| datagram.last_chunk());
        let opened = mac1s
            .filter_map(|mac1| Cookie::open(&self.suite, &self.peer, mac1, sealed, now))
            .next();
        self.cookie = Some(opened.ok_or(DropReason::Forged)?);
        self.cookies += 1;
        self.handed_out = 0;
        Ok(Progress::Waiting)
    }

    fn check_mac(&self, datagram: &[u8]) -> Result<(), DropReason> {
        if self.back.verifies(datagram) {
            Ok(())
        } else {
            Err(DropReason::BadMac1)
        }
    }
}

impl Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("peer", &self.peer)
            .field("profile", &self.profile)
            .field("ends_at", &self.ends_at)
            .finish_non_exhaustive()
    }
}

fn check(attempt: &Attempt<'_>) -> Result<(), Error> {
    let len = attempt.payload.len();
    if len > MAX_OPTIONS {
        return Err(Error::PayloadTooLong {
            len,
            max: MAX_OPTIONS,
        });
    }
    if attempt.ciphers.best_for(attempt.profile).is_none() {
        let profile = attempt.profile.name();
        return Err(Error::NoCipher { profile });
    }
    Ok(())
}

/// A responder's load may rise, fall and rise within an attempt; more is an attack.
const MAX_COOKIES: u32 = 3;
/// Each costs two Diffie-Hellman operations, so this is a fifth of a second; only who saw A can make
/// one. A small bound would let that attacker end the attempt.
const MAX_FORGED: u32 = 1024;
