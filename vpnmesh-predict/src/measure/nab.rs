//! The score of the Numenta Anomaly Benchmark, standard profile.

use std::ops::Range;

/// Scores of one file and its labelled windows.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// Anomaly score of each row.
    pub scores: Vec<f64>,
    /// Labelled windows, in rows, ascending.
    pub windows: Vec<Range<usize>>,
}

/// The best threshold over all files and its score.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NabScore {
    /// Rows from this score on are detections.
    pub threshold: f64,
    /// 100 is perfect, 0 is silence.
    pub score: f64,
}

impl NabScore {
    /// The score of `files` at one `threshold`.
    ///
    /// Source: Lavin and Ahmad 2015.
    #[must_use]
    pub fn at(files: &[Series], threshold: f64) -> f64 {
        let windows: usize = files.iter().map(|file| file.windows.len()).sum();
        let sum: f64 = files.iter().map(|file| file.points(threshold)).sum();
        100.0 * (sum + windows as f64) / (2.0 * windows as f64).max(1.0)
    }

    /// The threshold that scores best on `files`.
    #[must_use]
    pub fn best(files: &[Series]) -> Self {
        let mut scores: Vec<f64> = files
            .iter()
            .flat_map(|file| file.scored().map(|(_, score)| score))
            .collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores.dedup();
        // Few detections score best: look closely there, ever more coarsely further on.
        let next = |at: &usize| Some(at + 1 + at / 40).filter(|at| *at < scores.len().min(50_000));
        let tried = std::iter::successors(Some(0).filter(|_| !scores.is_empty()), next);
        let rated = tried.map(|at| Self {
            threshold: scores[at],
            score: Self::at(files, scores[at]),
        });
        let silent = Self {
            threshold: f64::INFINITY,
            score: 0.0,
        };
        rated.fold(
            silent,
            |best, next| if next.score > best.score { next } else { best },
        )
    }
}

impl Series {
    /// Rows behind the probation.
    fn scored(&self) -> impl Iterator<Item = (usize, f64)> {
        let rows = self.scores.len();
        let probation = ((0.15 * rows as f64) as usize).min(750);
        self.scores.iter().copied().enumerate().skip(probation)
    }

    fn points(&self, threshold: f64) -> f64 {
        let mut best = vec![-1.0_f64; self.windows.len()];
        let mut outside = 0.0;
        for (row, _) in self.scored().filter(|(_, score)| *score >= threshold) {
            match self.windows.iter().position(|window| window.contains(&row)) {
                Some(at) => {
                    let window = &self.windows[at];
                    let along = (window.end - 1 - row) as f64 / (window.len() as f64);
                    best[at] = best[at].max(weight(-along) / weight(-1.0));
                }
                None => outside += FALSE_COST * self.behind(row),
            }
        }
        best.iter().sum::<f64>() + outside
    }

    /// Weight of a detection outside, by its distance behind the last window.
    fn behind(&self, row: usize) -> f64 {
        let last = self.windows.iter().rfind(|window| window.end <= row);
        last.map_or(-1.0, |window| {
            let width = window.len() as f64;
            let along = (row - (window.end - 1)) as f64 / (width - 1.0).max(1.0);
            if along > 3.0 { -1.0 } else { weight(along) }
        })
    }
}

/// 1 at the far left of a window, 0 at its right edge, towards −1 behind.
fn weight(along: f64) -> f64 {
    2.0 / (1.0 + (5.0 * along).exp()) - 1.0
}

const FALSE_COST: f64 = 0.11; // standard profile

#[cfg(test)]
mod tests {
    use super::*;

    fn file(alarms: &[usize]) -> Series {
        let mut scores = vec![0.0; 1000];
        alarms.iter().for_each(|at| scores[*at] = 1.0);
        Series {
            scores,
            windows: std::iter::once(400..500).collect(),
        }
    }

    #[test]
    fn the_earliest_detection_scores_full_and_silence_nothing() {
        assert!((NabScore::at(&[file(&[400])], 1.0) - 100.0).abs() < 0.1);
        assert!(NabScore::at(&[file(&[])], 1.0).abs() < 1e-9);
    }

    #[test]
    fn false_alarms_cost_and_probation_is_free() {
        let with_false = NabScore::at(&[file(&[400, 900])], 1.0);
        assert!((with_false - 94.5).abs() < 0.2, "{with_false}");
        assert!((NabScore::at(&[file(&[10, 400])], 1.0) - 100.0).abs() < 0.1);
    }
}
