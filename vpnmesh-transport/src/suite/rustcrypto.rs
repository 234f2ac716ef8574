//! The reference provider: pure Rust, all randomness from the [`Entropy`] passed in.

use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::sync::Arc;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use ml_kem::kem::{Decapsulate, Encapsulate, Generate, KeyExport};
use ml_kem::{DecapsulationKey, EncapsulationKey, MlKem768, MlKem1024};
use vpnmesh_core::Secret;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize;

use super::{Cipher, CryptoSuite, DhKey, Kem, KemPair, KemSecret, PacketAead};
use crate::entropy::{Draw, Entropy};

/// The pure Rust provider.
#[must_use]
pub fn rustcrypto() -> CryptoSuite {
    CryptoSuite {
        name: "rustcrypto",
        aead,
        x25519_key,
        kem_generate,
        kem_encapsulate,
    }
}

fn aead(cipher: Cipher, key: &Secret<32>) -> Box<dyn PacketAead> {
    let key = key.expose();
    match cipher {
        Cipher::Aes128Gcm => {
            let half = key[..16].try_into().expect("16 of 32 bytes");
            Box::new(Key(Aes128Gcm::new(half), cipher))
        }
        Cipher::Aes256Gcm => Box::new(Key(Aes256Gcm::new(key.into()), cipher)),
        Cipher::ChaCha20Poly1305 => Box::new(Key(ChaCha20Poly1305::new(key.into()), cipher)),
    }
}

struct Key<A>(A, Cipher);

impl<A> Debug for Key<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1.name())
    }
}

macro_rules! packet_aead {
    ($($aead:ty),*) => {$(
        impl PacketAead for Key<$aead> {
            fn seal_at(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
                let sealed = self.0.encrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(text));
                sealed.expect("a packet is far below the cipher's limit").into()
            }

            fn open_at(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
                let text = InOutBuf::from(text);
                self.0.decrypt_inout_detached(&nonce.into(), aad, text, tag.into()).is_ok()
            }
        }
    )*};
}

packet_aead!(Aes128Gcm, Aes256Gcm, ChaCha20Poly1305);

fn x25519_key(secret: &Secret<32>) -> Arc<dyn DhKey> {
    let secret = StaticSecret::from(*secret.expose());
    let public = PublicKey::from(&secret).to_bytes();
    Arc::new(Curve { secret, public })
}

struct Curve {
    secret: StaticSecret,
    public: [u8; 32],
}

impl DhKey for Curve {
    fn public(&self) -> [u8; 32] {
        self.public
    }

    fn agree(&self, public: &[u8; 32]) -> Option<Secret<32>> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*public));
        let mut bytes = shared.to_bytes();
        let secret = Secret::take(&mut bytes);
        shared.was_contributory().then_some(secret)
    }
}

fn kem_generate(kem: Kem, entropy: &mut dyn Entropy) -> KemPair {
    let rng = &mut Draw(entropy);
    match kem {
        Kem::MlKem768 => {
            let key = DecapsulationKey::<MlKem768>::generate_from_rng(rng);
            let public = key.encapsulation_key().to_bytes().to_vec();
            KemPair {
                secret: Box::new(key),
                public,
            }
        }
        Kem::MlKem1024 => {
            let key = DecapsulationKey::<MlKem1024>::generate_from_rng(rng);
            let public = key.encapsulation_key().to_bytes().to_vec();
            KemPair {
                secret: Box::new(key),
                public,
            }
        }
    }
}

macro_rules! kem_secret {
    ($($params:ty),*) => {$(
        impl KemSecret for DecapsulationKey<$params> {
            fn decapsulate(&self, ciphertext: &[u8]) -> Option<Secret<32>> {
                let ciphertext = ciphertext.try_into().ok()?;
                Some(take(Decapsulate::decapsulate(self, ciphertext)))
            }
        }
    )*};
}

kem_secret!(MlKem768, MlKem1024);

fn kem_encapsulate(
    kem: Kem,
    key: &[u8],
    entropy: &mut dyn Entropy,
) -> Option<(Vec<u8>, Secret<32>)> {
    let rng = &mut Draw(entropy);
    match kem {
        Kem::MlKem768 => {
            let key = EncapsulationKey::<MlKem768>::new(key.try_into().ok()?).ok()?;
            let (ciphertext, secret) = key.encapsulate_with_rng(rng);
            Some((ciphertext.to_vec(), take(secret)))
        }
        Kem::MlKem1024 => {
            let key = EncapsulationKey::<MlKem1024>::new(key.try_into().ok()?).ok()?;
            let (ciphertext, secret) = key.encapsulate_with_rng(rng);
            Some((ciphertext.to_vec(), take(secret)))
        }
    }
}

fn take(mut shared: ml_kem::SharedKey) -> Secret<32> {
    let secret = Secret::try_fill(|bytes| {
        bytes.copy_from_slice(&shared);
        Ok::<_, Infallible>(())
    });
    shared.as_mut_slice().zeroize();
    secret.unwrap_or_else(|never| match never {})
}
