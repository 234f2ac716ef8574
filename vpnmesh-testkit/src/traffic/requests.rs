//! Requests and their answers over time.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vpnmesh_core::Timestamp;

use super::Window;
use super::window::nanos;
use crate::report::percentile;

/// Records requests by the time at which each was due.
///
/// Latency counts from the due time, not from the sending, so that a request which waits behind a
/// stalled one shows its whole wait.
#[derive(Debug)]
pub struct Requests {
    done: VecDeque<Done>, // in order of completion; at most `bound`
    bound: usize,
    forgot: Option<Timestamp>, // the latest due time among those forgotten
    totals: RequestTotals,
}

/// What was counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct RequestTotals {
    /// Answered rightly.
    pub answered: u64,
    /// Not answered, or wrongly.
    pub failed: u64,
}

/// The requests that were due in a window.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct RequestWindow {
    /// Answered rightly.
    pub answered: u64,
    /// Not answered, or wrongly.
    pub failed: u64,
    /// Median latency of the answered.
    pub p50_ns: Option<u64>,
    /// 99th percentile of the latency.
    pub p99_ns: Option<u64>,
    /// Greatest latency.
    pub max_ns: Option<u64>,
    /// Some of the window is older than all that is remembered.
    pub incomplete: bool,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    at: Timestamp,
    due: Timestamp,
    latency: Option<Duration>, // none: failed
}

impl Requests {
    /// Remembers the newest `bound` requests.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            done: VecDeque::new(),
            bound: bound.max(1),
            forgot: None,
            totals: RequestTotals::default(),
        }
    }

    /// The request that was due at `due` has its right answer.
    pub fn handle_answer(&mut self, due: Timestamp, now: Timestamp) {
        self.totals.answered += 1;
        self.remember(due, Some(now.since(due)), now);
    }

    /// The request that was due at `due` failed.
    pub fn handle_failure(&mut self, due: Timestamp, now: Timestamp) {
        self.totals.failed += 1;
        self.remember(due, None, now);
    }

    /// What was counted since the start.
    #[must_use]
    pub fn totals(&self) -> RequestTotals {
        self.totals
    }

    /// What became of the requests that were due in `window`.
    #[must_use]
    pub fn window(&self, window: Window) -> RequestWindow {
        let begin = self.done.partition_point(|done| done.at < window.from);
        let after = self.done.range(begin..); // what was done earlier was due earlier
        let inside = after.filter(|done| window.contains(done.due));
        let (mut latencies, mut failed) = (Vec::new(), 0);
        for done in inside {
            match done.latency {
                Some(latency) => latencies.push(nanos(latency)),
                None => failed += 1,
            }
        }
        latencies.sort_unstable();
        RequestWindow {
            answered: latencies.len() as u64,
            failed,
            p50_ns: percentile(&latencies, 50),
            p99_ns: percentile(&latencies, 99),
            max_ns: latencies.last().copied(),
            incomplete: self.forgot.is_some_and(|forgot| window.from <= forgot),
        }
    }

    fn remember(&mut self, due: Timestamp, latency: Option<Duration>, now: Timestamp) {
        let last = self.done.back().map_or(now, |done| done.at);
        if self.done.len() == self.bound
            && let Some(oldest) = self.done.pop_front()
        {
            self.forgot = self.forgot.max(Some(oldest.due));
        }
        let at = now.max(last);
        self.done.push_back(Done { at, due, latency });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_due_time() {
        let mut requests = Requests::new(10);
        requests.handle_answer(Timestamp(100), Timestamp(150));
        requests.handle_answer(Timestamp(120), Timestamp(320));
        requests.handle_failure(Timestamp(130), Timestamp(140));
        let window = requests.window(Window::new(Timestamp(100), Timestamp(130)));
        assert_eq!((window.answered, window.failed), (2, 0));
        assert_eq!((window.p50_ns, window.max_ns), (Some(50), Some(200)));
        assert_eq!(requests.window(Window::all()).failed, 1);
    }

    #[test]
    fn the_bound_holds_and_the_window_says_so() {
        let mut requests = Requests::new(2);
        for due in 0..5 {
            requests.handle_answer(Timestamp(due), Timestamp(due + 1));
        }
        let window = requests.window(Window::all());
        assert_eq!((window.answered, window.incomplete), (2, true));
        assert!(
            !requests
                .window(Window::new(Timestamp(3), Timestamp(9)))
                .incomplete
        );
        assert_eq!(requests.totals().answered, 5);
    }
}
