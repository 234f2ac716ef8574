//! Signatures that hold against quantum computers, and against a flaw in the new mathematics.
//!
//! A key is an Ed25519 key and an ML-DSA-65 key (FIPS 204) from one seed of 32 bytes. Both sign the
//! same text, and a signature is good only if both are:
//!
//! ```text
//! signed text   "vpnmesh signature v1" | purpose 1 | message
//! signature     Ed25519 64 | ML-DSA-65 3309                      3373 bytes
//! public key    Ed25519 32 | ML-DSA-65 1952                      1984 bytes
//! ```
//!
//! ML-DSA signs deterministically: no randomness is needed to sign.

use std::fmt;

use ed25519_dalek::Signer as _;
use ml_dsa::{EncodedSignature, EncodedVerifyingKey, MlDsa65};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vpnmesh_core::Secret;
use zeroize::Zeroizing;

use crate::Error;

/// What a signature is for. One made for one purpose is worthless for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// A membership.
    Membership = 1,
    /// An order about a node.
    Order = 2,
}

/// Signs in the name of a mesh.
pub struct SigningKey {
    seed: Secret<32>,
    classic: ed25519_dalek::SigningKey,
    lattice: Box<ml_dsa::SigningKey<MlDsa65>>,
    public: VerifyingKey,
}

impl SigningKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate() -> Result<Self, Error> {
        let seed = Secret::try_fill(|bytes| getrandom::fill(bytes));
        Ok(Self::from_seed(seed.map_err(Error::Randomness)?))
    }

    /// The key that follows from a seed.
    #[must_use]
    pub fn from_seed(seed: Secret<32>) -> Self {
        let classic = ed25519_dalek::SigningKey::from_bytes(&expand(&seed, b"ed25519"));
        let lattice_seed = Zeroizing::new(ml_dsa::Seed::from(*expand(&seed, b"ml-dsa-65")));
        let lattice = Box::new(ml_dsa::SigningKey::from_seed(&lattice_seed));
        let public = VerifyingKey {
            classic: classic.verifying_key(),
            lattice: Box::new(lattice.expanded_key().verifying_key()),
        };
        Self {
            seed,
            classic,
            lattice,
            public,
        }
    }

    /// What the key follows from: all that a key file holds.
    #[must_use]
    pub const fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// The public half.
    #[must_use]
    pub const fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs `message` for one purpose. Takes about a millisecond.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, message: &[u8]) -> Signature {
        let text = text(purpose, message);
        let lattice = self.lattice.expanded_key();
        let lattice = lattice.sign_deterministic(&text, &[]);
        let lattice = lattice
            .expect("an empty context is never too long")
            .encode();
        let classic = self.classic.sign(&text).to_bytes();
        Signature([classic.as_slice(), lattice.as_slice()].concat())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.fingerprint())
    }
}

/// Checks what a [`SigningKey`] signed. Clients and sites pin the one of their mesh.
#[derive(Clone, PartialEq)]
pub struct VerifyingKey {
    classic: ed25519_dalek::VerifyingKey,
    lattice: Box<ml_dsa::VerifyingKey<MlDsa65>>,
}

impl VerifyingKey {
    /// Length of the encoded key in bytes.
    pub const LEN: usize = 32 + 1952; // FIPS 204, table 2

    /// Reads the encoded form.
    ///
    /// # Errors
    /// [`Error::Text`] if the length is wrong or the Ed25519 half is no usable point.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let expected = "a verifying key of 1984 bytes";
        let wrong = || Error::Text { expected };
        let (classic, lattice) = bytes.split_first_chunk::<32>().ok_or_else(wrong)?;
        let classic = ed25519_dalek::VerifyingKey::from_bytes(classic).map_err(|_| wrong())?;
        let lattice = EncodedVerifyingKey::<MlDsa65>::try_from(lattice).map_err(|_| wrong())?;
        if classic.is_weak() {
            return Err(wrong());
        }
        Ok(Self {
            classic,
            lattice: Box::new(ml_dsa::VerifyingKey::decode(&lattice)),
        })
    }

    /// The encoded form: [`VerifyingKey::LEN`] bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            self.classic.as_bytes().as_slice(),
            self.lattice.encode().as_slice(),
        ]
        .concat()
    }

    /// Whether both halves of `signature` are good.
    #[must_use]
    pub fn verify(&self, purpose: Purpose, message: &[u8], signature: &Signature) -> bool {
        let Some((classic, lattice)) = signature.halves() else {
            return false;
        };
        let text = text(purpose, message);
        self.classic.verify_strict(&text, &classic).is_ok()
            && self.lattice.verify_with_context(&text, &[], &lattice)
    }

    /// 16 hexadecimal digits by which people tell keys apart.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.to_bytes());
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.fingerprint())
    }
}

/// A signature of both kinds. Whether it is well formed shows when it is verified.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature(Vec<u8>);

impl Signature {
    /// Length in bytes.
    pub const LEN: usize = 64 + 3309; // FIPS 204, table 2

    /// The encoded form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn halves(&self) -> Option<(ed25519_dalek::Signature, ml_dsa::Signature<MlDsa65>)> {
        let (classic, lattice) = self.0.split_first_chunk::<64>()?;
        let lattice = EncodedSignature::<MlDsa65>::try_from(lattice).ok()?;
        let classic = ed25519_dalek::Signature::from_bytes(classic);
        Some((classic, ml_dsa::Signature::decode(&lattice)?))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} bytes)", self.0.len())
    }
}

fn text(purpose: Purpose, message: &[u8]) -> Vec<u8> {
    [LABEL, &[purpose as u8], message].concat()
}

fn expand(seed: &Secret<32>, what: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let keys = hkdf::Hkdf::<Sha256>::new(Some(LABEL), seed.expose());
    keys.expand(what, out.as_mut_slice())
        .expect("32 bytes are less than 255 blocks");
    out
}

const LABEL: &[u8] = b"vpnmesh signature v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(Secret::take(&mut [byte; 32]))
    }

    #[test]
    fn a_signature_is_good_for_its_text_key_and_purpose_alone() {
        let (mine, other) = (key(1), key(2));
        let signature = mine.sign(Purpose::Order, b"text");
        assert_eq!(signature.as_bytes().len(), Signature::LEN);
        let root = mine.verifying_key();
        assert!(root.verify(Purpose::Order, b"text", &signature));
        assert!(!root.verify(Purpose::Order, b"texT", &signature));
        assert!(!root.verify(Purpose::Membership, b"text", &signature));
        assert!(
            !other
                .verifying_key()
                .verify(Purpose::Order, b"text", &signature)
        );
    }

    #[test]
    fn one_good_half_is_not_enough() {
        let (mine, other) = (key(1), key(2));
        let (good, bad) = (
            mine.sign(Purpose::Order, b"x"),
            other.sign(Purpose::Order, b"x"),
        );
        let classic_only = Signature([&good.0[..64], &bad.0[64..]].concat());
        let lattice_only = Signature([&bad.0[..64], &good.0[64..]].concat());
        for half in [classic_only, lattice_only] {
            assert!(!mine.verifying_key().verify(Purpose::Order, b"x", &half));
        }
    }

    #[test]
    fn garbage_is_no_signature_and_no_key() {
        let root = key(1);
        for length in [
            0,
            63,
            64,
            Signature::LEN - 1,
            Signature::LEN,
            Signature::LEN + 1,
        ] {
            let garbage = Signature(vec![0xa5; length]);
            assert!(!root.verifying_key().verify(Purpose::Order, b"x", &garbage));
        }
        assert!(VerifyingKey::from_bytes(&[0; 31]).is_err());
        assert!(
            VerifyingKey::from_bytes(&[0; VerifyingKey::LEN]).is_err(),
            "a weak point"
        );
        let encoded = root.verifying_key().to_bytes();
        assert_eq!(
            VerifyingKey::from_bytes(&encoded).unwrap(),
            *root.verifying_key()
        );
        assert!(VerifyingKey::from_bytes(&encoded[1..]).is_err());
    }
}
