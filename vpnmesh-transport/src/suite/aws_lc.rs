//! The fast provider: aws-lc-rs. Its ML-KEM draws from its own generator.

use std::fmt::{self, Debug};
use std::sync::Arc;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::kem::{Algorithm, DecapsulationKey, EncapsulationKey, ML_KEM_768, ML_KEM_1024};
use vpnmesh_core::Secret;

use super::{Cipher, CryptoSuite, DhKey, Kem, KemPair, KemSecret, PacketAead};
use crate::entropy::Entropy;

/// The provider on aws-lc-rs.
#[must_use]
pub fn aws_lc() -> CryptoSuite {
    CryptoSuite {
        name: "aws-lc-rs",
        aead,
        x25519_key,
        kem_generate,
        kem_encapsulate,
    }
}

fn aead(cipher: Cipher, key: &Secret<32>) -> Box<dyn PacketAead> {
    let key = key.expose();
    let unbound = match cipher {
        Cipher::Aes128Gcm => UnboundKey::new(&AES_128_GCM, &key[..16]),
        Cipher::Aes256Gcm => UnboundKey::new(&AES_256_GCM, key),
        Cipher::ChaCha20Poly1305 => UnboundKey::new(&CHACHA20_POLY1305, key),
    };
    let unbound = unbound.expect("the key has the length of its algorithm");
    Box::new(Key(LessSafeKey::new(unbound), cipher))
}

struct Key(LessSafeKey, Cipher);

impl PacketAead for Key {
    fn seal_at(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), text);
        let tag = tag.expect("a packet is far below the cipher's limit");
        tag.as_ref().try_into().expect("all tags have 16 bytes")
    }

    fn open_at(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(aad), tag, text)
            .is_ok()
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1.name())
    }
}

fn x25519_key(secret: &Secret<32>) -> Arc<dyn DhKey> {
    let key = PrivateKey::from_private_key(&X25519, secret.expose());
    let key = key.expect("any 32 bytes are an X25519 key");
    let public = key
        .compute_public_key()
        .expect("every X25519 key has a public key");
    let public = public
        .as_ref()
        .try_into()
        .expect("X25519 keys have 32 bytes");
    Arc::new(Curve { key, public })
}

struct Curve {
    key: PrivateKey,
    public: [u8; 32],
}

impl DhKey for Curve {
    fn public(&self) -> [u8; 32] {
        self.public
    }

    fn agree(&self, public: &[u8; 32]) -> Option<Secret<32>> {
        let peer = UnparsedPublicKey::new(&X25519, public);
        agree(&self.key, peer, (), |shared| {
            // aws-lc refuses a result of zero itself; the check here does not depend on that
            let shared = copy(shared).ok_or(())?;
            if shared == Secret::take(&mut [0; 32]) {
                Err(())
            } else {
                Ok(shared)
            }
        })
        .ok()
    }
}

const fn algorithm(kem: Kem) -> &'static Algorithm {
    match kem {
        Kem::MlKem768 => &ML_KEM_768,
        Kem::MlKem1024 => &ML_KEM_1024,
    }
}

fn kem_generate(kem: Kem, _entropy: &mut dyn Entropy) -> KemPair {
    let key = DecapsulationKey::generate(algorithm(kem)).expect("the generator of aws-lc works");
    let public = key
        .encapsulation_key()
        .and_then(|key| Ok(key.key_bytes()?.as_ref().to_vec()));
    KemPair {
        secret: Box::new(key),
        public: public.expect("a generated key has a public half"),
    }
}

impl KemSecret for DecapsulationKey {
    fn decapsulate(&self, ciphertext: &[u8]) -> Option<Secret<32>> {
        copy(Self::decapsulate(self, ciphertext.into()).ok()?.as_ref())
    }
}

fn kem_encapsulate(
    kem: Kem,
    key: &[u8],
    _entropy: &mut dyn Entropy,
) -> Option<(Vec<u8>, Secret<32>)> {
    let key = EncapsulationKey::new(algorithm(kem), key).ok()?;
    let (ciphertext, secret) = key.encapsulate().ok()?;
    Some((ciphertext.as_ref().to_vec(), copy(secret.as_ref())?))
}

fn copy(bytes: &[u8]) -> Option<Secret<32>> {
    Secret::try_fill(|to| {
        let from: &[u8; 32] = bytes.try_into().map_err(|_| ())?;
        to.copy_from_slice(from);
        Ok::<_, ()>(())
    })
    .ok()
}
