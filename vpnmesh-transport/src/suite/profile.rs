//! Profiles: what is negotiated as a whole.

use super::{Cipher, Kem};

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
}
