//! Answers all initiators, with one slot per configured peer.

use std::net::SocketAddr;

use vpnmesh_core::{PublicKey, Secret, Timestamp};

use super::identity::{Established, Identity, Incarnation, Refusal};
use crate::DropReason;
use crate::entropy::Entropy;
use crate::suite::{Cipher, Ciphers, CryptoSuite, Profile, Profiles};

/// What a responder is configured with.
#[derive(Debug)]
pub struct ResponderConfig {
    /// The provider of cryptography.
    pub suite: CryptoSuite,
    /// Who we are.
    pub identity: Identity,
    /// A secret that all members of a mesh share; `None` if there is none.
    pub site_secret: Option<Secret<32>>,
    /// Our life, told to initiators.
    pub incarnation: Incarnation,
    /// What is served; anything else is refused. Default: `Standard` and stronger.
    pub profiles: Profiles,
    /// The packet ciphers that we are willing to use. Default: what suits this machine.
    pub ciphers: Ciphers,
}

/// Whether handshakes come faster than they can be served. The caller measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Load {
    /// Everything is served at once.
    #[default]
    Normal,
    /// Every datagram must show a cookie first; chunks that overtook their A are dropped.
    Heavy,
}

/// Decides about initiators. The endpoint implements it.
pub trait Authority {
    /// Whether `peer` is configured here. Asked before any state is kept.
    fn knows(&mut self, peer: &PublicKey) -> bool;

    /// `request` is authenticated, fresh and complete: accept it with a local index and a payload
    /// for the initiator, or refuse it. The payload is refused as a whole if it is longer than
    /// [`MAX_RESPONSE`](super::MAX_RESPONSE) bytes: [`Refusal::NotAllowed`] goes out then.
    fn decide(&mut self, request: &Request<'_>) -> Decision;
}

/// What an initiator asks for.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its static key.
    pub peer: PublicKey,
    /// Where it came from. Not proven.
    pub from: SocketAddr,
    /// The profile it states.
    pub profile: Profile,
    /// The cipher that would be used.
    pub cipher: Cipher,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its options.
    pub payload: &'a [u8],
}

/// The endpoint's answer to a request.
#[derive(Debug)]
pub enum Decision {
    /// Establish.
    Accept {
        /// Our index for the session: unique among our sessions, and unpredictable.
        local_index: u32,
        /// Options for the initiator; up to [`SINGLE_RESPONSE`](super::SINGLE_RESPONSE) bytes cost
        /// no second datagram.
        payload: Vec<u8>,
    },
    /// Tell the initiator no.
    Refuse(Refusal),
}

/// What came of one datagram.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Datagrams to send back to where it came from.
    pub replies: Vec<Vec<u8>>,
    /// A session, if one was established.
    pub established: Option<Box<Established>>,
    /// Why the datagram led nowhere, to be counted. There may be replies nevertheless (a cookie, a
    /// refusal).
    pub dropped: Option<DropReason>,
}

/// Answers all initiators.
#[derive(Debug)]
pub struct Responder {}

impl Responder {
    /// A responder without any state.
    #[must_use]
    pub fn new(config: ResponderConfig, entropy: &mut dyn Entropy, now: Timestamp) -> Self {
        let _ = (config, entropy, now);
        Self {}
    }

    /// Our public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey([0; 32])
    }

    /// Sets what is served from now on.
    pub fn set_profiles(&mut self, profiles: Profiles) {
        let _ = profiles;
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
        let _ = (from, datagram, load, authority, entropy, now);
        Outcome::default()
    }

    /// It is `now`: what is too old goes.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// When to come back if nothing arrives before.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        Timestamp::MAX
    }

    /// The peer left the mesh: its slot goes, its freshness record stays.
    pub fn forget(&mut self, peer: &PublicKey) {
        let _ = peer;
    }
}
