//! Understands files of `/proc`. Whatever looks different gives `None`.

use std::time::Duration;

use vpnmesh_core::Ratio;

/// Processor time since boot, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuTicks {
    /// Spent working, stolen time included.
    pub busy: u64,
    /// Spent at all.
    pub total: u64,
}

impl CpuTicks {
    /// The busy share of the time between two readings; `None` if no tick passed.
    #[must_use]
    pub fn busy_until(self, later: Self) -> Option<Ratio> {
        let total = later.total.checked_sub(self.total)?;
        let busy = later.busy.saturating_sub(self.busy);
        (total > 0).then(|| Ratio::of(busy, total))
    }
}

/// How often and how long this process waited for a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunDelay {
    /// Time spent runnable but not running.
    pub waited: Duration,
    /// Times it got a processor.
    pub runs: u64,
}

impl RunDelay {
    /// The mean wait per run between two readings; `None` if it did not run.
    #[must_use]
    pub fn mean_until(self, later: Self) -> Option<Duration> {
        let runs = later.runs.checked_sub(self.runs)?;
        let waited = later.waited.checked_sub(self.waited)?;
        (runs > 0).then(|| waited / u32::try_from(runs).unwrap_or(u32::MAX))
    }
}

/// The processor time of one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessTicks {
    /// Its process group.
    pub group: i64,
    /// Ticks in user and kernel mode, of all its threads.
    pub used: u64,
}

/// `/proc/PID/stat`. The name of a process may hold anything, brackets too.
///
/// Source: proc_pid_stat(5).
#[must_use]
pub fn process_ticks(text: &str) -> Option<ProcessTicks> {
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().take(13).collect();
    let [_state, _parent, group, _, _, _, _, _, _, _, _, user, system] = fields[..] else {
        return None;
    };
    let (user, system): (u64, u64) = (user.parse().ok()?, system.parse().ok()?);
    Some(ProcessTicks {
        group: group.parse().ok()?,
        used: user.checked_add(system)?,
    })
}

/// `/proc/stat`: the line of all processors together.
///
/// Source: proc_stat(5). Guest time is part of user time already.
#[must_use]
pub fn cpu_ticks(text: &str) -> Option<CpuTicks> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Option<Vec<u64>> = line
        .split_whitespace()
        .take(8)
        .map(|field| field.parse().ok())
        .collect();
    let fields = fields?;
    let [_user, _nice, _system, idle, rest @ ..] = fields.as_slice() else {
        return None;
    };
    let total = fields
        .iter()
        .try_fold(0_u64, |sum, field| sum.checked_add(*field))?;
    let idle = idle.checked_add(rest.first().copied().unwrap_or(0))?;
    Some(CpuTicks {
        busy: total - idle,
        total,
    })
}

/// `/proc/meminfo`: the share that is not available for new work.
#[must_use]
pub fn memory_used(text: &str) -> Option<Ratio> {
    let value = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let total = value("MemTotal:")?;
    let available = value("MemAvailable:")?;
    (total > 0).then(|| Ratio::of(total.saturating_sub(available), total))
}

/// `/proc/loadavg`: the mean run-queue length of the last minute, over all cores.
#[must_use]
pub fn load(text: &str) -> Option<f64> {
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    (load.is_finite() && load >= 0.0).then_some(load)
}

/// `/proc/pressure/*`: time since boot in which some task was stalled.
#[must_use]
pub fn stalled(text: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = line
        .split_whitespace()
        .find_map(|field| field.strip_prefix("total="))?;
    Some(Duration::from_micros(total.parse().ok()?))
}

/// `/proc/self/schedstat`: time on a processor, time waiting for one, runs.
#[must_use]
pub fn run_delay(text: &str) -> Option<RunDelay> {
    let mut fields = text.split_whitespace().skip(1);
    Some(RunDelay {
        waited: Duration::from_nanos(fields.next()?.parse().ok()?),
        runs: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn processor_time_leaves_out_idle_and_disk_wait() {
        let text = "cpu  100 10 50 800 40 0 5 15 7 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        let ticks = cpu_ticks(text).unwrap();
        assert_eq!(
            ticks,
            CpuTicks {
                busy: 180,
                total: 1020
            }
        );
        let later = CpuTicks {
            busy: 230,
            total: 1120,
        };
        assert_eq!(ticks.busy_until(later), Ratio::new(0.5));
        assert_eq!(ticks.busy_until(ticks), None);
    }

    #[test]
    fn memory_in_use_is_what_is_not_available() {
        let text = "MemTotal:       1000 kB\nMemFree:  100 kB\nMemAvailable:    250 kB\n";
        assert_eq!(memory_used(text), Ratio::new(0.75));
        assert_eq!(memory_used("MemTotal: 0 kB\nMemAvailable: 0 kB"), None);
    }

    #[test]
    fn load_is_the_first_field() {
        assert_eq!(load("0.52 0.58 0.59 1/467 12345\n"), Some(0.52));
        assert_eq!(load("NaN 0 0"), None);
    }

    #[test]
    fn pressure_is_the_total_of_some() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=15000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";
        assert_eq!(stalled(text), Some(Duration::from_millis(15)));
    }

    #[test]
    fn the_wait_for_a_processor_is_a_mean_over_runs() {
        let before = run_delay("5000 1000000 10\n").unwrap();
        let after = run_delay("9000 5000000 14\n").unwrap();
        assert_eq!(before.mean_until(after), Some(Duration::from_millis(1)));
        assert_eq!(after.mean_until(before), None);
    }

    proptest! {
        #[test]
        fn garbage_is_no_value_and_no_panic(text in "(cpu |some |MemTotal:)?[ -~\\n]{0,80}") {
            let _ = (cpu_ticks(&text), memory_used(&text), load(&text), stalled(&text), run_delay(&text));
        }
    }
}
