//! Where random bytes come from: the system, or a seed in simulation.

use std::convert::Infallible;
use std::fmt::{self, Debug};

use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use vpnmesh_core::Secret;
use zeroize::Zeroize;

use crate::Error;
use crate::kdf::label;

/// A source of unpredictable bytes.
///
/// The pure Rust provider draws everything from it, so a seed decides a whole simulation. The
/// `aws-lc` provider uses its own generator where one cannot be passed in (ML-KEM).
pub trait Entropy: Debug + Send {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

const _: Option<&dyn Entropy> = None; // must stay object safe

/// `N` fresh secret bytes.
pub fn secret<const N: usize>(entropy: &mut dyn Entropy) -> Secret<N> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    Secret::take(&mut bytes)
}

/// The operating system's generator, asked every time: a cloned process never repeats bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy(());

impl OsEntropy {
    /// Checks once that the system gives random bytes.
    ///
    /// # Errors
    /// [`Error::NoRandomness`] if it does not.
    pub fn new() -> Result<Self, Error> {
        getrandom::fill(&mut [0; 32]).map_err(|_| Error::NoRandomness)?;
        Ok(Self(()))
    }
}

impl Entropy for OsEntropy {
    /// # Panics
    /// If the system, which gave bytes before, has none: no key may be made then.
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system's generator worked before and does not fail");
    }
}

/// Bytes that follow from a seed: for simulation and tests only.
///
/// Block `i` is SHA-256 (label, seed, `i`), so that a seed means the same in every version.
pub struct SeededEntropy {
    seed: [u8; 32],
    block: u64,
    rest: Vec<u8>, // at most 31 bytes
}

impl SeededEntropy {
    /// Starts from a number.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            seed: bytes,
            block: 0,
            rest: Vec::new(),
        }
    }

    fn next_block(&mut self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(label::SEEDED);
        hash.update(self.seed);
        hash.update(self.block.to_le_bytes());
        self.block += 1;
        hash.finalize().into()
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.rest.is_empty() {
                self.rest = self.next_block().to_vec();
            }
            *byte = self.rest.pop().unwrap_or_default();
        }
    }
}

impl Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeededEntropy")
            .field("block", &self.block)
            .finish_non_exhaustive()
    }
}

impl Drop for SeededEntropy {
    fn drop(&mut self) {
        self.seed.zeroize();
        self.rest.zeroize();
    }
}

/// Our entropy in the form that RustCrypto draws from.
pub(crate) struct Draw<'a>(pub(crate) &'a mut dyn Entropy);

impl TryRng for Draw<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Draw<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_however_they_are_drawn() {
        let (mut a, mut b) = (SeededEntropy::new(7), SeededEntropy::new(7));
        let (mut whole, mut parts) = ([0; 70], [0; 70]);
        a.fill(&mut whole);
        for part in parts.chunks_mut(9) {
            b.fill(part);
        }
        assert_eq!(whole, parts);
        let mut other = [0; 70];
        SeededEntropy::new(8).fill(&mut other);
        assert_ne!(whole, other);
    }

    #[test]
    fn the_system_gives_bytes() {
        let mut entropy = OsEntropy::new().unwrap();
        assert_ne!(secret::<32>(&mut entropy), secret::<32>(&mut entropy));
    }
}
