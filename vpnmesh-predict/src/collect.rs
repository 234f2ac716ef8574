//! Measures the host from `/proc`.
//!
//! Reading is here, understanding is in [`parse`]. A file that is missing or odd leaves its values
//! out of the sample: old kernels have no PSI, containers hide parts of `/proc`.

pub mod parse;
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vpnmesh_core::{NodeHealth, NodeSample, PathSample, Ratio, Timestamp};

use parse::{CpuTicks, RunDelay};
pub use process::ProcessHealth;

/// The health of the host this process runs on.
#[derive(Clone, Debug)]
pub struct HostHealth {
    root: PathBuf,
    cores: f64,
    before: Option<Reading>,
    paths: Vec<PathSample>, // of the next sample; at most NodeSample::MAX_PATHS
    drops: Option<Ratio>,   // of the next sample
}

/// What counts up from reading to reading.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Timestamp,
    cpu: Option<CpuTicks>,
    stalls: [Option<Duration>; 3], // cpu, memory, io
    waited: Option<RunDelay>,
}

impl HostHealth {
    /// Reads `/proc`.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Path::new("/proc"))
    }

    /// Reads a directory that looks like `/proc`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        let cores = std::thread::available_parallelism();
        Self {
            root: root.to_owned(),
            cores: cores.map_or(1.0, |cores| cores.get() as f64),
            before: None,
            paths: Vec::new(),
            drops: None,
        }
    }

    /// The paths of the next sample; the first [`NodeSample::MAX_PATHS`] count.
    pub fn push_paths(&mut self, mut paths: Vec<PathSample>) {
        paths.truncate(NodeSample::MAX_PATHS);
        self.paths = paths;
    }

    /// The share of packets that this node dropped instead of forwarding, for the next sample.
    pub fn push_forwarding_drops(&mut self, drops: Ratio) {
        self.drops = Some(drops);
    }

    fn read<T>(&self, file: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        parse(&fs::read_to_string(self.root.join(file)).ok()?)
    }

    fn reading(&self, now: Timestamp) -> Reading {
        let stall = |file| self.read(file, parse::stalled);
        Reading {
            at: now,
            cpu: self.read("stat", parse::cpu_ticks),
            stalls: ["pressure/cpu", "pressure/memory", "pressure/io"].map(stall),
            waited: self.read("self/schedstat", parse::run_delay),
        }
    }
}

impl Default for HostHealth {
    fn default() -> Self {
        Self::new()
    }
}

impl NodeHealth for HostHealth {
    fn sample(&mut self, now: Timestamp) -> NodeSample {
        let reading = self.reading(now);
        let before = self.before.replace(reading);
        let mut sample = NodeSample {
            memory: self.read("meminfo", parse::memory_used),
            load: self
                .read("loadavg", parse::load)
                .map(|load| load / self.cores),
            forwarding_drops: self.drops.take(),
            paths: std::mem::take(&mut self.paths),
            ..NodeSample::default()
        };
        if let Some(before) = before {
            rates(&before, &reading, &mut sample);
        }
        sample
    }
}

/// Fills in what only two readings tell.
fn rates(before: &Reading, after: &Reading, sample: &mut NodeSample) {
    let span = after.at.since(before.at);
    let stall = |which: usize| {
        let stalled = after.stalls[which]?.checked_sub(before.stalls[which]?)?;
        share(stalled, span)
    };
    sample.cpu = before.cpu.zip(after.cpu).and_then(|(a, b)| a.busy_until(b));
    sample.cpu_stall = stall(0);
    sample.memory_stall = stall(1);
    sample.io_stall = stall(2);
    sample.scheduling_delay = before
        .waited
        .zip(after.waited)
        .and_then(|(a, b)| a.mean_until(b));
}

fn share(part: Duration, whole: Duration) -> Option<Ratio> {
    (whole > Duration::ZERO).then(|| Ratio::saturating(part.as_secs_f64() / whole.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_gives_an_empty_sample() {
        let mut health = HostHealth::at(Path::new("/nonexistent"));
        health.sample(Timestamp(0));
        assert_eq!(health.sample(Timestamp(1)), NodeSample::default());
    }

    #[test]
    fn stalls_are_shares_of_the_time_between_two_readings() {
        let reading = |millis, stalled| Reading {
            at: Timestamp::ZERO + Duration::from_millis(millis),
            cpu: None,
            stalls: [Some(Duration::from_millis(stalled)), None, None],
            waited: None,
        };
        let mut sample = NodeSample::default();
        rates(&reading(1000, 70), &reading(1200, 120), &mut sample);
        assert_eq!(sample.cpu_stall, Ratio::new(0.25));
        assert_eq!(sample.io_stall, None);
    }

    #[test]
    fn what_was_pushed_is_sampled_once() {
        let mut health = HostHealth::at(Path::new("/nonexistent"));
        health.push_forwarding_drops(Ratio::ONE);
        assert_eq!(
            health.sample(Timestamp(0)).forwarding_drops,
            Some(Ratio::ONE)
        );
        assert_eq!(health.sample(Timestamp(1)).forwarding_drops, None);
    }

    #[test]
    fn this_very_host_can_be_measured() {
        if !Path::new("/proc/stat").exists() {
            return;
        }
        let mut health = HostHealth::new();
        let sample = health.sample(Timestamp(0));
        assert!(sample.memory.is_some() && sample.load.is_some());
    }
}
