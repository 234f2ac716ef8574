//! The state of a session that its shadows keep.
//!
//! - [`SessionRecord`]: what a primary tells its shadows. Holds no secret: a branch travels beside
//!   it, once.
//! - [`SessionDocument`]: the same state in the standard form that other programs read and write,
//!   as JSON or in few bytes, for one holder, with the holder's secrets sealed to it.
//! - [`SealingIdentity`], [`HolderKey`], [`Sealed`]: how secrets are sealed to a holder.

mod binary;
mod form;
mod json;
mod sealed;
mod secrets;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use vpnmesh_core::{ClientId, NodeId, PublicKey, SessionId, Tier};

pub use json::{
    CryptoParams, EspParams, Extension, MAX_HOLDERS, MAX_JSON, Placement, PortData,
    SessionDocument, VERSION,
};
pub use sealed::{HolderKey, Purpose, SealContext, Sealed, SealingIdentity};
pub use secrets::SessionSecrets;

/// A session as its primary describes it to its shadows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session.
    pub session: SessionId,
    /// Grows with every change, within one generation at least.
    pub version: u64,
    /// Whose session it is.
    pub client: ClientId,
    /// The client's static key.
    pub client_key: PublicKey,
    /// The client's incarnation counter.
    pub client_incarnation: u64,
    /// Where the client was last heard.
    pub client_address: SocketAddr,
    /// Addresses that the client used before, newest first; at most [`MAX_SOURCES`].
    pub source_ips: Vec<IpAddr>,
    /// The generation.
    pub generation: u32,
    /// The last move.
    pub number: u32,
    /// The holders, by branch number; the primary is the first.
    pub holders: Vec<NodeId>,
    /// The tier in force.
    pub tier: Tier,
    /// Wire code of the handshake profile.
    pub profile: u8,
    /// Wire code of the packet cipher.
    pub cipher: u8,
    /// Hash of the handshake behind this generation.
    pub handshake_hash: [u8; 32],
}

impl SessionRecord {
    /// Whether no list is longer than it may be, and none of the needed ones is empty.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        (1..=MAX_HOLDERS).contains(&self.holders.len()) && self.source_ips.len() <= MAX_SOURCES
    }

    /// Whether what never changes within a generation is the same in `other`.
    #[must_use]
    pub fn is_same_session(&self, other: &Self) -> bool {
        self.client == other.client
            && self.client_key == other.client_key
            && self.client_incarnation == other.client_incarnation
            && self.cipher == other.cipher
    }

    /// What enters the digest for this session.
    #[must_use]
    pub fn digest(&self) -> u64 {
        digest_of(self.session, self.generation, self.version)
    }

    /// Notes where the client is; whether that is new.
    pub fn note_address(&mut self, address: SocketAddr) -> bool {
        if self.client_address == address {
            return false;
        }
        let before = self.client_address.ip();
        self.client_address = address;
        if before != address.ip() {
            self.source_ips.retain(|ip| *ip != before);
            self.source_ips.insert(0, before);
            self.source_ips.truncate(MAX_SOURCES);
        }
        true
    }
}

/// A session's share of a digest: equal sums mean equal sets, but for one chance in 2^64. Peers
/// are authentic here, so a plain mixing function is enough.
#[must_use]
pub fn digest_of(session: SessionId, generation: u32, version: u64) -> u64 {
    let mut low = [0; 8];
    let mut high = [0; 8];
    low.copy_from_slice(&session.0[..8]);
    high.copy_from_slice(&session.0[8..]);
    let mut hash = 0;
    for word in [
        u64::from_le_bytes(low),
        u64::from_le_bytes(high),
        u64::from(generation),
        version,
    ] {
        hash = crate::flow::mix(hash ^ word);
    }
    hash
}

/// The bucket of a session in a mismatching digest.
#[must_use]
pub const fn bucket_of(session: SessionId) -> usize {
    session.0[0] as usize % BUCKETS
}

/// With 100 000 sessions a bucket lists some 400 of them.
pub const BUCKETS: usize = 256;
/// The newest addresses are those that can matter.
pub const MAX_SOURCES: usize = 8;
