//! Scores against labels.

/// Area under the curve of precision by recall, in steps (average precision).
///
/// Equal scores count as one step. Zero without positives.
#[must_use]
pub fn average_precision(scores: &[f64], labels: &[bool]) -> f64 {
    let mut area = 0.0;
    let mut before = 0.0;
    let positives = labels.iter().filter(|label| **label).count() as f64;
    for step in steps(scores, labels) {
        let recall = step.hits / positives.max(1.0);
        area += (recall - before) * step.hits / (step.hits + step.false_alarms);
        before = recall;
    }
    area
}

/// Area under the curve of hits by false alarms: the chance that a positive outranks a negative.
#[must_use]
pub fn roc_area(scores: &[f64], labels: &[bool]) -> f64 {
    let positives = labels.iter().filter(|label| **label).count() as f64;
    let negatives = labels.len() as f64 - positives;
    let mut area = 0.0;
    let mut last = Step::default();
    for step in steps(scores, labels) {
        area += (step.false_alarms - last.false_alarms) * f64::midpoint(step.hits, last.hits);
        last = step;
    }
    area / (positives * negatives).max(1.0)
}

/// A threshold and what it does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Threshold {
    /// Alarm from this score on.
    pub score: f64,
    /// Share of the positives that it finds.
    pub recall: f64,
}

/// The greatest recall with at most `rate` of the negatives alarmed.
#[must_use]
pub fn recall_at_false_rate(scores: &[f64], labels: &[bool], rate: f64) -> Threshold {
    let positives = labels.iter().filter(|label| **label).count() as f64;
    let negatives = labels.len() as f64 - positives;
    let mut best = Threshold {
        score: f64::INFINITY,
        recall: 0.0,
    };
    for step in steps(scores, labels) {
        if step.false_alarms > rate * negatives {
            break;
        }
        best = Threshold {
            score: step.score,
            recall: step.hits / positives.max(1.0),
        };
    }
    best
}

/// Mean distance between what was said and what came, over `bins` of equally many samples.
#[must_use]
pub fn calibration_error(probabilities: &[f64], labels: &[bool], bins: usize) -> f64 {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    let size = labels.len().div_ceil(bins).max(1);
    let distances = order.chunks(size).map(|chunk| {
        let said: f64 = chunk.iter().map(|at| probabilities[*at]).sum();
        let came = chunk.iter().filter(|at| labels[**at]).count() as f64;
        (said - came).abs()
    });
    distances.sum::<f64>() / labels.len().max(1) as f64
}

/// Hits and false alarms if everything from `score` on is alarmed.
#[derive(Clone, Copy, Default)]
struct Step {
    score: f64,
    hits: f64,
    false_alarms: f64,
}

fn steps(scores: &[f64], labels: &[bool]) -> Vec<Step> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut steps: Vec<Step> = Vec::new();
    let mut sum = Step::default();
    for at in order {
        sum.score = scores[at];
        if labels[at] {
            sum.hits += 1.0;
        } else {
            sum.false_alarms += 1.0;
        }
        match steps.last_mut() {
            Some(last) if last.score == sum.score => *last = sum,
            _ => steps.push(sum),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f64; 4] = [0.1, 0.4, 0.35, 0.8];
    const LABELS: [bool; 4] = [false, false, true, true];

    #[test]
    fn areas_are_those_of_the_textbook() {
        // The example of scikit-learn's documentation.
        assert!((average_precision(&SCORES, &LABELS) - 0.833_333).abs() < 1e-5);
        assert!((roc_area(&SCORES, &LABELS) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn ties_count_half() {
        assert!((roc_area(&[0.5; 4], &LABELS) - 0.5).abs() < 1e-12);
        assert!((average_precision(&[0.5; 4], &LABELS) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_fixed_false_rate_is_never_exceeded() {
        let found = recall_at_false_rate(&SCORES, &LABELS, 0.01);
        assert_eq!((found.score, found.recall), (0.8, 0.5));
        assert_eq!(recall_at_false_rate(&[0.5; 4], &LABELS, 0.01).recall, 0.0);
    }

    #[test]
    fn honest_probabilities_have_no_error() {
        assert_eq!(calibration_error(&[0.5; 4], &LABELS, 1), 0.0);
        assert_eq!(calibration_error(&[1.0; 4], &LABELS, 1), 0.5);
    }
}
