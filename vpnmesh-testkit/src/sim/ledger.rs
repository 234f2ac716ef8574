//! Remembers every seal of every machine: no (key, nonce) may ever cover two contents.
//!
//! The provider's packet cipher is wrapped, so nothing that a machine seals can pass by. The ledger
//! belongs to the thread, as one simulation runs on one thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use vpnmesh_core::Secret;
use vpnmesh_transport::{Cipher, CryptoSuite, PacketAead};

/// A (key, nonce) that covered two contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// A fingerprint of the key.
    pub key: u64,
    /// The nonce.
    pub nonce: [u8; 12],
}

#[derive(Debug, Default)]
struct Ledger {
    sealed: HashMap<(u64, [u8; 12]), u64>,
    paused: bool,
    reuses: Vec<Reuse>,
}

thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::default();
}

/// The pure Rust provider with the ledger in front.
#[must_use]
pub fn suite() -> CryptoSuite {
    CryptoSuite {
        aead: recording,
        ..CryptoSuite::reproducible()
    }
}

/// Starts with an empty ledger.
pub fn reset() {
    LEDGER.with_borrow_mut(|ledger| *ledger = Ledger::default());
}

/// Records nothing until the next reset: for hours of virtual time.
pub fn pause() {
    LEDGER.with_borrow_mut(|ledger| ledger.paused = true);
}

/// How many seals were recorded.
#[must_use]
pub fn seals() -> usize {
    LEDGER.with_borrow(|ledger| ledger.sealed.len())
}

/// Every reuse so far.
#[must_use]
pub fn reuses() -> Vec<Reuse> {
    LEDGER.with_borrow(|ledger| ledger.reuses.clone())
}

/// The first reuse, if there was one.
#[must_use]
pub fn first_reuse() -> Option<Reuse> {
    LEDGER.with_borrow(|ledger| ledger.reuses.first().copied())
}

#[derive(Debug)]
struct Recording {
    inner: Box<dyn PacketAead>,
    key: u64,
}

impl PacketAead for Recording {
    fn seal_at(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        let used = (self.key, nonce);
        LEDGER.with_borrow_mut(|ledger| {
            if ledger.paused {
                return;
            }
            let content = fingerprint(&(aad, &*text));
            let before = ledger.sealed.insert(used, content);
            if before.is_some_and(|before| before != content) {
                ledger.reuses.push(Reuse {
                    key: self.key,
                    nonce,
                });
            }
        });
        self.inner.seal_at(nonce, aad, text)
    }

    fn open_at(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
        self.inner.open_at(nonce, aad, text, tag)
    }
}

fn recording(cipher: Cipher, key: &Secret<32>) -> Box<dyn PacketAead> {
    Box::new(Recording {
        inner: (CryptoSuite::reproducible().aead)(cipher, key),
        key: fingerprint(key.expose()),
    })
}

fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_nonce_over_another_text_is_found() {
        reset();
        let aead = (suite().aead)(Cipher::ChaCha20Poly1305, &Secret::take(&mut [7; 32]));
        aead.seal(1, b"", &mut b"one".to_vec());
        aead.seal(1, b"", &mut b"one".to_vec());
        assert_eq!(reuses(), []);
        aead.seal(1, b"", &mut b"two".to_vec());
        assert_eq!(reuses().len(), 1);
        assert_eq!(seals(), 1);
    }
}
