//! Risk of connections: guards against attacks, known and unseen.

use std::collections::BTreeSet;

use ndarray::{Array2, Axis, s};

use super::Rounds;
use super::flows::Flows;
use super::page::Plot;
use super::report::{Finding, Report};
use crate::learn::{
    BoostSettings, Boosted, Dice, Guard, GuardSettings, IsolationForest, Logistic, Standardizer,
};
use crate::measure::{average_precision, calibration_error, recall_at_false_rate, roc_area};

/// Figures to reach.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Targets {
    pub(super) at_1_percent: Option<f64>,
    pub(super) at_0_1_percent: Option<f64>,
    pub(super) unseen: Option<f64>,
    /// All kinds of attack are known: strangeness only costs.
    pub(super) all_known: bool,
}

/// Trains on `train`, scores `test`.
pub(super) fn evaluate(
    task: &str,
    train: &Flows,
    test: &Flows,
    targets: Targets,
    rounds: &Rounds,
) -> Report {
    let known: BTreeSet<&String> = train.kind.iter().collect();
    let unseen = test.rows(|at| !test.attack[at] || !known.contains(&test.kind[at]));
    let has_unseen = unseen.iter().any(|at| test.attack[*at]);
    let sides = Sides { test, unseen };
    let mut runs: Vec<Measured> = Vec::new();
    let mut report = Report::new(task);
    for seed in rounds.each("connections") {
        let guard = fit(train, targets.all_known, seed);
        let scores: Vec<f64> = test
            .x
            .rows()
            .into_iter()
            .map(|row| guard.score(row))
            .collect();
        let said: Vec<f64> = scores
            .iter()
            .map(|score| guard.calibration.probability(*score))
            .collect();
        if report.plots.is_empty() {
            report
                .plots
                .push(Plot::precision_recall(&scores, &test.attack));
            report.plots.push(Plot::calibration(&said, &test.attack));
        }
        runs.push(Measured {
            calibration: calibration_error(&said, &test.attack, 15),
            ..sides.measure(&scores)
        });
    }
    let baselines: Vec<(&'static str, Measured)> = baselines(train, test, rounds.seeds[0])
        .into_iter()
        .map(|(name, scores)| (name, sides.measure(&scores)))
        .collect();
    let finding = |metric: &str, pick: fn(&Measured) -> f64, target: Option<f64>| {
        let values: Vec<f64> = runs.iter().map(pick).collect();
        let beside: Vec<(&'static str, f64)> =
            baselines.iter().map(|(name, m)| (*name, pick(m))).collect();
        Finding {
            target,
            ..Finding::more(metric, &values).beside(&beside)
        }
    };
    report.findings.push(finding(
        "TPR at FPR 1 %",
        |m| m.at_1_percent,
        targets.at_1_percent,
    ));
    report.findings.push(finding(
        "TPR at FPR 0.1 %",
        |m| m.at_0_1_percent,
        targets.at_0_1_percent,
    ));
    if has_unseen {
        report.findings.push(finding(
            "recall of unseen attacks at FPR 1 %",
            |m| m.unseen,
            targets.unseen,
        ));
    }
    report.findings.push(finding("AUC-ROC", |m| m.roc, None));
    report
        .findings
        .push(finding("AUC-PR", |m| m.precision, None));
    let errors: Vec<f64> = runs.iter().map(|m| m.calibration).collect();
    report
        .findings
        .push(Finding::less("calibration error", &errors).reach(CALIBRATED));
    report
}

/// The guard of one seed; a fifth of the groups calibrates.
pub(super) fn fit(train: &Flows, all_known: bool, seed: u64) -> Guard {
    let mut dice = Dice::new(seed ^ 0xca11);
    let groups: BTreeSet<usize> = train.group.iter().copied().collect();
    let held: BTreeSet<usize> = groups.into_iter().filter(|_| dice.unit() < 0.2).collect();
    let held: Vec<bool> = train
        .group
        .iter()
        .map(|group| held.contains(group))
        .collect();
    let mut settings = GuardSettings::default();
    settings.trees.seed = seed;
    settings.weight = if all_known { 0.0 } else { 1.0 };
    Guard::fit(train.x.view(), &train.attack, &held, &settings)
}

struct Sides<'a> {
    test: &'a Flows,
    unseen: Vec<usize>, // benign and attacks of kinds that training lacks
}

#[derive(Clone, Copy, Default)]
struct Measured {
    at_1_percent: f64,
    at_0_1_percent: f64,
    unseen: f64,
    roc: f64,
    precision: f64,
    calibration: f64,
}

impl Sides<'_> {
    fn measure(&self, scores: &[f64]) -> Measured {
        let labels = &self.test.attack;
        let some: Vec<f64> = self.unseen.iter().map(|&at| scores[at]).collect();
        let some_labels: Vec<bool> = self.unseen.iter().map(|&at| labels[at]).collect();
        Measured {
            at_1_percent: recall_at_false_rate(scores, labels, 0.01).recall,
            at_0_1_percent: recall_at_false_rate(scores, labels, 0.001).recall,
            unseen: recall_at_false_rate(&some, &some_labels, 0.01).recall,
            roc: roc_area(scores, labels),
            precision: average_precision(scores, labels),
            calibration: 0.0,
        }
    }
}

/// Scores of the plain methods that the data sets come with.
fn baselines(train: &Flows, test: &Flows, seed: u64) -> Vec<(&'static str, Vec<f64>)> {
    // Plain methods see the columns of the table, not what was made of several rows.
    let plain = |flows: &Flows| flows.x.slice(s![.., ..flows.plain]).to_owned();
    let (train_x, test_x) = (plain(train), plain(test));
    let y: Vec<f64> = train
        .attack
        .iter()
        .map(|attack| f64::from(*attack))
        .collect();
    let settings = BoostSettings {
        seed,
        ..BoostSettings::default()
    };
    let boosted = Boosted::fit(train_x.view(), &y, None, &settings);
    let logs = |x: &Array2<f64>| x.mapv(|value| value.abs().ln_1p());
    let scale = Standardizer::fit(logs(&train_x).view());
    let (near, far) = (
        scale.apply(logs(&train_x).view()),
        scale.apply(logs(&test_x).view()),
    );
    let logistic = Logistic::fit(near.view(), &y, 1.0);
    let benign = near.select(Axis(0), &train.rows(|at| !train.attack[at]));
    let forest = IsolationForest::fit(benign.view(), 200, 256, seed);
    vec![
        ("boosting", boosted.scores(test_x.view())),
        ("logistic", logistic.scores(far.view())),
        (
            "isolation forest",
            far.rows()
                .into_iter()
                .map(|row| forest.score(row))
                .collect(),
        ),
    ]
}

/// Splits one folder inside: a fifth of the groups, or of the kinds of attack if `by_kind`.
pub(super) fn split(flows: &Flows, by_kind: bool, seed: u64) -> (Flows, Flows) {
    let mut dice = Dice::new(seed ^ 0x5b11);
    let groups: BTreeSet<usize> = flows.group.iter().copied().collect();
    let far: BTreeSet<usize> = groups.into_iter().filter(|_| dice.unit() < 0.3).collect();
    let kinds: BTreeSet<&String> = (0..flows.kind.len())
        .filter(|at| flows.attack[*at])
        .map(|at| &flows.kind[at])
        .collect();
    let hidden: BTreeSet<&String> = kinds
        .into_iter()
        .enumerate()
        .filter(|(at, _)| by_kind && at % 3 == 1)
        .map(|(_, kind)| kind)
        .collect();
    let is_far = |at: usize| far.contains(&flows.group[at]) || hidden.contains(&flows.kind[at]);
    (
        flows.select(&flows.rows(|at| !is_far(at))),
        flows.select(&flows.rows(is_far)),
    )
}

const CALIBRATED: f64 = 0.02;
