//! Packet ciphers, and which of them suit a machine.

use super::Profile;

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

#[cfg(test)]
mod tests {
    use super::*;

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
