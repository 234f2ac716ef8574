//! Secrets sealed to one holder: a value that only this holder can open, and only as what it is.
//!
//! HPKE in base mode (RFC 9180) with X-Wing (X25519 and ML-KEM-768), HKDF-SHA256 and
//! ChaCha20-Poly1305. The session, generation, rank, holder, profile, cipher and purpose are HPKE's
//! `info`, so a sealed value does not open in any other place.
//!
//! ```text
//! sealed value: format 1 (= 1) | X-Wing ciphertext 1120 | secret 32 | tag 16
//! ```
//!
//! Sealing hides a secret from everybody but the holder. It does not say who sealed it: that the
//! sender is the session's primary comes from the channel (the session between two nodes).
//!
//! A [`SealingIdentity`] is drawn at start and lives in memory, as the branches do that it opens.
//! It is not derived from the member's static X25519 key on purpose: whoever can compute discrete
//! logarithms would find that key from its public half, and with it every key derived from it, the
//! ML-KEM half included.

use std::fmt::{self, Debug};

use hpke::aead::{AeadTag, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem as _, XWing};
use hpke::{Deserializable, OpModeR, OpModeS, Serializable};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vpnmesh_core::{NodeId, Secret, SessionId};

use super::form;
use crate::Error;
use crate::entropy::{self, Draw, Entropy};
use crate::kdf::{self, label};
use crate::suite::{Cipher, Profile};

type PrivateKey = <XWing as hpke::Kem>::PrivateKey;
type Key = <XWing as hpke::Kem>::PublicKey;
type Encapped = <XWing as hpke::Kem>::EncappedKey;

/// What a sealed value is: the name of its field in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The secret of the holder's branch.
    SharedSecret,
    /// What the branch gives to a consumer that speaks ESP.
    EspKey,
}

impl Purpose {
    /// Its name in the key derivation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SharedSecret => "shared_secret",
            Self::EspKey => "esp_key",
        }
    }
}

/// Where a sealed value belongs. The holder's id comes from its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealContext {
    /// The session.
    pub session: SessionId,
    /// The generation.
    pub generation: u32,
    /// The number of the holder's branch.
    pub rank: u8,
    /// The handshake profile.
    pub profile: Profile,
    /// The cipher that the secret is for.
    pub cipher: Cipher,
    /// What is sealed.
    pub purpose: Purpose,
}

impl SealContext {
    fn info(&self, holder: NodeId) -> Vec<u8> {
        kdf::framed(
            label::SEALED,
            &[
                &self.session.0,
                &self.generation.to_le_bytes(),
                &[self.rank, self.profile.code(), self.cipher.code()],
                &holder.0.to_le_bytes(),
                self.purpose.name().as_bytes(),
            ],
        )
    }
}

/// A holder's key pair for sealed values. It lives as long as the process.
pub struct SealingIdentity {
    holder: NodeId,
    secret: Box<PrivateKey>,
}

impl SealingIdentity {
    /// A fresh key pair.
    #[must_use]
    pub fn generate(holder: NodeId, entropy: &mut dyn Entropy) -> Self {
        Self::from_seed(holder, &entropy::secret(entropy))
    }

    /// The key pair of a seed: 32 uniform bytes that serve for nothing else.
    #[must_use]
    pub fn from_seed(holder: NodeId, seed: &Secret<32>) -> Self {
        let secret = PrivateKey::from_bytes(seed.expose()).expect("an X-Wing seed has 32 bytes");
        Self {
            holder,
            secret: Box::new(secret),
        }
    }

    /// Who opens.
    #[must_use]
    pub const fn holder(&self) -> NodeId {
        self.holder
    }

    /// The public part, for whoever seals.
    #[must_use]
    pub fn public(&self) -> HolderKey {
        HolderKey {
            holder: self.holder,
            key: Box::new(XWing::sk_to_pk(&self.secret)),
        }
    }
}

impl Debug for SealingIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealingIdentity")
            .field(&self.holder)
            .finish()
    }
}

/// The public part of a [`SealingIdentity`]. It must come from the holder itself, over an
/// authenticated channel.
#[derive(Clone, PartialEq, Eq)]
pub struct HolderKey {
    holder: NodeId,
    key: Box<Key>,
}

impl HolderKey {
    /// Reads the key that `holder` published.
    ///
    /// # Errors
    /// [`Error::HolderKey`] if it has another length or is no ML-KEM key.
    pub fn from_bytes(holder: NodeId, bytes: &[u8]) -> Result<Self, Error> {
        let key = Key::from_bytes(bytes).map_err(|_| Error::HolderKey { holder })?;
        Ok(Self {
            holder,
            key: Box::new(key),
        })
    }

    /// The key as it is published: the ML-KEM-768 key, then the X25519 key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        self.key.write_exact(&mut bytes);
        bytes
    }

    /// Whose key it is.
    #[must_use]
    pub const fn holder(&self) -> NodeId {
        self.holder
    }

    /// Length of the published key in bytes.
    pub const LEN: usize = 1216;
}

impl Debug for HolderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HolderKey").field(&self.holder).finish()
    }
}

/// A secret of 32 bytes that one holder can open.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Box<[u8; Self::LEN]>);

impl Sealed {
    /// Seals `secret` to a holder.
    #[must_use]
    pub fn seal(
        secret: &Secret<32>,
        to: &HolderKey,
        context: &SealContext,
        entropy: &mut dyn Entropy,
    ) -> Self {
        let mut bytes = Box::new([0; Self::LEN]);
        let (format, rest) = bytes.split_at_mut(1);
        let (encapped, rest) = rest.split_at_mut(ENCAPPED_LEN);
        let (text, tag) = rest.split_at_mut(SECRET_LEN);
        format[0] = FORMAT;
        text.copy_from_slice(secret.expose());
        let sealed =
            hpke::single_shot_seal_inout_detached_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
                &OpModeS::Base,
                &to.key,
                &context.info(to.holder),
                text.into(),
                &[],
                &mut Draw(entropy),
            );
        let (key, mac) = sealed.expect("a valid X-Wing key encapsulates, and 32 bytes are sealed");
        key.write_exact(encapped);
        mac.write_exact(tag);
        Self(bytes)
    }

    /// Opens it as what `context` says it is.
    ///
    /// # Errors
    /// [`Error::Unsealing`] if it was sealed to another holder, for another place, or changed on
    /// the way; which of them cannot be told.
    pub fn open(&self, own: &SealingIdentity, context: &SealContext) -> Result<Secret<32>, Error> {
        let refused = || Error::Unsealing {
            field: context.purpose.name(),
            holder: own.holder,
        };
        Secret::try_fill(|secret| {
            let (encapped, rest) = self.0[1..].split_at(ENCAPPED_LEN);
            let (text, tag) = rest.split_at(SECRET_LEN);
            let encapped = Encapped::from_bytes(encapped)?;
            let tag = AeadTag::from_bytes(tag)?;
            secret.copy_from_slice(text);
            hpke::single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, XWing>(
                &OpModeR::Base,
                &own.secret,
                &encapped,
                &context.info(own.holder),
                secret.as_mut_slice().into(),
                &[],
                &tag,
            )
        })
        .map_err(|_: hpke::HpkeError| refused())
    }

    /// Reads a sealed value; `None` if its length or format is not ours.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: Box<[u8; Self::LEN]> = Box::new(bytes.try_into().ok()?);
        (bytes[0] == FORMAT).then_some(Self(bytes))
    }

    /// The value as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Length of a sealed value in bytes.
    pub const LEN: usize = 1 + ENCAPPED_LEN + SECRET_LEN + TAG_LEN;
}

impl Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

impl form::Form for Sealed {
    const EXPECTED: &'static str = "a sealed value: 1169 bytes of format 1, in base64";
    type Wire = Vec<u8>;

    fn text(&self) -> std::borrow::Cow<'static, str> {
        form::base64_of(self.as_bytes()).into()
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::from_bytes(&form::bytes_of(text)?)
    }

    fn wire(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_wire(wire: Vec<u8>) -> Option<Self> {
        Self::from_bytes(&wire)
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        form::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        form::deserialize(from)
    }
}

const FORMAT: u8 = 1;
const ENCAPPED_LEN: usize = 1120;
const SECRET_LEN: usize = 32;
const TAG_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    const CONTEXT: SealContext = SealContext {
        session: SessionId([7; 16]),
        generation: 3,
        rank: 1,
        profile: Profile::Standard,
        cipher: Cipher::Aes256Gcm,
        purpose: Purpose::SharedSecret,
    };

    fn secret() -> Secret<32> {
        Secret::take(&mut [0x5a; 32])
    }

    fn seed() -> Secret<32> {
        Secret::take(&mut [0xa5; 32])
    }

    fn sealed() -> (SealingIdentity, Sealed) {
        let mut entropy = SeededEntropy::new(1);
        let own = SealingIdentity::from_seed(NodeId(2), &seed());
        let sealed = Sealed::seal(&secret(), &own.public(), &CONTEXT, &mut entropy);
        (own, sealed)
    }

    #[test]
    fn the_holder_opens_what_was_sealed_to_it() {
        let (own, sealed) = sealed();
        assert_eq!(sealed.open(&own, &CONTEXT).unwrap(), secret());
        let read = Sealed::from_bytes(sealed.as_bytes()).unwrap();
        assert_eq!(read.open(&own, &CONTEXT).unwrap(), secret());
    }

    #[test]
    fn nobody_else_opens_it() {
        let (own, sealed) = sealed();
        let other = SealingIdentity::generate(NodeId(2), &mut SeededEntropy::new(9));
        assert!(sealed.open(&other, &CONTEXT).is_err());
        let renamed = SealingIdentity::from_seed(NodeId(3), &seed());
        assert!(sealed.open(&renamed, &CONTEXT).is_err());
        assert!(sealed.open(&own, &CONTEXT).is_ok());
    }

    #[test]
    fn it_opens_in_no_other_place() {
        let (own, sealed) = sealed();
        let mut places = [CONTEXT; 6];
        places[0].session.0[15] ^= 1;
        places[1].generation += 1;
        places[2].rank += 1;
        places[3].profile = Profile::High;
        places[4].cipher = Cipher::ChaCha20Poly1305;
        places[5].purpose = Purpose::EspKey;
        for place in places {
            let error = sealed.open(&own, &place).unwrap_err();
            let field = place.purpose.name();
            let holder = own.holder();
            assert_eq!(error, Error::Unsealing { field, holder }, "{place:?}");
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_refused() {
        let (own, sealed) = sealed();
        for at in (0..Sealed::LEN).step_by(13).chain(1120..Sealed::LEN) {
            let mut bytes = *sealed.0;
            bytes[at] ^= 0x10;
            let opened = Sealed::from_bytes(&bytes).map(|sealed| sealed.open(&own, &CONTEXT));
            assert!(!matches!(opened, Some(Ok(_))), "byte {at}");
        }
    }

    #[test]
    fn a_key_survives_publication_and_garbage_is_no_key() {
        let (own, _) = sealed();
        let public = own.public();
        let read = HolderKey::from_bytes(NodeId(2), &public.to_bytes()).unwrap();
        assert_eq!(read, public);
        let holder = NodeId(2);
        for bytes in [&[][..], &[0; HolderKey::LEN - 1], &[0xff; HolderKey::LEN]] {
            let error = HolderKey::from_bytes(holder, bytes).unwrap_err();
            assert_eq!(error, Error::HolderKey { holder });
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (own, sealed) = sealed();
        assert_eq!(format!("{own:?}"), "SealingIdentity(n-2)");
        assert_eq!(format!("{sealed:?}"), "Sealed(..)");
    }
}
