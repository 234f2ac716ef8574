//! What passes between a responder and the endpoint that owns it.

use std::net::SocketAddr;

use vpnmesh_core::{PublicKey, Secret};

use super::exchange::Pq;
use super::identity::{Established, Identity, Incarnation, Refusal};
#[cfg(doc)]
use super::wire::{MAX_RESPONSE, SINGLE_RESPONSE};
use crate::DropReason;
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
    /// Which key exchanges are served.
    pub pq: Pq,
}

/// What the caller knows about its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Load {
    /// Nothing special: the responder measures for itself how many handshakes it opens.
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
    /// [`MAX_RESPONSE`] bytes: [`Refusal::NotAllowed`] goes out then.
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
        /// Options for the initiator; up to [`SINGLE_RESPONSE`] bytes cost
        /// no second datagram.
        payload: Vec<u8>,
    },
    /// Tell the initiator no.
    Refuse(Refusal),
}

/// What came of one datagram.
#[derive(Debug, Default)]
#[must_use]
pub struct Outcome {
    /// Datagrams to send back to where it came from.
    pub replies: Vec<Vec<u8>>,
    /// A session, if one was established.
    pub established: Option<Box<Established>>,
    /// Why the datagram led nowhere, to be counted. There may be replies nevertheless (a cookie, a
    /// refusal).
    pub dropped: Option<DropReason>,
}

impl Outcome {
    pub(super) fn dropped(reason: DropReason) -> Self {
        Self {
            dropped: Some(reason),
            ..Self::default()
        }
    }

    pub(super) fn refused(reply: Vec<u8>) -> Self {
        Self {
            replies: vec![reply],
            ..Self::dropped(DropReason::Refused)
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.established.is_none() && self.dropped.is_none()
    }
}
