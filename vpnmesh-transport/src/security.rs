//! What protects a session: for people, auditors and policies. It holds no secrets.

use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::suite::{Cipher, Kem, Profile};

/// What protects a session.
///
/// It is written out with names instead of codes:
///
/// ```json
/// {
///   "profile": "standard",
///   "key_exchange": "x25519+ml-kem-768",
///   "cipher": "aes-256-gcm",
///   "peer": "membership",
///   "post_quantum_confidentiality": true,
///   "post_quantum_authentication": false,
///   "key_age_ms": 31415,
///   "floor": { "generation": 2, "number": 3 }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecurityReport {
    /// The profile that was agreed on.
    pub profile: Profile,
    /// What was exchanged beside X25519; `None`: nothing.
    pub kem: Option<Kem>,
    /// What seals the packets.
    pub cipher: Cipher,
    /// By what the peer was authenticated.
    pub peer: PeerProof,
    /// The time since the secrets were fresh: since the last handshake.
    pub key_age: Duration,
    /// Below what nothing is accepted any more; `None` where keys do not move between holders.
    pub floor: Option<Floor>,
}

/// By what a peer was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerProof {
    /// By its static X25519 key, which is configured here.
    StaticKey,
    /// By its static X25519 key, which the signed membership names.
    Membership,
}

/// A generation and a move of a session: lower ones are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Floor {
    /// The generation.
    pub generation: u32,
    /// The move.
    pub number: u32,
}

impl SecurityReport {
    /// Whether recorded packets stay closed to a quantum computer of later days.
    #[must_use]
    pub const fn post_quantum_confidentiality(&self) -> bool {
        self.kem.is_some()
    }

    /// Whether a quantum computer at the time of the handshake could not have played the peer: never in
    /// this version, as both proofs are X25519.
    #[must_use]
    pub const fn post_quantum_authentication(&self) -> bool {
        match self.peer {
            PeerProof::StaticKey | PeerProof::Membership => false,
        }
    }

    /// The name of the key exchange.
    #[must_use]
    pub const fn key_exchange(&self) -> &'static str {
        match self.kem {
            None => "x25519",
            Some(Kem::MlKem768) => "x25519+ml-kem-768",
            Some(Kem::MlKem1024) => "x25519+ml-kem-1024",
        }
    }
}

impl PeerProof {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StaticKey => "static_key",
            Self::Membership => "membership",
        }
    }
}

impl Serialize for SecurityReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let age = u64::try_from(self.key_age.as_millis()).unwrap_or(u64::MAX);
        let (confidential, authentic) = (
            self.post_quantum_confidentiality(),
            self.post_quantum_authentication(),
        );
        let mut fields = serializer.serialize_struct("SecurityReport", 8)?;
        fields.serialize_field("profile", self.profile.name())?;
        fields.serialize_field("key_exchange", self.key_exchange())?;
        fields.serialize_field("cipher", self.cipher.name())?;
        fields.serialize_field("peer", self.peer.name())?;
        fields.serialize_field("post_quantum_confidentiality", &confidential)?;
        fields.serialize_field("post_quantum_authentication", &authentic)?;
        fields.serialize_field("key_age_ms", &age)?;
        fields.serialize_field("floor", &self.floor)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_written_out_with_names() {
        let report = SecurityReport {
            profile: Profile::High,
            kem: Some(Kem::MlKem1024),
            cipher: Cipher::Aes256Gcm,
            peer: PeerProof::Membership,
            key_age: Duration::from_millis(1500),
            floor: Some(Floor {
                generation: 2,
                number: 3,
            }),
        };
        let expected = json!({
            "profile": "high",
            "key_exchange": "x25519+ml-kem-1024",
            "cipher": "aes-256-gcm",
            "peer": "membership",
            "post_quantum_confidentiality": true,
            "post_quantum_authentication": false,
            "key_age_ms": 1500,
            "floor": {"generation": 2, "number": 3},
        });
        assert_eq!(serde_json::to_value(report).unwrap(), expected);
    }

    #[test]
    fn without_ml_kem_nothing_holds_against_a_quantum_computer() {
        let report = SecurityReport {
            profile: Profile::Standard,
            kem: None,
            cipher: Cipher::ChaCha20Poly1305,
            peer: PeerProof::StaticKey,
            key_age: Duration::ZERO,
            floor: None,
        };
        assert_eq!(report.key_exchange(), "x25519");
        assert!(!report.post_quantum_confidentiality());
        assert_eq!(serde_json::to_value(report).unwrap()["floor"], json!(null));
    }
}
