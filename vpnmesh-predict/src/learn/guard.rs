//! A border around what is benign: known attacks and made-up strangers on its other side.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, concatenate};

use super::{BoostSettings, Boosted, Dice, Isotonic};

/// Scores connections: known attacks high, and also what is merely unlike anything benign.
///
/// Boosted trees tell benign rows from known attacks *and* from strangers: rows put together from
/// the values of different benign rows, some stretched beyond the known range. What holds between
/// features of benign traffic is so learnt even where no attack of the training data breaks it.
///
/// Source: Hastie, Tibshirani and Friedman 2009, section 14.2.4 (density by classification).
#[derive(Clone, PartialEq, Debug)]
pub struct Guard {
    pub(crate) known: Boosted,
    pub(crate) strange: Boosted,
    pub(crate) weight: f64, // of strangeness
    pub(crate) calibration: Isotonic,
}

/// How a guard is trained.
#[derive(Clone, Debug)]
pub struct GuardSettings {
    /// The trees.
    pub trees: BoostSettings,
    /// Strangers for each row of training data.
    pub strangers: f64,
    /// What strangeness counts against likeness to known attacks: 1 where kinds are to be expected
    /// that training never saw, 0 where all are known, as odd benign traffic costs false alarms.
    pub weight: f64,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            trees: BoostSettings {
                trees: 150,
                rate: 0.08,
                ..BoostSettings::default()
            },
            strangers: 1.0,
            weight: 1.0,
        }
    }
}

impl Guard {
    /// Fits a guard to `x`, shape `[connection, feature]`.
    ///
    /// What its scores mean is learnt from a first guard that never saw the rows in `held`; then all
    /// rows are used.
    #[must_use]
    pub fn fit(
        x: ArrayView2<'_, f64>,
        attack: &[bool],
        held: &[bool],
        settings: &GuardSettings,
    ) -> Self {
        let rows = |wanted: bool| (0..attack.len()).filter(|&at| held[at] == wanted).collect();
        let (used, kept): (Vec<usize>, Vec<usize>) = (rows(false), rows(true));
        let first = Self::fit_scores(
            x.select(Axis(0), &used).view(),
            &pick(attack, &used),
            settings,
        );
        let scores: Vec<f64> = kept.iter().map(|&at| first.score(x.row(at))).collect();
        let labels: Vec<f64> = kept.iter().map(|&at| f64::from(attack[at])).collect();
        Self {
            calibration: Isotonic::fit(&scores, &labels),
            ..Self::fit_scores(x, attack, settings)
        }
    }

    fn fit_scores(x: ArrayView2<'_, f64>, attack: &[bool], settings: &GuardSettings) -> Self {
        let y: Vec<f64> = attack.iter().map(|attack| f64::from(*attack)).collect();
        let known = Boosted::fit(x, &y, None, &settings.trees);
        Self {
            known,
            strange: fit_strange(x, y, settings),
            weight: settings.weight,
            calibration: Isotonic::fit(&[], &[]),
        }
    }

    /// Log-odds of trouble; the greater, the likelier an attack or a stranger.
    #[must_use]
    pub fn score(&self, row: ArrayView1<'_, f64>) -> f64 {
        let [known, strange] = self.parts(row);
        known + self.weight * strange
    }

    /// How much it looks like a known attack, and how little like benign traffic: log-odds.
    #[must_use]
    pub fn parts(&self, row: ArrayView1<'_, f64>) -> [f64; 2] {
        [self.known.score(row), self.strange.score(row)]
    }

    /// The chance that the row is an attack, among traffic like that of the calibration.
    #[must_use]
    pub fn probability(&self, row: ArrayView1<'_, f64>) -> f64 {
        self.calibration.probability(self.score(row))
    }
}

/// Benign rows against attacks and strangers; no trees where strangeness does not count.
fn fit_strange(x: ArrayView2<'_, f64>, mut far: Vec<f64>, settings: &GuardSettings) -> Boosted {
    let mut trees = settings.trees.clone();
    if settings.weight == 0.0 {
        trees.trees = 0;
        return Boosted::fit(x, &far, None, &trees);
    }
    let benign: Vec<usize> = (0..far.len()).filter(|at| far[*at] < 0.5).collect();
    let benign = x.select(Axis(0), &benign);
    let count = (far.len() as f64 * settings.strangers) as usize;
    let made = strangers(benign.view(), count, trees.seed ^ 0x57a6);
    let Ok(all) = concatenate(Axis(0), &[x, made.view()]) else {
        return Boosted::fit(x, &far, None, &trees);
    };
    far.resize(all.nrows(), 1.0);
    Boosted::fit(all.view(), &far, None, &trees)
}

/// Rows with the values of benign rows, but not together.
fn strangers(benign: ArrayView2<'_, f64>, count: usize, seed: u64) -> Array2<f64> {
    let mut dice = Dice::new(seed);
    let mut made = Array2::zeros((count, benign.ncols()));
    for mut row in made.rows_mut() {
        let base = dice.below(benign.nrows());
        let share = if dice.unit() < 0.5 { 1.0 } else { dice.unit() };
        for (column, value) in row.iter_mut().enumerate() {
            let from = if dice.unit() < share {
                dice.below(benign.nrows())
            } else {
                base
            };
            *value = benign[(from, column)];
            if dice.unit() < STRETCHED {
                *value *= 10.0_f64.powf(3.0 * dice.unit());
            }
        }
    }
    made
}

fn pick(of: &[bool], at: &[usize]) -> Vec<bool> {
    at.iter().map(|&at| of[at]).collect()
}

const STRETCHED: f64 = 0.02; // taste: about every other stranger of 30 features leaves the range

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn an_attack_of_another_kind_stands_out() {
        // Benign: both features equal. The known attack has both high; the unseen one breaks the tie.
        let mut dice = Dice::new(1);
        let attack: Vec<bool> = (0..2000).map(|at| at % 4 == 0).collect();
        let mut x = Array2::zeros((2000, 2));
        for (mut row, attack) in x.rows_mut().into_iter().zip(&attack) {
            let both = dice.unit() + f64::from(*attack) * 2.0;
            row[0] = both;
            row[1] = both + dice.normal() * 0.01;
        }
        let held: Vec<bool> = (0..2000).map(|at| at % 5 == 0).collect();
        let settings = GuardSettings {
            trees: BoostSettings {
                trees: 60,
                rate: 0.1,
                ..BoostSettings::default()
            },
            ..GuardSettings::default()
        };
        let guard = Guard::fit(x.view(), &attack, &held, &settings);
        let benign = guard.score(array![0.5, 0.5].view());
        assert!(guard.score(array![0.9, 0.1].view()) > benign + 1.0);
        assert!(guard.probability(array![2.5, 2.5].view()) > 0.9);
        assert!(guard.probability(array![0.5, 0.5].view()) < 0.1);
    }
}
