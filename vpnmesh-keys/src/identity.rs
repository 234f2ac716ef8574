//! The X25519 key by which a member is known, as WireGuard prints it.

use std::fmt;

use vpnmesh_core::{PublicKey, Secret};
use zeroize::Zeroizing;

use crate::{Error, base64};

/// A member's static X25519 key.
pub struct IdentityKey {
    secret: Secret<32>,
    public: PublicKey,
}

impl IdentityKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate() -> Result<Self, Error> {
        let secret = Secret::try_fill(|bytes| getrandom::fill(bytes));
        Ok(Self::from_secret(secret.map_err(Error::Randomness)?))
    }

    /// The key of these 32 secret bytes. They are clamped where they are used, as X25519 does.
    #[must_use]
    pub fn from_secret(secret: Secret<32>) -> Self {
        let private = x25519_dalek::StaticSecret::from(*secret.expose());
        let public = PublicKey(x25519_dalek::PublicKey::from(&private).to_bytes());
        Self { secret, public }
    }

    /// Reads 44 characters of base64, as `wg genkey` prints them; white space around is ignored.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn from_base64(text: &str) -> Result<Self, Error> {
        let mut bytes = base64::decode_array::<32>(text.trim()).ok_or(Error::Text {
            expected: "a private key of 44 base64 characters, as wg genkey prints",
        })?;
        Ok(Self::from_secret(Secret::take(&mut bytes)))
    }

    /// The secret in 44 characters of base64. Never log it.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        base64::encode(self.secret.expose())
    }

    /// The secret itself, for handshakes.
    #[must_use]
    pub const fn secret(&self) -> &Secret<32> {
        &self.secret
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// A public key in 44 characters of base64, as `wg pubkey` prints it.
    #[must_use]
    pub fn public_to_base64(key: &PublicKey) -> String {
        base64::encode(&key.0).to_string()
    }

    /// Reads a public key of 44 base64 characters; white space around is ignored.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn public_from_base64(text: &str) -> Result<PublicKey, Error> {
        let bytes = base64::decode_array::<32>(text.trim()).ok_or(Error::Text {
            expected: "a public key of 44 base64 characters, as wg pubkey prints",
        })?;
        Ok(PublicKey(*bytes))
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({:?})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7748, section 6.1: Alice's keys.
    const ALICE_PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const ALICE_PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn the_published_key_pair_is_reproduced() {
        let key = IdentityKey::from_base64(&format!("{ALICE_PRIVATE}\n")).unwrap();
        assert_eq!(IdentityKey::public_to_base64(&key.public()), ALICE_PUBLIC);
        assert_eq!(*key.to_base64(), ALICE_PRIVATE);
        let public = IdentityKey::public_from_base64(ALICE_PUBLIC).unwrap();
        assert_eq!(public, key.public());
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_and_the_secret_is_never_shown() {
        for text in [
            "",
            "AAAA",
            &ALICE_PRIVATE[1..],
            &format!("{ALICE_PRIVATE}="),
            "ü",
        ] {
            assert!(IdentityKey::from_base64(text).is_err(), "{text:?}");
        }
        let key = IdentityKey::from_base64(ALICE_PRIVATE).unwrap();
        assert_eq!(format!("{key:?}"), "IdentityKey(8520f009..)");
    }
}
