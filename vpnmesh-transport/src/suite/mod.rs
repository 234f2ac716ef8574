//! Cryptographic parts that are chosen together.
//!
//! A [`Profile`] fixes the key exchange and the Noise name; a [`Cipher`] protects packets; a
//! [`CryptoSuite`] is one provider of all of them, a plain struct whose fields can be replaced one
//! by one. Two providers are built in: `aws_lc` (feature `aws-lc`) and `rustcrypto` (feature
//! `rustcrypto`, no C). They interoperate.

#[cfg(feature = "aws-lc")]
mod aws_lc;
mod cipher;
mod profile;
#[cfg(feature = "rustcrypto")]
mod rustcrypto;
#[cfg(test)]
mod vectors;

use std::fmt::{self, Debug};
use std::sync::Arc;

use vpnmesh_core::Secret;

use crate::entropy::Entropy;

#[cfg(feature = "aws-lc")]
pub use aws_lc::aws_lc;
pub use cipher::{Cipher, Ciphers};
pub use profile::{Profile, Profiles};
#[cfg(feature = "rustcrypto")]
pub use rustcrypto::rustcrypto;

/// A key encapsulation mechanism of FIPS 203.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kem {
    /// ML-KEM-768.
    MlKem768,
    /// ML-KEM-1024.
    MlKem1024,
}

impl Kem {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MlKem768 => "ml-kem-768",
            Self::MlKem1024 => "ml-kem-1024",
        }
    }

    /// Length of an encapsulation key in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::MlKem768 => 1184,
            Self::MlKem1024 => 1568,
        }
    }

    /// Length of a ciphertext in bytes.
    #[must_use]
    pub const fn ciphertext_len(self) -> usize {
        match self {
            Self::MlKem768 => 1088,
            Self::MlKem1024 => 1568,
        }
    }
}

/// One key of a packet cipher, ready for use. It cannot be cloned or stored.
///
/// The nonce is four zero bytes, then the counter, little endian. Who seals never uses a counter
/// twice.
pub trait PacketAead: Debug + Send + Sync {
    /// Encrypts `text` in place and returns the tag.
    fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        self.seal_at(nonce(counter), aad, text)
    }

    /// Decrypts `text` in place; `false` if it is forged, `text` is garbage then.
    #[must_use]
    fn open(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
        self.open_at(nonce(counter), aad, text, tag)
    }

    /// What [`PacketAead::seal`] does, under any nonce: for providers and their test vectors.
    fn seal_at(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16];

    /// What [`PacketAead::open`] does, under any nonce: for providers and their test vectors.
    #[must_use]
    fn open_at(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool;
}

/// A secret X25519 key, ready for use.
pub trait DhKey: Send + Sync {
    /// Its public half.
    fn public(&self) -> [u8; 32];

    /// The secret shared with a public key; `None` if it is zero (a key of low order).
    fn agree(&self, public: &[u8; 32]) -> Option<Secret<32>>;
}

/// The secret half of a KEM key pair.
pub trait KemSecret: Send + Sync {
    /// The shared secret within `ciphertext`; `None` if its length is wrong. A forged ciphertext
    /// gives an unrelated secret.
    fn decapsulate(&self, ciphertext: &[u8]) -> Option<Secret<32>>;
}

/// A fresh KEM key pair.
pub struct KemPair {
    /// Opens ciphertexts.
    pub secret: Box<dyn KemSecret>,
    /// The encapsulation key, to be sent.
    pub public: Vec<u8>,
}

impl Debug for KemPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KemPair").finish_non_exhaustive()
    }
}

/// Encapsulates to a public key: the ciphertext and the secret within it.
pub type Encapsulate = fn(Kem, &[u8], &mut dyn Entropy) -> Option<(Vec<u8>, Secret<32>)>;

/// A provider of cryptography: plain function pointers, replaced field by field.
#[derive(Debug, Clone, Copy)]
pub struct CryptoSuite {
    /// Its name in reports.
    pub name: &'static str,
    /// Expands a packet key. AES-128-GCM takes the first 16 bytes.
    pub aead: fn(Cipher, &Secret<32>) -> Box<dyn PacketAead>,
    /// Makes an X25519 key ready for use; any 32 bytes are one.
    pub x25519_key: fn(&Secret<32>) -> Arc<dyn DhKey>,
    /// A fresh KEM key pair.
    pub kem_generate: fn(Kem, &mut dyn Entropy) -> KemPair,
    /// Encapsulates to a key; `None` if FIPS 203 refuses it.
    pub kem_encapsulate: Encapsulate,
}

#[cfg(any(feature = "aws-lc", feature = "rustcrypto"))]
impl CryptoSuite {
    /// The fastest provider that was compiled in.
    #[must_use]
    pub fn preferred() -> Self {
        #[cfg(feature = "aws-lc")]
        {
            aws_lc()
        }
        #[cfg(not(feature = "aws-lc"))]
        {
            rustcrypto()
        }
    }

    /// The provider for simulation: all its randomness comes from the [`Entropy`] passed in, if
    /// the feature `rustcrypto` is on; else [`CryptoSuite::preferred`].
    #[must_use]
    pub fn reproducible() -> Self {
        #[cfg(feature = "rustcrypto")]
        {
            rustcrypto()
        }
        #[cfg(not(feature = "rustcrypto"))]
        {
            aws_lc()
        }
    }
}

/// The nonce of a counter.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}
