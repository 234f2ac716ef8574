//! How many automatic moves may still begin.

use std::collections::VecDeque;

use crate::{BudgetPolicy, Timestamp};

/// Counts automatic moves against a [`BudgetPolicy`].
#[derive(Clone, Debug)]
pub struct Budget {
    policy: BudgetPolicy,
    begun: VecDeque<Timestamp>, // within the window; at most policy.per_window
}

impl Budget {
    /// Nothing is spent yet.
    #[must_use]
    pub const fn new(policy: BudgetPolicy) -> Self {
        Self {
            policy,
            begun: VecDeque::new(),
        }
    }

    /// Whether one more move may begin while `running` automatic moves run.
    #[must_use]
    pub fn allows(&self, running: usize, now: Timestamp) -> bool {
        running < self.policy.concurrent as usize
            && self.recent(now) < self.policy.per_window as usize
    }

    /// An automatic move began.
    pub fn handle_begin(&mut self, now: Timestamp) {
        while self.begun.front().is_some_and(|at| self.is_past(*at, now)) {
            self.begun.pop_front();
        }
        if self.begun.len() >= self.policy.per_window as usize {
            self.begun.pop_front();
        }
        self.begun.push_back(now);
    }

    /// When the window gives some budget back.
    #[must_use]
    pub fn poll_timeout(&self, now: Timestamp) -> Timestamp {
        let live = self.begun.iter().find(|at| !self.is_past(**at, now));
        live.map_or(Timestamp::MAX, |at| *at + self.policy.window)
    }

    fn recent(&self, now: Timestamp) -> usize {
        self.begun
            .iter()
            .filter(|at| !self.is_past(**at, now))
            .count()
    }

    fn is_past(&self, at: Timestamp, now: Timestamp) -> bool {
        now.since(at) >= self.policy.window
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_budget_returns_once_the_window_ends() {
        let mut budget = Budget::new(BudgetPolicy {
            concurrent: 1,
            per_window: 2,
            window: Duration::from_secs(10),
        });
        let at = |secs| Timestamp::ZERO + Duration::from_secs(secs);
        budget.handle_begin(at(0));
        assert!(!budget.allows(1, at(1)), "one runs");
        assert!(budget.allows(0, at(1)));
        budget.handle_begin(at(2));
        assert!(!budget.allows(0, at(3)), "two within the window");
        assert_eq!(budget.poll_timeout(at(3)), at(10));
        assert!(budget.allows(0, at(10)));
    }
}
