//! Who says when a key has served long enough.

use std::fmt::Debug;
use std::time::Duration;

use crate::ByteCount;

/// How dangerous the world is believed to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ThreatLevel {
    /// Nothing unusual.
    #[default]
    Normal,
    /// Something is odd: shorten what is cheap to shorten.
    Elevated,
    /// An attack is likely.
    High,
    /// An attack is under way.
    Critical,
}

/// What a key has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KeyUsage {
    /// Time since its first use.
    pub age: Duration,
    /// Plaintext sealed under it.
    pub volume: ByteCount,
    /// Packets sealed under it.
    pub packets: u64,
}

/// What to do with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum KeyDecision {
    /// Go on; ask again after this span at the latest.
    Keep {
        /// Until its age alone will call for a new key.
        recheck: Duration,
    },
    /// Agree on a new key; go on with this one meanwhile.
    Rotate {
        /// Why.
        cause: RotationCause,
    },
    /// Seal nothing more under it.
    Stop {
        /// Why.
        cause: RotationCause,
    },
}

/// Which limit a key reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum RotationCause {
    /// Its age.
    Age,
    /// The bytes sealed.
    Volume,
    /// The packets sealed.
    Packets,
}

/// Says when a key has served long enough.
///
/// The decision is a value; nobody is called. More usage or more threat never turns a `Stop` into
/// a `Rotate` or a `Rotate` into a `Keep`.
pub trait KeyPolicy: Debug + Send {
    /// What to do with a key of that usage.
    fn decide(&self, usage: &KeyUsage, threat: ThreatLevel) -> KeyDecision;
}

const _: Option<&dyn KeyPolicy> = None; // must stay object safe

/// Rotates by age, volume and packets; each step of the threat level halves the limits.
///
/// A key that reaches twice its limit seals nothing more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AgeAndVolume {
    /// Age at which a key is replaced. Default 120 s, as WireGuard does. Far longer: a stolen key
    /// opens more; far shorter: handshakes cost more than packets.
    pub max_age: Duration,
    /// Volume at which a key is replaced. Default 64 GiB. Zero stops all sealing.
    pub max_volume: ByteCount,
    /// Packets after which a key is replaced. Default 2^32, far inside the limits of both AEADs.
    pub max_packets: u64,
}

impl Default for AgeAndVolume {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(120),
            max_volume: ByteCount(64 << 30),
            max_packets: 1 << 32,
        }
    }
}

impl KeyPolicy for AgeAndVolume {
    fn decide(&self, usage: &KeyUsage, threat: ThreatLevel) -> KeyDecision {
        let halvings = threat as u32;
        let max_age = self.max_age / (1 << halvings);
        let used = [
            (RotationCause::Age, nanos(usage.age), nanos(max_age)),
            (
                RotationCause::Volume,
                usage.volume.0,
                self.max_volume.0 >> halvings,
            ),
            (
                RotationCause::Packets,
                usage.packets,
                self.max_packets >> halvings,
            ),
        ];
        let past = |factor: u64| {
            let over = used
                .iter()
                .find(|(_, used, max)| *used >= max.saturating_mul(factor));
            over.map(|(cause, ..)| *cause)
        };
        match (past(2), past(1)) {
            (Some(cause), _) => KeyDecision::Stop { cause },
            (None, Some(cause)) => KeyDecision::Rotate { cause },
            (None, None) => KeyDecision::Keep {
                recheck: max_age.saturating_sub(usage.age),
            },
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn used(secs: u64, volume: u64, packets: u64) -> KeyUsage {
        KeyUsage {
            age: Duration::from_secs(secs),
            volume: ByteCount(volume),
            packets,
        }
    }

    #[test]
    fn a_young_key_stays_until_its_age_calls() {
        let policy = AgeAndVolume::default();
        let recheck = Duration::from_secs(110);
        let decision = policy.decide(&used(10, 0, 0), ThreatLevel::Normal);
        assert_eq!(decision, KeyDecision::Keep { recheck });
    }

    #[test]
    fn threat_shortens_the_life_of_keys() {
        let policy = AgeAndVolume::default();
        let cause = RotationCause::Age;
        let decision = policy.decide(&used(70, 0, 0), ThreatLevel::Elevated);
        assert_eq!(decision, KeyDecision::Rotate { cause });
        let decision = policy.decide(&used(70, 0, 0), ThreatLevel::High);
        assert_eq!(decision, KeyDecision::Stop { cause });
    }

    #[test]
    fn nothing_wraps_at_the_greatest_usage() {
        let policy = AgeAndVolume {
            max_packets: u64::MAX,
            ..AgeAndVolume::default()
        };
        let decision = policy.decide(
            &used(u64::MAX / 2, u64::MAX, u64::MAX),
            ThreatLevel::Critical,
        );
        assert!(matches!(decision, KeyDecision::Stop { .. }));
    }

    fn gravity(decision: KeyDecision) -> u8 {
        match decision {
            KeyDecision::Keep { .. } => 0,
            KeyDecision::Rotate { .. } => 1,
            KeyDecision::Stop { .. } => 2,
        }
    }

    proptest! {
        #[test]
        fn more_usage_and_more_threat_never_relax(
            secs in 0_u64..500, volume in 0_u64..1 << 38, packets in 0_u64..1 << 34,
            more in 0_u64..1000, level in 0_usize..3,
        ) {
            use ThreatLevel::{Critical, Elevated, High, Normal};
            let levels = [Normal, Elevated, High, Critical];
            let policy = AgeAndVolume::default();
            let now = gravity(policy.decide(&used(secs, volume, packets), levels[level]));
            let worse = used(secs + more, volume + (more << 28), packets + (more << 24));
            prop_assert!(gravity(policy.decide(&worse, levels[level])) >= now);
            prop_assert!(gravity(policy.decide(&used(secs, volume, packets), levels[level + 1])) >= now);
        }
    }
}
