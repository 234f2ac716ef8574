//! Who takes part in a handshake, and what comes out of it.

use std::fmt::{self, Debug};
use std::sync::Arc;

use vpnmesh_core::{PublicKey, Secret};

use super::exchange::Exchange;
use crate::entropy::{self, Entropy};
use crate::kdf::{self, label};
use crate::suite::{Cipher, CryptoSuite, DhKey, Kem, Profile};

/// A static X25519 key pair: what a member is known by. It computes on the provider it was made
/// with.
pub struct Identity {
    secret: Secret<32>,
    key: Arc<dyn DhKey>,
    public: PublicKey,
}

impl Identity {
    /// A fresh key pair.
    #[must_use]
    pub fn generate(suite: &CryptoSuite, entropy: &mut dyn Entropy) -> Self {
        Self::from_secret(suite, entropy::secret(entropy))
    }

    /// The key pair of a stored secret key.
    #[must_use]
    pub fn from_secret(suite: &CryptoSuite, secret: Secret<32>) -> Self {
        let key = (suite.x25519_key)(&secret);
        let public = PublicKey(key.public());
        Self {
            secret,
            key,
            public,
        }
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The secret half.
    #[must_use]
    pub const fn secret(&self) -> &Secret<32> {
        &self.secret
    }

    /// What both owners of two static keys can compute and nobody else; `None` if the other key is
    /// of low order.
    #[must_use]
    pub fn agree(&self, other: &PublicKey) -> Option<Secret<32>> {
        self.key.agree(&other.0)
    }

    /// A second copy, for a second owner.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            secret: self.secret.duplicate(),
            key: Arc::clone(&self.key),
            public: self.public,
        }
    }

    pub(super) const fn key(&self) -> &Arc<dyn DhKey> {
        &self.key
    }
}

impl Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.public).finish()
    }
}

/// One life of a process: a counter that was durably advanced before its first packet gives the
/// order, random bits make it unique even if the counter was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation {
    /// Greater than in every life before.
    pub counter: u64,
    /// Drawn at start.
    pub random: [u8; 16],
}

impl Incarnation {
    /// A new life after `counter` was durably written.
    #[must_use]
    pub fn new(counter: u64, entropy: &mut dyn Entropy) -> Self {
        let mut random = [0; 16];
        entropy.fill(&mut random);
        Self { counter, random }
    }
}

/// What a finished handshake gives to both sides.
///
/// The initiator may send at once. The responder sends with the new keys only after the
/// initiator's first packet opened under them: until then nothing proves that the initiator lives
/// now, and an established session before it must be kept.
#[derive(Debug)]
pub struct Established {
    /// The peer's static key, proven by the handshake.
    pub peer: PublicKey,
    /// The secret that all keys of the session follow from.
    pub root: Secret<32>,
    /// Names this handshake; equal on both sides, public.
    pub handshake_hash: [u8; 32],
    /// Our index: what the peer writes into packets to us.
    pub local_index: u32,
    /// The peer's index: what we write into packets to it.
    pub remote_index: u32,
    /// The agreed profile.
    pub profile: Profile,
    /// The agreed packet cipher.
    pub cipher: Cipher,
    /// The peer's own payload, as it was authenticated.
    pub payload: Vec<u8>,
    /// Whether this side started the handshake.
    pub initiator: bool,
    /// The peer's life.
    pub peer_incarnation: Incarnation,
    /// The key exchange that both ends agreed on.
    pub exchange: Exchange,
    /// The provider, for reports.
    pub provider: &'static str,
}

impl Established {
    /// A secret for `purpose` that both ends have and that leads to no key of the session.
    #[must_use]
    pub fn export(&self, purpose: &[u8]) -> Secret<32> {
        kdf::derive(&[], &[self.root.expose()], label::EXPORT, &[purpose])
    }

    /// The post-quantum half of the key exchange; `None` if there was none.
    #[must_use]
    pub const fn kem(&self) -> Option<Kem> {
        self.exchange.kem(self.profile)
    }
}

/// Why a responder refuses, as it tells the initiator under authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The profile is not allowed here. Ask for another one only if your own floor allows it.
    Profile,
    /// No packet cipher is common to both sides.
    Cipher,
    /// The initiator's incarnation is not newer than the greatest one seen. Advance the durable
    /// counter beyond `seen`, then try again.
    Stale {
        /// The greatest incarnation counter that the responder has seen of this key.
        seen: u64,
    },
    /// The responder has no room or is going away. Try another member.
    Busy,
    /// The responder's own rules say no.
    NotAllowed,
    /// The key exchange is not served: the responder requires ML-KEM, or has it switched off.
    Exchange,
}

impl Refusal {
    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Cipher => "cipher",
            Self::Stale { .. } => "stale",
            Self::Busy => "busy",
            Self::NotAllowed => "not_allowed",
            Self::Exchange => "exchange",
        }
    }

    pub(crate) fn encode(self) -> [u8; Self::LEN] {
        let (code, value): (u8, u64) = match self {
            Self::Profile => (1, 0),
            Self::Cipher => (2, 0),
            Self::Stale { seen } => (3, seen),
            Self::Busy => (4, 0),
            Self::NotAllowed => (5, 0),
            Self::Exchange => (6, 0),
        };
        let mut bytes = [0; Self::LEN];
        bytes[0] = code;
        bytes[1..].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (code, value) = bytes.split_first()?;
        let value = u64::from_le_bytes(value.try_into().ok()?);
        match code {
            1 => Some(Self::Profile),
            2 => Some(Self::Cipher),
            3 => Some(Self::Stale { seen: value }),
            4 => Some(Self::Busy),
            5 => Some(Self::NotAllowed),
            6 => Some(Self::Exchange),
            _ => None,
        }
    }

    pub(crate) const LEN: usize = 9;
}
