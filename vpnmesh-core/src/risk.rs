//! Who says how risky a connection is.

mod plain;

use std::fmt::Debug;
use std::time::Duration;

use crate::{Ratio, Timestamp};

pub use plain::PlainScorer;

/// What one update of one connection showed, since the update before.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConnectionSample {
    /// Packets from the opener.
    pub packets_in: u32,
    /// Packets to the opener.
    pub packets_out: u32,
    /// Bytes from the opener.
    pub bytes_in: u32,
    /// Bytes to the opener.
    pub bytes_out: u32,
    /// Time since the update before; the opening itself has none.
    pub gap: Option<Duration>,
    /// Requests among the packets: data of the opener that follows data to it.
    pub requests: u16,
    /// Half-open attempts, resets and refusals among the packets.
    pub failures: u16,
    /// A number for the place it comes from; equal places have equal numbers.
    pub place: u32,
}

/// How risky a connection looks. Chances are calibrated where labels were known.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RiskScore {
    /// Both chances as one.
    pub risk: Ratio,
    /// Chance of abuse: a scan, a flood, a guess of passwords.
    pub abuse: Ratio,
    /// Chance of heavy load, harmless or not.
    pub heavy: Ratio,
    /// How unlike the usual traffic it is, whatever that means.
    pub novelty: Ratio,
}

/// Scores connections while they run.
///
/// An update costs about a microsecond and a tracked connection at most 256 bytes. The table is
/// bounded: under attack new connections push out stale ones, never memory.
/// Implementations are deterministic.
pub trait RiskScorer: Debug + Send {
    /// Takes in what `connection` (a keyed hash of its 5-tuple) did, and scores it.
    fn observe(&mut self, connection: u64, sample: &ConnectionSample, now: Timestamp) -> RiskScore;

    /// The connection ended.
    fn forget(&mut self, connection: u64);

    /// How many connections are tracked.
    fn tracked(&self) -> usize;
}

const _: Option<&dyn RiskScorer> = None; // must stay object safe
