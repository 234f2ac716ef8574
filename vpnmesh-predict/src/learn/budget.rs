//! A threshold without labels: so many alarms a row, and no more.

use std::collections::VecDeque;

/// Says of each score whether it is an alarm, at a threshold that follows the scores.
///
/// The threshold is the lowest of which all higher ones would have raised at most the allowed
/// number of alarms over the scores of late. A machine that became restless raises its own
/// threshold, so it cannot spend more than its budget for long.
#[derive(Clone, Debug)]
pub struct Budget {
    recent: VecDeque<f64>, // at most `window`
    window: usize,
    gap: usize,
    per_row: f64,
    threshold: f64,
    every: usize,
    due: usize, // scores until the threshold is set anew
}

impl Budget {
    /// Allows `per_row` alarms a row over the last `window` rows; rows on alarm that are apart by
    /// at most `gap` are one alarm. The threshold is set anew `every` rows.
    #[must_use]
    pub fn new(per_row: f64, window: usize, gap: usize, every: usize) -> Self {
        Self {
            recent: VecDeque::new(),
            window: window.max(1),
            gap,
            per_row,
            threshold: f64::INFINITY,
            every: every.max(1),
            due: 0,
        }
    }

    /// Takes in a score without judging it.
    pub fn learn(&mut self, score: f64) {
        if self.recent.len() == self.window {
            self.recent.pop_front();
        }
        self.recent.push_back(score);
    }

    /// Whether `score` is an alarm, by what came before it; then takes it in.
    pub fn judge(&mut self, score: f64) -> bool {
        if self.due == 0 {
            self.threshold = self.settle();
            self.due = self.every;
        }
        self.due -= 1;
        self.learn(score);
        score > self.threshold
    }

    fn settle(&self) -> f64 {
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let allowed = self.per_row * sorted.len() as f64;
        ranks(sorted.len() / 4)
            .map(|rank| sorted[rank])
            .take_while(|threshold| self.alarms(*threshold) as f64 <= allowed)
            .last()
            .unwrap_or(f64::INFINITY)
    }

    /// How many alarms the recent scores would have raised.
    fn alarms(&self, threshold: f64) -> usize {
        let mut last: Option<usize> = None;
        let mut count = 0;
        for (at, _) in self
            .recent
            .iter()
            .enumerate()
            .filter(|(_, s)| **s > threshold)
        {
            count += usize::from(last.is_none_or(|last| at - last - 1 > self.gap));
            last = Some(at);
        }
        count
    }
}

/// Some ranks below `end`, ever wider apart.
fn ranks(end: usize) -> impl Iterator<Item = usize> {
    let next = |rank: &usize| Some(rank + 1 + rank / 8);
    std::iter::successors(Some(0), next).take_while(move |rank| *rank < end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Dice;

    fn alarms(budget: &mut Budget, scores: impl Iterator<Item = f64>) -> usize {
        scores.filter(|score| budget.judge(*score)).count()
    }

    #[test]
    fn alarms_stay_near_what_is_allowed_even_if_the_scores_grow() {
        let mut dice = Dice::new(1);
        let mut budget = Budget::new(0.01, 5000, 0, 100);
        (0..5000).for_each(|_| budget.learn(dice.normal()));
        let calm = alarms(&mut budget, (0..5000).map(|_| dice.normal()));
        let restless = alarms(&mut budget, (0..5000).map(|_| 3.0 * dice.normal()));
        let settled = alarms(&mut budget, (0..5000).map(|_| 3.0 * dice.normal()));
        assert!((30..70).contains(&calm), "{calm}");
        assert!(restless > 2 * calm, "{restless} {calm}");
        assert!((30..70).contains(&settled), "{settled}");
    }

    #[test]
    fn a_long_alarm_is_one_and_without_a_past_there_is_none() {
        let mut budget = Budget::new(0.1, 100, 2, 10);
        assert!(!budget.judge(5.0));
        for at in 0..100 {
            budget.learn(f64::from(u8::from((40..60).contains(&at) && at % 3 == 0)));
        }
        assert_eq!(budget.alarms(0.5), 1);
    }
}
