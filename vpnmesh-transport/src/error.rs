//! What can go wrong: errors of the caller, and reasons for which a datagram is dropped.

use std::fmt;

/// What a caller of this crate can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's options do not fit the handshake. Nothing was sent.
    #[error("handshake payload of {len} bytes, at most {max} fit")]
    PayloadTooLong {
        /// What the caller gave.
        len: usize,
        /// What fits.
        max: usize,
    },

    /// The configured key of the peer is no usable X25519 key. Nothing was sent; correct the
    /// configuration.
    #[error("public key {key:?} is not usable")]
    UnusableKey {
        /// The key.
        key: vpnmesh_core::PublicKey,
    },

    /// No cipher of the profile is allowed here. Nothing was sent; allow one.
    #[error("no allowed cipher belongs to profile {profile}")]
    NoCipher {
        /// The profile that was asked for.
        profile: &'static str,
    },

    /// The signed membership on disk does not verify under the pinned root key, or its content is
    /// wrong. Nothing was started; fetch a new one from the controller.
    #[error("the signed membership does not verify under the pinned root key")]
    Membership,

    /// This identity is not in the membership. Nothing was started; have the controller admit it.
    #[error("public key {key:?} is no {role} in membership version {version:?}")]
    NotAMember {
        /// The key.
        key: vpnmesh_core::PublicKey,
        /// What it should be.
        role: &'static str,
        /// The membership's version.
        version: vpnmesh_core::Version,
    },

    /// A session document from a peer, a file or a user is not well formed, or says things that do
    /// not go together. Nothing was taken from it.
    #[error("session document: {field}: {reason}")]
    Document {
        /// The path of the field, such as `crypto_params.shared_secret`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The session document describes the session for another holder. Nothing was opened or
    /// sealed; ask the primary for the document of this holder.
    #[error("session document is for {named}, not for {holder}")]
    OtherHolder {
        /// Whom the document is for.
        named: vpnmesh_core::NodeId,
        /// Who was to open it, or whose key was given.
        holder: vpnmesh_core::NodeId,
    },

    /// The session document carries no secrets. They travel once per generation; use those that
    /// came with the first document of the generation.
    #[error("session document has no {field}")]
    NotSealed {
        /// The field that is null.
        field: &'static str,
    },

    /// A sealed value does not open: it is for another key, from another place, or was changed. The
    /// document cannot be used; ask the primary for a new one.
    #[error("{field} does not open for {holder}")]
    Unsealing {
        /// The field.
        field: &'static str,
        /// Who tried.
        holder: vpnmesh_core::NodeId,
    },

    /// The published sealing key of a holder is no key. Nothing is sealed to it.
    #[error("sealing key of {holder} is not usable")]
    HolderKey {
        /// Whose key it is.
        holder: vpnmesh_core::NodeId,
    },

    /// The system gave no randomness at start. Nothing was sent; fatal for a process.
    #[error("no randomness from the system")]
    NoRandomness,
}

/// Why a datagram or a packet was dropped. Each reason is a counter; the session lives on.
///
/// Nothing of this is told to the peer, except what an authenticated refusal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum DropReason {
    /// The layout is wrong: too short, too long, unknown type, reserved bits.
    Malformed,
    /// No session, branch or attempt has this receiver index.
    UnknownIndex,
    /// This counter, or this handshake, was seen before.
    Replayed,
    /// It does not authenticate.
    Forged,
    /// A lower (generation, move) than the greatest one seen.
    Fenced,
    /// The inner source address does not belong to this session.
    NotAllowedSource,
    /// No session leads to the inner destination.
    NoRoute,
    /// It does not fit the path or the layout.
    TooLarge,
    /// A bounded queue or table is full.
    QueueFull,
    /// Too old: its keys, its attempt or its incarnation are gone.
    Stale,
    /// The first MAC of a handshake datagram is wrong: not meant for this key.
    BadMac1,
    /// Under load, and no valid cookie was shown: a cookie went out instead.
    CookieRequired,
    /// The handshake is sound, but this key belongs to no configured peer.
    UnknownPeer,
    /// A key chunk that no handshake waits for, or that does not match its commitment.
    UnknownChunk,
    /// The peer's profile, cipher, key exchange or request is not allowed here: a refusal went out. Or
    /// the peer said so to us.
    Refused,
    /// A Diffie-Hellman result of zero or an encapsulation key that is no key.
    WeakKey,
    /// It repeats what is already held; nothing is wrong with it.
    Duplicate,
    /// The key has sealed as many packets as its cipher allows; new keys are due.
    KeyExhausted,
    /// A congested router marked it, and the sender of the inner packet would not see the mark:
    /// RFC 6040, section 4.2.
    Congested,
}

impl DropReason {
    /// All reasons, in the order of [`DropReason::index`].
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::UnknownIndex,
        Self::Replayed,
        Self::Forged,
        Self::Fenced,
        Self::NotAllowedSource,
        Self::NoRoute,
        Self::TooLarge,
        Self::QueueFull,
        Self::Stale,
        Self::BadMac1,
        Self::CookieRequired,
        Self::UnknownPeer,
        Self::UnknownChunk,
        Self::Refused,
        Self::WeakKey,
        Self::Duplicate,
        Self::KeyExhausted,
        Self::Congested,
    ];

    /// Its place in [`DropReason::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownIndex => "unknown_index",
            Self::Replayed => "replayed",
            Self::Forged => "forged",
            Self::Fenced => "fenced",
            Self::NotAllowedSource => "not_allowed_source",
            Self::NoRoute => "no_route",
            Self::TooLarge => "too_large",
            Self::QueueFull => "queue_full",
            Self::Stale => "stale",
            Self::BadMac1 => "bad_mac1",
            Self::CookieRequired => "cookie_required",
            Self::UnknownPeer => "unknown_peer",
            Self::UnknownChunk => "unknown_chunk",
            Self::Refused => "refused",
            Self::WeakKey => "weak_key",
            Self::Duplicate => "duplicate",
            Self::KeyExhausted => "key_exhausted",
            Self::Congested => "congested",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_index() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index, "{reason}");
        }
    }
}
