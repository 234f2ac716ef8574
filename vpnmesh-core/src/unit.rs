//! Quantities that know their unit.

use std::fmt;
use std::ops::{Add, AddAssign, Mul};
use std::time::Duration;

/// A share, a probability or a loss: always in `0.0..=1.0`, never NaN.
#[derive(Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Ratio(f64);

impl Ratio {
    /// Nothing.
    pub const ZERO: Self = Self(0.0);
    /// Everything.
    pub const ONE: Self = Self(1.0);

    /// `value` if it lies in `0.0..=1.0`.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The nearest ratio to `value`; NaN becomes zero.
    #[must_use]
    pub fn saturating(value: f64) -> Self {
        if value.is_nan() {
            Self::ZERO
        } else {
            Self(value.clamp(0.0, 1.0))
        }
    }

    /// `part` of `whole`; zero where `whole` is zero.
    #[must_use]
    pub fn of(part: u64, whole: u64) -> Self {
        if whole == 0 {
            Self::ZERO
        } else {
            Self::saturating(part as f64 / whole as f64)
        }
    }

    /// As a plain number in `0.0..=1.0`.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// What is left of the whole.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(1.0 - self.0)
    }
}

impl Eq for Ratio {}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} %", self.0 * 100.0)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Ratio {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(source)?;
        Self::new(value).ok_or_else(|| {
            serde::de::Error::custom(format!("ratio {value} is not between 0 and 1"))
        })
    }
}

/// A rate in bit/s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Bandwidth(pub u64);

/// An amount of data in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ByteCount(pub u64);

impl Bandwidth {
    /// How long `amount` takes at this rate; `None` at rate zero.
    #[must_use]
    pub fn time_for(self, amount: ByteCount) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_secs_f64(amount.0 as f64 * 8.0 / self.0 as f64))
    }
}

impl Mul<Duration> for Bandwidth {
    type Output = ByteCount;

    fn mul(self, span: Duration) -> ByteCount {
        ByteCount((self.0 as f64 * span.as_secs_f64() / 8.0) as u64)
    }
}

impl Add for ByteCount {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

impl AddAssign for ByteCount {
    fn add_assign(&mut self, more: Self) {
        *self = *self + more;
    }
}
