//! From scores to probabilities.

/// A monotone step map from scores to probabilities, with straight lines between the steps.
///
/// Source: Zadrozny and Elkan 2002; pool-adjacent-violators, Ayer et al. 1955.
#[derive(Clone, PartialEq, Debug)]
pub struct Isotonic {
    pub(crate) knots: Vec<(f64, f64)>, // score, probability; both ascending
}

impl Isotonic {
    /// Fits probabilities to `labels` (0 or 1) by `scores`; NaN scores are left out.
    ///
    /// Each pool is drawn towards the overall share by one sample, so that no probability is
    /// exactly 0 or 1.
    #[must_use]
    pub fn fit(scores: &[f64], labels: &[f64]) -> Self {
        let mut pairs: Vec<(f64, f64)> =
            scores.iter().copied().zip(labels.iter().copied()).collect();
        pairs.retain(|(score, _)| !score.is_nan());
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let share = pairs.iter().map(|(_, label)| label).sum::<f64>() / pairs.len().max(1) as f64;
        let mut pools: Vec<Pool> = Vec::new();
        for (score, label) in pairs {
            match pools.last_mut() {
                Some(last) if last.to == score => last.take(label, 1.0),
                _ => pools.push(Pool::new(score, label)),
            }
            while let [.., before, last] = &pools[..]
                && before.mean() >= last.mean()
            {
                let merged = before.merged(last);
                pools.truncate(pools.len() - 2);
                pools.push(merged);
            }
        }
        let knots = pools.iter().map(|pool| {
            let middle = f64::midpoint(pool.from, pool.to);
            (middle, (pool.sum + share) / (pool.count + 1.0))
        });
        let mut knots: Vec<(f64, f64)> = knots.collect();
        let mut least = 0.0_f64;
        for (_, probability) in &mut knots {
            least = least.max(*probability);
            *probability = least;
        }
        Self { knots }
    }

    /// The probability at `score`; beyond the ends it is that of the end.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        let after = self.knots.partition_point(|(knot, _)| *knot < score);
        match (
            after.checked_sub(1).map(|at| self.knots[at]),
            self.knots.get(after),
        ) {
            (None, None) => 0.5,
            (Some((_, only)), None) | (None, Some(&(_, only))) => only,
            (Some(a), Some(b)) => a.1 + (score - a.0) / (b.0 - a.0) * (b.1 - a.1),
        }
    }
}

struct Pool {
    from: f64,
    to: f64,
    sum: f64,
    count: f64,
}

impl Pool {
    const fn new(score: f64, label: f64) -> Self {
        Self {
            from: score,
            to: score,
            sum: label,
            count: 1.0,
        }
    }

    fn take(&mut self, sum: f64, count: f64) {
        self.sum += sum;
        self.count += count;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count
    }

    fn merged(&self, next: &Self) -> Self {
        Self {
            from: self.from,
            to: next.to,
            sum: self.sum + next.sum,
            count: self.count + next.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Dice;

    #[test]
    fn probabilities_grow_with_the_score_and_mean_what_they_say() {
        let mut dice = Dice::new(2);
        let scores: Vec<f64> = (0..5000).map(|_| dice.unit()).collect();
        let labels: Vec<f64> = scores
            .iter()
            .map(|s| f64::from(dice.unit() < s * s))
            .collect();
        let map = Isotonic::fit(&scores, &labels);
        for at in 0..10 {
            let score = f64::from(at) / 10.0 + 0.05;
            assert!((map.probability(score) - score * score).abs() < 0.08);
            assert!(map.probability(score) <= map.probability(score + 0.05));
        }
    }

    #[test]
    fn nothing_learnt_says_one_half() {
        assert_eq!(Isotonic::fit(&[], &[]).probability(3.0), 0.5);
    }
}
