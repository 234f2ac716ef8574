//! How long until this one fails: remaining cycles of engines, failures of disks.

use std::collections::BTreeSet;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, concatenate, s};

use super::Rounds;
use super::disks::{self, Disk, Landmarks};
use super::engines::Unit;
use super::page::Plot;
use super::report::{Finding, Report};
use crate::Error;
use crate::learn::{
    BoostSettings, Boosted, Dice, Isotonic, Logistic, Objective, Reader, Ridge, Standardizer,
    Weights, Writer,
};
use crate::measure::{
    average_precision, calibration_error, mean_and_spread, phm_score, recall_at_false_rate, rmse,
    roc_area,
};

/// Remaining cycles, capped, by boosted trees over levels and slopes of many windows.
pub(super) fn engines(train: &[Unit], test: &[Unit], rounds: &Rounds) -> Report {
    let truth: Vec<f64> = test.iter().map(|unit| unit.left.min(CAP)).collect();
    let usual = Usual::of(train);
    let (x, y) = usual.table(train);
    let far = usual.ends(test);
    let (mut errors, mut costs) = (Vec::new(), Vec::new());
    for seed in rounds.each("engines") {
        let mut said = fit_engines(&x, &y, seed).scores(far.view());
        said.iter_mut()
            .for_each(|value| *value = value.clamp(0.0, CAP));
        errors.push(rmse(&said, &truth));
        costs.push(phm_score(&said, &truth));
    }
    let mut plain: Vec<(&'static str, Vec<f64>)> = Vec::new();
    let (mean, _) = mean_and_spread(&y);
    plain.push(("train mean", vec![mean; test.len()]));
    let scale = Standardizer::fit(x.view());
    let ridge = Ridge::fit(scale.apply(x.view()).view(), &y, None, 100.0);
    let rows = scale.apply(far.view());
    plain.push((
        "ridge",
        rows.rows()
            .into_iter()
            .map(|row| ridge.value(row).clamp(0.0, CAP))
            .collect(),
    ));
    let few = BoostSettings {
        objective: Objective::Squared,
        ..BoostSettings::default()
    };
    let levels = usual.levels_only(&x);
    let trees = Boosted::fit(levels.view(), &y, None, &few);
    plain.push((
        "boosting, levels",
        trees.scores(usual.levels_only(&far).view()),
    ));
    let beside = |measure: fn(&[f64], &[f64]) -> f64| -> Vec<(&'static str, f64)> {
        plain
            .iter()
            .map(|(name, said)| (*name, measure(said, &truth)))
            .collect()
    };
    let mut report = Report::new("cmapss");
    report.findings.push(
        Finding::less("RMSE", &errors)
            .beside(&beside(rmse))
            .reach(12.0),
    );
    report
        .findings
        .push(Finding::less("PHM08 score", &costs).beside(&beside(phm_score)));
    report
}

/// Trees over all cuts of `train`.
pub(super) fn train_engines(train: &[Unit], seed: u64) -> Judged {
    let (x, y) = Usual::of(train).table(train);
    fit_engines(&x, &y, seed)
}

fn fit_engines(x: &Array2<f64>, y: &[f64], seed: u64) -> Judged {
    let parts = (0..3).map(|part| {
        let settings = BoostSettings {
            objective: Objective::Squared,
            trees: 400,
            leaves: 15,
            rate: 0.03,
            feature_share: 0.3,
            row_share: 0.5,
            min_rows: 40,
            seed: seed * 16 + part,
            ..BoostSettings::default()
        };
        Boosted::fit(x.view(), y, None, &settings)
    });
    Judged {
        parts: parts.collect(),
        calibration: Isotonic::fit(&[], &[]),
    }
}

/// Mean and deviation of each sensor over the training units.
struct Usual {
    mean: Array1<f64>,
    scale: Array1<f64>,
}

impl Usual {
    fn of(units: &[Unit]) -> Self {
        let all: Vec<ArrayView2<'_, f64>> = units.iter().map(|unit| unit.readings.view()).collect();
        let all = concatenate(Axis(0), &all).unwrap_or_default();
        let scale = Standardizer::fit(all.view());
        Self {
            mean: scale.mean,
            scale: scale.scale,
        }
    }

    /// All cuts of all units, and the cycles left.
    fn table(&self, units: &[Unit]) -> (Array2<f64>, Vec<f64>) {
        let (mut flat, mut y, mut row) = (Vec::new(), Vec::new(), Vec::new());
        for unit in units {
            let rows = unit.readings.nrows();
            for n in LEAST.min(rows)..=rows {
                self.features(unit.readings.slice(s![..n, ..]), &mut row);
                flat.extend(&row);
                y.push((unit.left + (rows - n) as f64).min(CAP));
            }
        }
        (
            Array2::from_shape_vec((y.len(), row.len()), flat).unwrap_or_default(),
            y,
        )
    }

    fn ends(&self, units: &[Unit]) -> Array2<f64> {
        let (mut flat, mut row) = (Vec::new(), Vec::new());
        for unit in units {
            self.features(unit.readings.view(), &mut row);
            flat.extend(&row);
        }
        Array2::from_shape_vec((units.len(), row.len()), flat).unwrap_or_default()
    }

    /// Cycles run; per sensor means of four windows, the way since the start, slopes of two windows.
    fn features(&self, readings: ArrayView2<'_, f64>, out: &mut Vec<f64>) {
        out.clear();
        let n = readings.nrows();
        out.push(n as f64);
        for (sensor, column) in readings.columns().into_iter().enumerate() {
            let z = |at: usize| (column[at] - self.mean[sensor]) / self.scale[sensor];
            let mean = |k: usize| (n - k.min(n)..n).map(z).sum::<f64>() / k.min(n) as f64;
            out.extend([mean(1), mean(5), mean(15), mean(30)]);
            let first = (0..10.min(n)).map(z).sum::<f64>() / 10.min(n) as f64;
            out.push(mean(15) - first);
            for k in [20, 50] {
                let k = k.min(n);
                let middle = (k as f64 - 1.0) / 2.0;
                let (mut along, mut square) = (0.0, 0.0);
                for at in 0..k {
                    let off = at as f64 - middle;
                    along += off * z(n - k + at);
                    square += off * off;
                }
                out.push(along / f64::max(square, 1.0) * 30.0);
            }
        }
    }

    /// Values and means only, without the age: what plain methods see.
    fn levels_only(&self, x: &Array2<f64>) -> Array2<f64> {
        let columns: Vec<usize> = (0..self.mean.len())
            .flat_map(|at| [1 + at * 7, 3 + at * 7, 4 + at * 7])
            .collect();
        x.select(Axis(1), &columns)
    }
}

/// Failures of disks within 30 days.
pub(super) fn disks(train: &[Disk], test: &[Disk], rounds: &Rounds) -> Report {
    let far = disks::landmarks(test, |_, disk| disk.landmarks(disks::HORIZON, 0.0));
    let mut runs = Vec::new();
    for seed in rounds.each("disks") {
        let judged = train_disks(train, seed);
        let scores = judged.scores(far.x.view());
        let said: Vec<f64> = scores
            .iter()
            .map(|score| judged.calibration.probability(*score))
            .collect();
        runs.push((scores, said));
    }
    let plain = disk_baselines(train, &far);
    let mut report = Report::new("backblaze");
    type Measure = fn(&[f64], &[bool]) -> f64;
    let measures: [(&str, Measure, Option<f64>); 4] = [
        ("AUC-PR", average_precision, Some(0.30)),
        (
            "recall at FAR 0.1 %",
            |s, l| recall_at_false_rate(s, l, 0.001).recall,
            Some(0.28),
        ),
        (
            "recall at FAR 1 %",
            |s, l| recall_at_false_rate(s, l, 0.01).recall,
            Some(0.60),
        ),
        ("AUC-ROC", roc_area, None),
    ];
    for (name, measure, target) in measures {
        let values: Vec<f64> = runs
            .iter()
            .map(|(scores, _)| measure(scores, &far.fails))
            .collect();
        let beside: Vec<(&'static str, f64)> = plain
            .iter()
            .map(|(name, scores)| (*name, measure(scores, &far.fails)))
            .collect();
        report.findings.push(Finding {
            target,
            ..Finding::more(name, &values).beside(&beside)
        });
    }
    report
        .plots
        .push(Plot::precision_recall(&runs[0].0, &far.fails));
    report.plots.push(Plot::calibration(&runs[0].1, &far.fails));
    let errors: Vec<f64> = runs
        .iter()
        .map(|(_, said)| calibration_error(said, &far.fails, 15))
        .collect();
    report
        .findings
        .push(Finding::less("calibration error", &errors).reach(0.02));
    for (rate, name) in [
        (0.001, "drives caught at FAR 0.1 %"),
        (0.01, "drives caught at FAR 1 %"),
    ] {
        let caught: Vec<f64> = runs
            .iter()
            .map(|(scores, _)| caught(test, &far, scores, rate))
            .collect();
        report.findings.push(Finding::more(name, &caught));
    }
    report
}

/// Trees over the months of `train`, with what their scores mean.
pub(super) fn train_disks(train: &[Disk], seed: u64) -> Judged {
    let mut dice = Dice::new(seed ^ 0xd15c);
    let calibrates: BTreeSet<usize> = (0..train.len()).filter(|_| dice.unit() < 0.15).collect();
    let near = disks::landmarks(train, |index, disk| {
        if calibrates.contains(&index) {
            return Vec::new();
        }
        let mut hours = disk.landmarks(disks::HORIZON, 0.0);
        if disk.failed {
            // The months of a failed disk from other days too: five times as many examples.
            (1..5).for_each(|part| {
                hours.extend(disk.landmarks(disks::HORIZON, 144.0 * f64::from(part)))
            });
        }
        hours.retain(|hour| disk.fails_after(*hour) || dice.unit() < NEGATIVES);
        hours
    });
    let y: Vec<f64> = near.fails.iter().map(|fails| f64::from(*fails)).collect();
    let weight: Vec<f64> = near
        .fails
        .iter()
        .map(|fails| if *fails { 0.2 } else { 1.0 / NEGATIVES })
        .collect();
    let trees = (0..2).map(|part| {
        let settings = BoostSettings {
            trees: 300,
            rate: 0.03,
            min_rows: 60,
            feature_share: 0.3,
            row_share: 0.7,
            l2: 5.0,
            seed: seed * 16 + part,
            ..BoostSettings::default()
        };
        Boosted::fit(near.x.view(), &y, Some(&weight), &settings)
    });
    let kept = disks::landmarks(train, |index, disk| {
        if calibrates.contains(&index) {
            disk.landmarks(disks::HORIZON, 0.0)
        } else {
            Vec::new()
        }
    });
    let labels: Vec<f64> = kept.fails.iter().map(|fails| f64::from(*fails)).collect();
    let mut judged = Judged {
        parts: trees.collect(),
        calibration: Isotonic::fit(&[], &[]),
    };
    judged.calibration = Isotonic::fit(&judged.scores(kept.x.view()), &labels);
    judged
}

/// The mean of several sets of trees, and what it means.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Judged {
    parts: Vec<Boosted>,
    calibration: Isotonic,
}

impl Judged {
    fn scores(&self, x: ArrayView2<'_, f64>) -> Vec<f64> {
        let mut sum = vec![0.0; x.nrows()];
        for part in &self.parts {
            let share = 1.0 / self.parts.len() as f64;
            sum.iter_mut()
                .zip(part.scores(x))
                .for_each(|(sum, score)| *sum += share * score);
        }
        sum
    }
}

impl Weights for Judged {
    const KIND: u16 = 6;

    fn write(&self, out: &mut Writer) {
        out.count(self.parts.len());
        self.parts.iter().for_each(|part| part.write(out));
        self.calibration.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        let count = from.count(1)?;
        let parts = (0..count)
            .map(|_| Boosted::read(from))
            .collect::<Result<Vec<Boosted>, Error>>()?;
        Ok(Self {
            parts,
            calibration: Isotonic::read(from)?,
        })
    }
}

/// The rule that Backblaze published, and plain models on logs and their change over 30 days.
fn disk_baselines(train: &[Disk], far: &Landmarks) -> Vec<(&'static str, Vec<f64>)> {
    let mut dice = Dice::new(77);
    let near = disks::landmarks(train, |_, disk| {
        let mut hours = disk.landmarks(disks::HORIZON, 0.0);
        hours.retain(|hour| disk.fails_after(*hour) || dice.unit() < NEGATIVES);
        hours
    });
    let y: Vec<f64> = near.fails.iter().map(|fails| f64::from(*fails)).collect();
    let weight: Vec<f64> = near
        .fails
        .iter()
        .map(|fails| if *fails { 1.0 } else { 1.0 / NEGATIVES })
        .collect();
    // Attributes sit behind four columns, the changes over 30 days at the third of nine per attribute.
    let plain: Vec<usize> = (4..11).chain((0..7).map(|at| 15 + at * 9 + 2)).collect();
    let logs = |x: &Array2<f64>| {
        x.select(Axis(1), &plain).mapv(|value| {
            if value.is_nan() {
                0.0
            } else {
                value.signum() * value.abs().ln_1p()
            }
        })
    };
    let scale = Standardizer::fit(logs(&near.x).view());
    let logistic = Logistic::fit(scale.apply(logs(&near.x).view()).view(), &y, 1.0);
    let trees = Boosted::fit(
        logs(&near.x).view(),
        &y,
        Some(&weight),
        &BoostSettings {
            trees: 150,
            ..BoostSettings::default()
        },
    );
    let signs = |row: ArrayView1<'_, f64>| {
        [4, 6, 7, 9, 10].iter().filter(|&&at| row[at] > 0.0).count() as f64
    };
    vec![
        (
            "five SMART signs",
            far.x.rows().into_iter().map(signs).collect(),
        ),
        (
            "logistic",
            logistic.scores(scale.apply(logs(&far.x).view()).view()),
        ),
        ("boosting, plain", trees.scores(logs(&far.x).view())),
    ]
}

/// Share of the failed disks with an alarm within their last 90 days.
fn caught(disks: &[Disk], far: &Landmarks, scores: &[f64], rate: f64) -> f64 {
    let from = recall_at_false_rate(scores, &far.fails, rate).score;
    let late = |at: &usize| {
        disks[far.disk[*at]].failed && disks[far.disk[*at]].left(far.at[*at]) <= 2160.0
    };
    let alarmed = (0..scores.len())
        .filter(|at| scores[*at] >= from)
        .filter(late);
    let found: BTreeSet<usize> = alarmed.map(|at| far.disk[at]).collect();
    found.len() as f64 / disks.iter().filter(|disk| disk.failed).count().max(1) as f64
}

const CAP: f64 = 125.0; // the protocol's
const LEAST: usize = 15; // cycles that must be known
const NEGATIVES: f64 = 0.25; // share of healthy months that is trained on
