//! Measures the own process group: for hosts that carry several nodes.
//!
//! Processor time counts against one core, which is what one packet thread can use. What only the
//! host as a whole has (memory, load, stalls) is left out: it would speak for all its nodes alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vpnmesh_core::{NodeHealth, NodeSample, PathSample, Ratio, Timestamp};

use super::parse::{self, ProcessTicks};

/// The health of the process group that this process belongs to.
#[derive(Clone, Debug)]
pub struct ProcessHealth {
    root: PathBuf,
    members: Vec<String>, // directories under `root`; at most MAX_MEMBERS
    members_at: Option<Timestamp>,
    before: Option<(Timestamp, u64)>,
    paths: Vec<PathSample>, // of the next sample; at most NodeSample::MAX_PATHS
    drops: Option<Ratio>,   // of the next sample
}

impl ProcessHealth {
    /// Reads `/proc`.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Path::new("/proc"))
    }

    /// Reads a directory that looks like `/proc`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            members: Vec::new(),
            members_at: None,
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

    fn ticks(&self, process: &str) -> Option<ProcessTicks> {
        let stat = self.root.join(process).join("stat");
        parse::process_ticks(&fs::read_to_string(stat).ok()?)
    }

    /// Looks for processes of the own group; new ones are found within [`LOOK_EVERY`].
    fn look(&mut self, group: i64, now: Timestamp) {
        let fresh = self.members_at.is_some_and(|at| now.since(at) < LOOK_EVERY);
        if fresh {
            return;
        }
        self.members_at = Some(now);
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let processes = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let ours = processes.filter(|name| self.ticks(name).is_some_and(|t| t.group == group));
        self.members = ours.take(MAX_MEMBERS).collect();
    }

    /// Ticks that the group has used. Those of a member that ended count only through its parent.
    fn used(&mut self, now: Timestamp) -> Option<u64> {
        let own = self.ticks("self")?;
        self.look(own.group, now);
        let all = self.members.iter().filter_map(|member| self.ticks(member));
        Some(all.map(|ticks| ticks.used).sum())
    }
}

impl Default for ProcessHealth {
    fn default() -> Self {
        Self::new()
    }
}

impl NodeHealth for ProcessHealth {
    fn sample(&mut self, now: Timestamp) -> NodeSample {
        let used = self.used(now);
        let before = self.before.take();
        self.before = used.map(|used| (now, used));
        let cpu = before.zip(used).and_then(|((at, before), used)| {
            let span = now.since(at).as_secs_f64();
            let busy = used.checked_sub(before)? as f64 / TICKS_PER_SECOND;
            (span > 0.0).then(|| Ratio::saturating(busy / span))
        });
        NodeSample {
            cpu,
            forwarding_drops: self.drops.take(),
            paths: std::mem::take(&mut self.paths),
            ..NodeSample::default()
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
const MAX_MEMBERS: usize = 64; // a node is one process; the rest is generosity
const TICKS_PER_SECOND: f64 = 100.0; // USER_HZ, the same on every architecture of Linux in use

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, process: &str, group: u32, ticks: u32) {
        let directory = root.join(process);
        fs::create_dir_all(&directory).unwrap();
        let text = format!("1 (a ) b) R 1 {group} 1 0 -1 0 0 0 0 0 {ticks} 5 0 0 20 0 1 0 0 0 0");
        fs::write(directory.join("stat"), text).unwrap();
    }

    #[test]
    fn the_group_counts_and_others_do_not() {
        let root = std::env::temp_dir().join(format!("vpnmesh-process-{}", std::process::id()));
        for (process, group) in [("self", 7), ("7", 7), ("8", 7), ("9", 9)] {
            write(&root, process, group, 0);
        }
        let mut health = ProcessHealth::at(&root);
        let at = |ms: u64| Timestamp(1_000_000_000 + ms * 1_000_000);
        assert_eq!(health.sample(at(0)).cpu, None, "one reading tells no rate");
        write(&root, "7", 7, 10);
        write(&root, "8", 7, 20);
        write(&root, "9", 9, 90);
        let sample = health.sample(at(500));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(sample.cpu, Ratio::new(0.6));
        assert_eq!((sample.memory, sample.load), (None, None));
        assert_eq!(
            health.sample(at(900)).cpu,
            None,
            "without files nothing is claimed"
        );
    }
}
