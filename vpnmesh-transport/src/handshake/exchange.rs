//! Which key exchange a handshake makes, and what each end wants of it.
//!
//! The exchange stands in the header of A, which is part of the prologue: a changed one opens
//! nothing. An end falls back to X25519 alone only on the word of its peer, authenticated by the
//! peer's static key: an A that asks for it, or a refusal of the hybrid exchange. What is dropped
//! or forged on the way leads to no other exchange.

use crate::suite::{Kem, Profile};

/// What an end wants of the key exchange.
///
/// | initiator, responder | `Require` | `Prefer` | `Off` |
/// |---|---|---|---|
/// | `Require` | hybrid | hybrid | refused |
/// | `Prefer` | hybrid | hybrid | X25519 alone, after a refusal |
/// | `Off` | refused | X25519 alone | X25519 alone |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pq {
    /// X25519 and ML-KEM; nothing else is asked for, served or accepted.
    #[default]
    Require,
    /// X25519 and ML-KEM; X25519 alone with a peer that says itself that it has ML-KEM switched off.
    /// That word is authenticated by X25519: who breaks it at that very time can say it too.
    Prefer,
    /// X25519 alone. Whoever records the traffic can read it with a quantum computer later.
    Off,
}

/// The key exchange of one handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exchange {
    /// X25519, and ML-KEM with fresh keys mixed in as psk2. Both must fall.
    Hybrid = 0,
    /// X25519 alone.
    Classical = 1,
}

impl Pq {
    /// All of them, the strictest first.
    pub const ALL: [Self; 3] = [Self::Require, Self::Prefer, Self::Off];

    /// Its name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::Prefer => "prefer",
            Self::Off => "off",
        }
    }

    /// What an initiator asks for first.
    #[must_use]
    pub const fn asks_for(self) -> Exchange {
        match self {
            Self::Require | Self::Prefer => Exchange::Hybrid,
            Self::Off => Exchange::Classical,
        }
    }

    /// Whether a responder serves an exchange that it was asked for.
    #[must_use]
    pub const fn serves(self, exchange: Exchange) -> bool {
        match (self, exchange) {
            (Self::Require | Self::Prefer, Exchange::Hybrid)
            | (Self::Prefer | Self::Off, Exchange::Classical) => true,
            (Self::Require, Exchange::Classical) | (Self::Off, Exchange::Hybrid) => false,
        }
    }
}

impl Exchange {
    /// The exchange of a wire code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Hybrid),
            1 => Some(Self::Classical),
            _ => None,
        }
    }

    /// Its code on the wire and in key derivation: the mode.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The KEM that it uses under a profile.
    #[must_use]
    pub const fn kem(self, profile: Profile) -> Option<Kem> {
        match self {
            Self::Hybrid => Some(profile.kem()),
            Self::Classical => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_serves_what_it_asks_for_itself() {
        for pq in Pq::ALL {
            assert!(pq.serves(pq.asks_for()), "{pq:?}");
        }
        for exchange in [Exchange::Hybrid, Exchange::Classical] {
            assert_eq!(Exchange::from_code(exchange.code()), Some(exchange));
        }
        assert_eq!(Exchange::from_code(2), None);
    }
}
