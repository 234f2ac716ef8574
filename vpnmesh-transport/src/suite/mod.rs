//! Cryptographic parts that are chosen together.
//!
//! A [`Profile`] fixes the key exchange and the Noise name; a [`Cipher`] protects packets; a
//! [`CryptoSuite`] is one provider of all of them, a plain struct whose fields can be replaced one
//! by one. Two providers are built in: [`aws_lc`] (feature `aws-lc`) and [`rustcrypto`] (feature
//! `rustcrypto`, no C). They interoperate.

#[cfg(feature = "aws-lc")]
mod aws_lc;
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
#[cfg(feature = "rustcrypto")]
pub use rustcrypto::rustcrypto;

/// A fixed choice of key exchange and Noise suite. All are hybrid: X25519 and ML-KEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Profile {
    /// X25519 and ML-KEM-768, AES-128-GCM. Only where an administrator allows it.
    Light = 1,
    /// X25519 and ML-KEM-768, AES-256-GCM or ChaCha20-Poly1305.
    #[default]
    Standard = 2,
    /// X25519 and ML-KEM-1024, AES-256-GCM or ChaCha20-Poly1305, short rekey.
    High = 3,
}

impl Profile {
    /// All profiles, the weakest first.
    pub const ALL: [Self; 3] = [Self::Light, Self::Standard, Self::High];

    /// The profile of a wire code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Light),
            2 => Some(Self::Standard),
            3 => Some(Self::High),
            _ => None,
        }
    }

    /// Its code on the wire and in key derivation.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Its name in configuration and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Standard => "standard",
            Self::High => "high",
        }
    }

    /// The Noise protocol name.
    #[must_use]
    pub const fn noise_name(self) -> &'static str {
        match self {
            Self::Light | Self::Standard => "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s",
            Self::High => "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2b",
        }
    }

    /// The post-quantum half of its key exchange.
    #[must_use]
    pub const fn kem(self) -> Kem {
        match self {
            Self::Light | Self::Standard => Kem::MlKem768,
            Self::High => Kem::MlKem1024,
        }
    }

    /// The packet ciphers that belong to it, the preferred one first.
    #[must_use]
    pub const fn ciphers(self) -> &'static [Cipher] {
        match self {
            Self::Light => &[Cipher::Aes128Gcm],
            Self::Standard | Self::High => &[Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305],
        }
    }
}

/// Some of the profiles, for what a responder allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profiles(u8);

impl Profiles {
    /// Exactly these.
    #[must_use]
    pub fn of(profiles: &[Profile]) -> Self {
        Self(
            profiles
                .iter()
                .fold(0, |bits, profile| bits | 1 << profile.code()),
        )
    }

    /// `floor` and everything stronger.
    #[must_use]
    pub fn from_floor(floor: Profile) -> Self {
        let allowed = Profile::ALL.into_iter().filter(|profile| *profile >= floor);
        Self(allowed.fold(0, |bits, profile| bits | 1 << profile.code()))
    }

    /// Whether `profile` is one of them.
    #[must_use]
    pub const fn contains(self, profile: Profile) -> bool {
        self.0 & (1 << profile.code()) != 0
    }
}

impl Default for Profiles {
    /// `Standard` and stronger.
    fn default() -> Self {
        Self::from_floor(Profile::Standard)
    }
}

/// Protects packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128Gcm = 1,
    /// AES-256-GCM: the fastest where the CPU has AES.
    Aes256Gcm = 2,
    /// ChaCha20-Poly1305: the fastest elsewhere.
    ChaCha20Poly1305 = 3,
}

impl Cipher {
    /// All ciphers.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// Its code on the wire and in key derivation.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The cipher of a wire code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Aes128Gcm),
            2 => Some(Self::Aes256Gcm),
            3 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// Its name in configuration and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }
}

/// Some of the ciphers: what one side is willing to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ciphers(u8);

impl Ciphers {
    /// Exactly these.
    #[must_use]
    pub fn of(ciphers: &[Cipher]) -> Self {
        Self(
            ciphers
                .iter()
                .fold(0, |bits, cipher| bits | 1 << cipher.code()),
        )
    }

    /// What suits this machine: AES-256-GCM only if the CPU has AES; ChaCha20-Poly1305 always, and
    /// AES-128-GCM always, as `Light` has nothing else.
    #[must_use]
    pub fn of_this_machine() -> Self {
        if cpu_has_aes() {
            Self::of(&Cipher::ALL)
        } else {
            Self::of(&[Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305])
        }
    }

    /// Whether `cipher` is one of them.
    #[must_use]
    pub const fn contains(self, cipher: Cipher) -> bool {
        self.0 & (1 << cipher.code()) != 0
    }

    /// What both sides are willing to use.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The best one that belongs to `profile`.
    #[must_use]
    pub fn best_for(self, profile: Profile) -> Option<Cipher> {
        profile
            .ciphers()
            .iter()
            .copied()
            .find(|cipher| self.contains(*cipher))
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl Default for Ciphers {
    fn default() -> Self {
        Self::of_this_machine()
    }
}

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

fn cpu_has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

/// The nonce of a counter.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_allows_itself_and_what_is_stronger() {
        let allowed = Profiles::from_floor(Profile::Standard);
        assert_eq!(
            Profile::ALL.map(|profile| allowed.contains(profile)),
            [false, true, true]
        );
        assert!(
            Profile::ALL
                .into_iter()
                .all(|p| Profile::from_code(p.code()) == Some(p))
        );
    }

    #[test]
    fn both_sides_agree_on_the_best_common_cipher() {
        let fast = Ciphers::of(&Cipher::ALL);
        let slow = Ciphers::of(&[Cipher::ChaCha20Poly1305]);
        assert_eq!(
            fast.and(fast).best_for(Profile::High),
            Some(Cipher::Aes256Gcm)
        );
        assert_eq!(
            fast.and(slow).best_for(Profile::High),
            Some(Cipher::ChaCha20Poly1305)
        );
        assert_eq!(fast.and(slow).best_for(Profile::Light), None);
    }
}
