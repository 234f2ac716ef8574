//! What is measured: samples of nodes and paths, and what nodes report about each other.

use std::fmt;
use std::time::Duration;

use crate::{NodeId, Ratio};

/// What one sampling period of one path showed. A missing value was not measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PathSample {
    /// The node at the other end.
    pub peer: NodeId,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Mean deviation of the round-trip time.
    pub jitter: Option<Duration>,
    /// Share of packets lost within the period.
    pub loss: Option<Ratio>,
    /// Packets behind `loss`; few packets mean a coarse loss.
    pub packets: u32,
}

/// What one sampling period of one node showed. A missing value was not measured.
#[derive(Clone, PartialEq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeSample {
    /// Share of processor time in use, over all cores.
    pub cpu: Option<Ratio>,
    /// Share of memory in use.
    pub memory: Option<Ratio>,
    /// Run-queue length per core; 1.0 is fully loaded.
    pub load: Option<f64>,
    /// Share of time in which some task waited for a processor (PSI).
    pub cpu_stall: Option<Ratio>,
    /// Share of time in which some task waited for memory (PSI).
    pub memory_stall: Option<Ratio>,
    /// Share of time in which some task waited for a disk (PSI).
    pub io_stall: Option<Ratio>,
    /// How much later than asked the node's own threads woke up.
    pub scheduling_delay: Option<Duration>,
    /// Share of packets that the node dropped instead of forwarding.
    pub forwarding_drops: Option<Ratio>,
    /// Its paths to other nodes: at most [`NodeSample::MAX_PATHS`], the rest is ignored.
    pub paths: Vec<PathSample>,
}

impl NodeSample {
    /// Readers look at no more paths than this.
    pub const MAX_PATHS: usize = 64;

    /// The value of one metric; for path metrics the median over the paths.
    ///
    /// Shares are in `0.0..=1.0`, times in seconds. Only finite values come out.
    #[must_use]
    pub fn metric(&self, metric: Metric) -> Option<f64> {
        let path = |pick: fn(&PathSample) -> Option<f64>| {
            let paths = self.paths.iter().take(Self::MAX_PATHS);
            median(paths.filter_map(pick).collect())
        };
        let value = match metric {
            Metric::Cpu => self.cpu.map(Ratio::get),
            Metric::Memory => self.memory.map(Ratio::get),
            Metric::Load => self.load,
            Metric::CpuStall => self.cpu_stall.map(Ratio::get),
            Metric::MemoryStall => self.memory_stall.map(Ratio::get),
            Metric::IoStall => self.io_stall.map(Ratio::get),
            Metric::SchedulingDelay => self.scheduling_delay.map(|delay| delay.as_secs_f64()),
            Metric::ForwardingDrops => self.forwarding_drops.map(Ratio::get),
            Metric::Rtt => path(|path| path.rtt.map(|rtt| rtt.as_secs_f64())),
            Metric::Jitter => path(|path| path.jitter.map(|jitter| jitter.as_secs_f64())),
            Metric::Loss => path(|path| path.loss.map(Ratio::get)),
            Metric::Reports => None,
        };
        value.filter(|value| value.is_finite())
    }
}

/// A quantity that a forecast may rest on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Metric {
    /// [`NodeSample::cpu`].
    Cpu,
    /// [`NodeSample::memory`].
    Memory,
    /// [`NodeSample::load`].
    Load,
    /// [`NodeSample::cpu_stall`].
    CpuStall,
    /// [`NodeSample::memory_stall`].
    MemoryStall,
    /// [`NodeSample::io_stall`].
    IoStall,
    /// [`NodeSample::scheduling_delay`], in seconds.
    SchedulingDelay,
    /// [`NodeSample::forwarding_drops`].
    ForwardingDrops,
    /// [`PathSample::rtt`], in seconds.
    Rtt,
    /// [`PathSample::jitter`], in seconds.
    Jitter,
    /// [`PathSample::loss`].
    Loss,
    /// Share of the reporting nodes that see trouble.
    Reports,
}

impl Metric {
    /// All metrics that a [`NodeSample`] holds.
    pub const SAMPLED: [Self; 11] = [
        Self::Cpu,
        Self::Memory,
        Self::Load,
        Self::CpuStall,
        Self::MemoryStall,
        Self::IoStall,
        Self::SchedulingDelay,
        Self::ForwardingDrops,
        Self::Rtt,
        Self::Jitter,
        Self::Loss,
    ];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::CpuStall => "cpu stall",
            Self::MemoryStall => "memory stall",
            Self::IoStall => "io stall",
            Self::SchedulingDelay => "scheduling delay",
            Self::ForwardingDrops => "forwarding drops",
            Self::Rtt => "round-trip time",
            Self::Jitter => "jitter",
            Self::Loss => "loss",
            Self::Reports => "reports of other nodes",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one node says about another, or about itself.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HealthReport {
    /// Who reports.
    pub from: NodeId,
    /// About whom; the reporter itself for its own forecast.
    pub about: NodeId,
    /// What the reporter sees.
    pub verdict: Verdict,
    /// The reporter's own forecast for that node, if it has one.
    pub risk: Option<Ratio>,
    /// The path between the two, if the reporter measures it.
    pub path: Option<PathSample>,
    /// How late the reporter itself runs: a starved node must not accuse others.
    pub own_delay: Duration,
}

/// How a node looks to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Verdict {
    /// It answers as it should.
    Well,
    /// It answers, but late, lossily or not to everything.
    Troubled,
    /// It does not answer.
    Silent,
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(peer: u64, rtt_ms: u64) -> PathSample {
        PathSample {
            peer: NodeId(peer),
            rtt: Some(Duration::from_millis(rtt_ms)),
            jitter: None,
            loss: None,
            packets: 10,
        }
    }

    #[test]
    fn one_bad_path_does_not_speak_for_the_node() {
        let sample = NodeSample {
            paths: vec![path(1, 10), path(2, 900), path(3, 12)],
            ..NodeSample::default()
        };
        assert_eq!(sample.metric(Metric::Rtt), Some(0.012));
    }

    #[test]
    fn what_was_not_measured_has_no_value() {
        let sample = NodeSample {
            load: Some(f64::NAN),
            paths: vec![path(1, 10)],
            ..NodeSample::default()
        };
        assert_eq!(sample.metric(Metric::Loss), None);
        assert_eq!(sample.metric(Metric::Load), None);
    }
}
