//! Wycheproof and CCTV vectors for every provider.

use std::fmt::Debug;
use std::process::Command;

use serde_json::Value;
use vpnmesh_core::Secret;

use super::{Cipher, CryptoSuite, Kem};
use crate::SeededEntropy;
use crate::entropy::Entropy;
use crate::vectors::{decode, hex, json, path, say};

#[cfg(feature = "aws-lc")]
mod aws_lc {
    #[test]
    fn aes_gcm() {
        super::aes_gcm(crate::suite::aws_lc());
    }

    #[test]
    fn chacha20_poly1305() {
        super::chacha20_poly1305(crate::suite::aws_lc());
    }

    #[test]
    fn x25519() {
        super::x25519(crate::suite::aws_lc());
    }

    #[test]
    fn ml_kem_refuses_bad_keys() {
        super::ml_kem_keys(crate::suite::aws_lc());
    }

    /// Keys come in as seeds, which only the reference provider expands.
    #[test]
    #[cfg(feature = "rustcrypto")]
    fn ml_kem_decapsulates() {
        use aws_lc_rs::kem::{DecapsulationKey, ML_KEM_768, ML_KEM_1024};
        super::ml_kem_decapsulation("aws-lc-rs", |kem, seed| {
            let algorithm = if kem == super::Kem::MlKem768 {
                &ML_KEM_768
            } else {
                &ML_KEM_1024
            };
            let key = DecapsulationKey::new(algorithm, &super::expand(kem, seed)).unwrap();
            Box::new(key)
        });
    }
}

#[cfg(feature = "rustcrypto")]
mod rustcrypto {
    use ml_kem::{DecapsulationKey, MlKem768, MlKem1024};

    use crate::suite::{Kem, KemSecret};

    #[test]
    fn aes_gcm() {
        super::aes_gcm(crate::suite::rustcrypto());
    }

    #[test]
    fn chacha20_poly1305() {
        super::chacha20_poly1305(crate::suite::rustcrypto());
    }

    #[test]
    fn x25519() {
        super::x25519(crate::suite::rustcrypto());
    }

    #[test]
    fn ml_kem_refuses_bad_keys() {
        super::ml_kem_keys(crate::suite::rustcrypto());
    }

    #[test]
    fn ml_kem_decapsulates() {
        super::ml_kem_decapsulation("rustcrypto", |kem, seed| -> Box<dyn KemSecret> {
            let seed = seed.try_into().unwrap();
            match kem {
                Kem::MlKem768 => Box::new(DecapsulationKey::<MlKem768>::from_seed(seed)),
                Kem::MlKem1024 => Box::new(DecapsulationKey::<MlKem1024>::from_seed(seed)),
            }
        });
    }

    #[test]
    fn ml_kem_generates_and_encapsulates() {
        super::ml_kem_generation(crate::suite::rustcrypto());
        super::ml_kem_encapsulation(crate::suite::rustcrypto());
    }
}

fn aes_gcm(suite: CryptoSuite) {
    // 128 and 256 bit keys with the one nonce length we use; the file has 187 cases
    aead(suite, "aes_gcm_test", 77, |key_bits| match key_bits {
        128 => Some(Cipher::Aes128Gcm),
        256 => Some(Cipher::Aes256Gcm),
        _ => None,
    });
}

fn chacha20_poly1305(suite: CryptoSuite) {
    // the file has 208 cases; five have a nonce that our types cannot express
    aead(suite, "chacha20_poly1305_test", 203, |_| {
        Some(Cipher::ChaCha20Poly1305)
    });
}

fn aead(suite: CryptoSuite, file: &str, expected: usize, cipher: fn(u64) -> Option<Cipher>) {
    each(suite.name, file, expected, |group, case| {
        let cipher = cipher(group["keySize"].as_u64().unwrap());
        let (Some(cipher), 96) = (cipher, group["ivSize"].as_u64().unwrap()) else {
            return false;
        };
        let mut key = [0; 32];
        let bytes = hex(case, "key");
        key[..bytes.len()].copy_from_slice(&bytes);
        let key = (suite.aead)(cipher, &Secret::take(&mut key));
        let nonce: [u8; 12] = hex(case, "iv").try_into().unwrap();
        let tag: [u8; 16] = hex(case, "tag").try_into().unwrap();
        let (aad, text, sealed) = (hex(case, "aad"), hex(case, "msg"), hex(case, "ct"));
        let mut opened = sealed.clone();
        let valid = key.open_at(nonce, &aad, &mut opened, &tag);
        assert_eq!(valid, case["result"] == "valid", "{case}");
        if valid {
            assert_eq!(opened, text);
            assert_eq!(key.seal_at(nonce, &aad, &mut opened), tag);
            assert_eq!(opened, sealed);
        }
        true
    });
}

fn x25519(suite: CryptoSuite) {
    each(suite.name, "x25519_test", 332, |_, case| {
        let mut secret: [u8; 32] = hex(case, "private").try_into().unwrap();
        let public: [u8; 32] = hex(case, "public").try_into().unwrap();
        let expected = hex(case, "shared");
        let shared = (suite.x25519_key)(&Secret::take(&mut secret)).agree(&public);
        let shared = shared.map(|shared| shared.expose().to_vec());
        assert_eq!(shared, (expected != [0; 32]).then_some(expected), "{case}");
        true
    });
}

fn ml_kem_decapsulation(provider: &str, import: impl Fn(Kem, &[u8]) -> Box<dyn super::KemSecret>) {
    for (kem, file) in [
        (Kem::MlKem768, "mlkem_768_test"),
        (Kem::MlKem1024, "mlkem_1024_test"),
    ] {
        each(provider, file, 127, |_, case| {
            let seed = hex(case, "seed");
            if seed.len() != 64 {
                assert_eq!(case["result"], "invalid", "{case}"); // our types take 64 bytes only
                return true;
            }
            let shared = import(kem, &seed).decapsulate(&hex(case, "c"));
            let shared = shared.map(|shared| shared.expose().to_vec());
            if case["result"] == "valid" {
                assert_eq!(shared, Some(hex(case, "K")), "{case}");
            } else {
                assert_ne!(shared, Some(hex(case, "K")), "{case}");
            }
            true
        });
    }
}

fn ml_kem_keys(suite: CryptoSuite) {
    let files = [
        (
            Kem::MlKem768,
            "mlkem_768_encaps_test",
            145,
            "ML-KEM-768",
            457,
        ),
        (
            Kem::MlKem1024,
            "mlkem_1024_encaps_test",
            161,
            "ML-KEM-1024",
            615,
        ),
    ];
    for (kem, file, expected, modulus, bad) in files {
        let entropy = &mut SeededEntropy::new(1);
        each(suite.name, file, expected, |_, case| {
            let sealed = (suite.kem_encapsulate)(kem, &hex(case, "ek"), entropy);
            assert_eq!(sealed.is_some(), case["result"] == "valid", "{case}");
            true
        });
        let keys = gunzip(&format!("cctv-mlkem/modulus/{modulus}.txt.gz"));
        for key in &keys {
            assert!((suite.kem_encapsulate)(kem, &decode(key), entropy).is_none());
        }
        if !keys.is_empty() {
            say(&format!(
                "cctv modulus {modulus}: {} keys refused by {}",
                keys.len(),
                suite.name
            ));
            assert_eq!(keys.len(), bad);
        }
    }
}

#[cfg(feature = "rustcrypto")]
fn ml_kem_encapsulation(suite: CryptoSuite) {
    let files = [
        (Kem::MlKem768, "mlkem_768_encaps_test", 145),
        (Kem::MlKem1024, "mlkem_1024_encaps_test", 161),
    ];
    for (kem, file, expected) in files {
        each(suite.name, file, expected, |_, case| {
            let mut entropy = Given(hex(case, "m"));
            let sealed = (suite.kem_encapsulate)(kem, &hex(case, "ek"), &mut entropy);
            let sealed = sealed.map(|(ciphertext, secret)| (ciphertext, secret.expose().to_vec()));
            let valid = case["result"] == "valid";
            assert_eq!(
                sealed,
                valid.then(|| (hex(case, "c"), hex(case, "K"))),
                "{case}"
            );
            true
        });
    }
}

#[cfg(feature = "rustcrypto")]
fn ml_kem_generation(suite: CryptoSuite) {
    let files = [
        (Kem::MlKem768, "mlkem_768_keygen_seed_test", 58),
        (Kem::MlKem1024, "mlkem_1024_keygen_seed_test", 62),
    ];
    for (kem, file, expected) in files {
        each(suite.name, file, expected, |_, case| {
            let seed = hex(case, "seed");
            let pair = (suite.kem_generate)(kem, &mut Given(seed.clone()));
            assert_eq!(pair.public, hex(case, "ek"), "{case}");
            assert_eq!(expand(kem, &seed), hex(case, "dk"), "{case}");
            true
        });
    }
}

/// The expanded form of a decapsulation key, which is not stored anywhere.
#[cfg(feature = "rustcrypto")]
#[allow(
    deprecated,
    reason = "the expanded form is what the other provider takes in"
)]
fn expand(kem: Kem, seed: &[u8]) -> Vec<u8> {
    use ml_kem::{DecapsulationKey, ExpandedKeyEncoding, MlKem768, MlKem1024};
    let seed = seed.try_into().unwrap();
    match kem {
        Kem::MlKem768 => DecapsulationKey::<MlKem768>::from_seed(seed)
            .to_expanded_bytes()
            .to_vec(),
        Kem::MlKem1024 => DecapsulationKey::<MlKem1024>::from_seed(seed)
            .to_expanded_bytes()
            .to_vec(),
    }
}

/// Runs every case of a Wycheproof file; `run` says whether it counts.
fn each(provider: &str, file: &str, expected: usize, mut run: impl FnMut(&Value, &Value) -> bool) {
    let Some(vectors) = json(&format!("wycheproof/{file}.json")) else {
        return;
    };
    let mut count = 0;
    for group in vectors["testGroups"].as_array().unwrap() {
        for case in group["tests"].as_array().unwrap() {
            count += usize::from(run(group, case));
        }
    }
    say(&format!("wycheproof {file}: {count} cases with {provider}"));
    assert_eq!(count, expected);
}

/// The lines of a packed file; none if it is absent.
fn gunzip(file: &str) -> Vec<String> {
    let Some(path) = path(file) else {
        return Vec::new();
    };
    let output = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Gives the bytes of a vector.
#[derive(Debug)]
struct Given(Vec<u8>);

impl Entropy for Given {
    fn fill(&mut self, bytes: &mut [u8]) {
        let rest = self.0.split_off(bytes.len());
        bytes.copy_from_slice(&self.0);
        self.0 = rest;
    }
}
