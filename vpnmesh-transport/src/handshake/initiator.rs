//! One attempt to establish a session with a responder.

use std::time::Duration;

use vpnmesh_core::{PublicKey, Secret, Timestamp};

use super::identity::{Established, Identity, Incarnation, Refusal};
use super::mac::Cookie;
use crate::entropy::Entropy;
use crate::suite::{Ciphers, CryptoSuite, Profile};
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
    /// The packet ciphers that we are willing to use.
    pub ciphers: Ciphers,
    /// Our life.
    pub incarnation: Incarnation,
    /// Greater than in every attempt before, towards the same peer and within this life.
    pub counter: u32,
    /// Our index for the session: unique among our sessions and attempts, and unpredictable.
    pub local_index: u32,
    /// Options for the peer, opaque here, at most [`MAX_OPTIONS`](super::MAX_OPTIONS) bytes.
    /// Encrypted, not forward secret towards a later theft of the peer's key.
    pub payload: &'a [u8],
    /// A cookie that an earlier attempt got from the same address.
    pub cookie: Option<Cookie>,
    /// When the same bytes are repeated, once. About twice the expected round trip;
    /// 250 ms is good for an unknown path. The attempt ends after four times as long.
    pub retry: Duration,
}

/// One attempt, at most [`Initiator::LIFETIME`] long.
#[derive(Debug)]
pub struct Initiator {}

/// Where an attempt stands after a datagram.
#[derive(Debug)]
pub enum Progress {
    /// Nothing decided yet. There may be something to transmit.
    Waiting,
    /// The session exists; the attempt is used up.
    Established(Box<Established>),
    /// The responder said no, authenticated; the attempt is used up.
    Refused(Refusal),
}

impl Initiator {
    /// The longest life of an attempt.
    pub const LIFETIME: Duration = Duration::from_secs(5);

    /// Starts an attempt; drain [`Initiator::poll_transmit`] next.
    ///
    /// # Errors
    /// [`Error::PayloadTooLong`], [`Error::UnusableKey`] or [`Error::NoCipher`]; nothing was sent.
    pub fn new(
        attempt: &Attempt<'_>,
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let _ = (attempt, entropy, now);
        Ok(Self {})
    }

    /// Our index: datagrams with it as their receiver belong to this attempt.
    #[must_use]
    pub fn local_index(&self) -> u32 {
        0
    }

    /// Whom it wants to reach.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        PublicKey([0; 32])
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
        let _ = (datagram, now);
        Err(DropReason::Malformed)
    }

    /// It is `now`: the repetition may be due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// The next datagram to send to the responder.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// When to come back if nothing arrives before.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        Timestamp::MAX
    }

    /// Whether the attempt is over without an answer: drop it and start afresh.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        let _ = now;
        false
    }

    /// The cookie the responder gave us, for the next attempt.
    #[must_use]
    pub fn cookie(&self) -> Option<Cookie> {
        None
    }
}
