//! When a key has served long enough, by handshake profile.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use vpnmesh_core::{ByteCount, KeyDecision, KeyPolicy, KeyUsage, RotationCause, ThreatLevel};

/// How much use a key may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UsageLimits {
    /// Time since its first use.
    pub age: Duration,
    /// Plaintext sealed under it.
    pub volume: ByteCount,
    /// Packets sealed under it.
    pub packets: u64,
}

/// A [`KeyPolicy`] with one set of limits for a new key and one for the end of sealing.
///
/// Between the two the session runs on while it looks for somebody to agree with. Threat tightens
/// the first set only: an attacker who raises the alarm must not be able to silence sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfileLimits {
    /// At these a new key is agreed on. Far greater: a stolen key opens more; far smaller:
    /// handshakes cost more than packets.
    pub rotate: UsageLimits,
    /// At these nothing more is sealed. Never lower than `rotate` in a sane configuration; where it
    /// is, this one holds.
    pub stop: UsageLimits,
    /// How often each step of the threat level halves `rotate`; at most 8 counts. Default 1. Zero:
    /// the threat level does not matter.
    pub halvings: u8,
}

impl Default for ProfileLimits {
    fn default() -> Self {
        Self::standard()
    }
}

impl ProfileLimits {
    /// For profile `Standard`.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            rotate: limits(120, 64 * GIB, 1 << 32), // age: WireGuard, section 6.1
            stop: limits(540, 128 * GIB, 1 << 33),
            halvings: 1,
        }
    }

    /// For profile `High`: short-lived keys.
    #[must_use]
    pub const fn high() -> Self {
        Self {
            rotate: limits(30, GIB, 1 << 26),
            stop: limits(240, 16 * GIB, 1 << 30),
            halvings: 1,
        }
    }

    /// For profile `Light`: few handshakes.
    #[must_use]
    pub const fn light() -> Self {
        Self {
            rotate: limits(300, 32 * GIB, 1 << 31),
            stop: limits(900, 128 * GIB, 1 << 33),
            halvings: 1,
        }
    }
}

impl KeyPolicy for ProfileLimits {
    fn decide(&self, usage: &KeyUsage, threat: ThreatLevel) -> KeyDecision {
        let halvings = u32::from(self.halvings.min(8)) * threat as u32;
        let rotate = UsageLimits {
            age: self.rotate.age / 2u32.pow(halvings), // at most 2^24
            volume: ByteCount(self.rotate.volume.0 >> halvings),
            packets: self.rotate.packets >> halvings,
        };
        match (reached(&self.stop, usage), reached(&rotate, usage)) {
            (Some(cause), _) => KeyDecision::Stop { cause },
            (None, Some(cause)) => KeyDecision::Rotate { cause },
            (None, None) => KeyDecision::Keep {
                recheck: rotate.age.min(self.stop.age).saturating_sub(usage.age),
            },
        }
    }
}

fn reached(limits: &UsageLimits, usage: &KeyUsage) -> Option<RotationCause> {
    if usage.age >= limits.age {
        Some(RotationCause::Age)
    } else if usage.volume >= limits.volume {
        Some(RotationCause::Volume)
    } else if usage.packets >= limits.packets {
        Some(RotationCause::Packets)
    } else {
        None
    }
}

const fn limits(age_s: u64, volume: u64, packets: u64) -> UsageLimits {
    UsageLimits {
        age: Duration::from_secs(age_s),
        volume: ByteCount(volume),
        packets,
    }
}

/// 2^36 bytes are 2^32 blocks: a distinguisher's advantage against AES-GCM stays below 2^-64.
const GIB: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEVELS: [ThreatLevel; 4] = [
        ThreatLevel::Normal,
        ThreatLevel::Elevated,
        ThreatLevel::High,
        ThreatLevel::Critical,
    ];

    fn severity(decision: KeyDecision) -> u8 {
        match decision {
            KeyDecision::Keep { .. } => 0,
            KeyDecision::Rotate { .. } => 1,
            KeyDecision::Stop { .. } => 2,
        }
    }

    #[test]
    fn each_limit_calls_for_a_new_key_by_its_name() {
        let policy = ProfileLimits::standard();
        let fresh = KeyUsage::default();
        let recheck = Duration::from_secs(120);
        assert_eq!(
            policy.decide(&fresh, ThreatLevel::Normal),
            KeyDecision::Keep { recheck }
        );
        let cases = [
            (
                RotationCause::Age,
                KeyUsage {
                    age: recheck,
                    ..fresh
                },
            ),
            (
                RotationCause::Volume,
                KeyUsage {
                    volume: ByteCount(64 * GIB),
                    ..fresh
                },
            ),
            (
                RotationCause::Packets,
                KeyUsage {
                    packets: 1 << 32,
                    ..fresh
                },
            ),
        ];
        for (cause, usage) in cases {
            let decision = policy.decide(&usage, ThreatLevel::Normal);
            assert_eq!(decision, KeyDecision::Rotate { cause });
        }
    }

    #[test]
    fn threat_alone_never_silences_a_session() {
        for policy in [
            ProfileLimits::standard(),
            ProfileLimits::high(),
            ProfileLimits::light(),
        ] {
            let just_rotating = KeyUsage {
                age: policy.rotate.age,
                ..KeyUsage::default()
            };
            let decision = policy.decide(&just_rotating, ThreatLevel::Critical);
            assert_eq!(severity(decision), 1);
        }
    }

    proptest! {
        #[test]
        fn more_use_or_more_threat_is_never_judged_milder(
            age in 0u64..2000, volume in any::<u64>(), packets in any::<u64>(),
            more in 0u64..2000, level in 0usize..3, halvings in any::<u8>(),
        ) {
            let policy = ProfileLimits { halvings, ..ProfileLimits::standard() };
            let usage = |age| KeyUsage {
                age: Duration::from_secs(age),
                volume: ByteCount(volume >> 20),
                packets: packets >> 24,
            };
            let base = severity(policy.decide(&usage(age), LEVELS[level]));
            prop_assert!(base <= severity(policy.decide(&usage(age + more), LEVELS[level])));
            prop_assert!(base <= severity(policy.decide(&usage(age), LEVELS[level + 1])));
        }
    }
}
