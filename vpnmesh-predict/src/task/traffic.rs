//! Demand of pairs of sites: what will it be in `h` steps?

use std::path::Path;

use ndarray::{Array2, Array3, s};

use super::Rounds;
use super::report::{Finding, Report};
use super::series::{self, Demand};
use crate::Error;
use crate::learn::{
    BoostSettings, Boosted, Dice, Ensemble, Gru, GruSettings, Objective, Ridge, RunningRidge,
};
use crate::measure::Errors;
use crate::store;

/// Series, where the part to be scored begins, and how many steps a day has (0: no rhythm).
pub(super) struct Split {
    pub(super) demand: Demand,
    pub(super) begin: usize,
    pub(super) day: usize,
}

/// The table `name` of `data`, behind that of `train` if there is one.
pub(super) fn read(
    name: &str,
    data: &Path,
    train: Option<&Path>,
    day: usize,
) -> Result<Split, Error> {
    let demand = series::read(&store::table_path(data, name))?;
    let Some(train) = train else {
        let begin = demand.values.nrows() * 7 / 10;
        return Ok(Split { demand, begin, day });
    };
    let before = series::read(&store::table_path(train, name))?;
    let known = before.first + before.values.nrows();
    if demand.first < known {
        // The whole series: what the training side holds is not scored.
        let begin = known - demand.first;
        return Ok(Split { demand, begin, day });
    }
    let begin = before.values.nrows();
    Ok(Split {
        demand: before.then(&demand)?,
        begin,
        day,
    })
}

/// Forecasts of one method: `[step at which it was made, series]`, in units of the series' mean.
struct Member {
    name: &'static str,
    forecasts: Array2<f64>,
}

/// What all members see.
pub(super) struct View {
    z: Array2<f64>, // [step, series], divided by the mean of the training part
    mean: Vec<f64>,
    begin: usize,
    day: usize,
    h: usize,
    lessons: usize, // steps of the optimiser of the network
}

impl View {
    pub(super) fn new(split: &Split, h: usize) -> Self {
        let part = split.demand.values.slice(s![..split.begin, ..]);
        let mean: Vec<f64> = part
            .columns()
            .into_iter()
            .map(|c| c.mean().unwrap_or(0.0).max(1e-9))
            .collect();
        let z = Array2::from_shape_fn(split.demand.values.raw_dim(), |(t, k)| {
            split.demand.values[(t, k)] / mean[k]
        });
        Self {
            z,
            mean,
            begin: split.begin,
            day: split.day,
            h,
            lessons: 600,
        }
    }

    /// Up to here trees and networks are fitted; on the rest of the training part members that never
    /// saw it are weighed.
    fn fitted(&self) -> usize {
        self.begin - self.begin / 5
    }

    /// First step from which all lags are known.
    fn first(&self) -> usize {
        if self.day > 0 {
            7 * self.day + 6
        } else {
            LAGS_PLAIN
        }
    }

    /// Levels: own lags, and the days before around the target.
    fn levels(&self, t: usize, k: usize, out: &mut Vec<f64>) {
        let (day, h) = (self.day, self.h);
        let lags = if day > 0 { 24 } else { LAGS_PLAIN };
        out.extend((0..lags).map(|lag| self.z[(t - lag, k)]));
        if day > 0 {
            for back in 1..=7 {
                let then = t - back * day;
                out.extend([self.z[(then + h, k)], self.z[(then, k)]]);
                if back == 1 || back == 7 {
                    out.extend([self.z[(then + h - 1, k)], self.z[(then + h + 1, k)]]);
                }
            }
            self.hour(t, out);
        } else {
            let recent = |n: usize| {
                (0..n.min(t + 1))
                    .map(|lag| self.z[(t - lag, k)])
                    .sum::<f64>()
                    / n.min(t + 1) as f64
            };
            out.extend([recent(12), recent(48), recent(200)]);
        }
    }

    /// Time of day of the target as waves.
    fn hour(&self, t: usize, out: &mut Vec<f64>) {
        let angle = std::f64::consts::TAU * ((t + self.h) % self.day) as f64 / self.day as f64;
        for wave in 1..=3 {
            let (sine, cosine) = (angle * f64::from(wave)).sin_cos();
            out.extend([sine, cosine]);
        }
    }

    /// Changes in logs: of late, of the days before over the same hours, and how far they are off.
    fn changes(&self, t: usize, k: usize, out: &mut Vec<f64>) {
        let log = |t: usize| self.z[(t, k)].max(1e-3).ln();
        let now = log(t);
        out.extend([1, 2, 3, 4, 6, 9, 12, 18].map(|lag: usize| now - log(t - lag.min(t))));
        if self.day > 0 {
            for back in 1..=7 {
                let then = t - back * self.day;
                out.push(log(then + self.h) - log(then));
                out.push(now - log(then));
                if back == 1 || back == 7 {
                    out.push(log(then + self.h + 1) - log(then + self.h - 1));
                    out.push((now - log(t - 6)) - (log(then) - log(then - 6)));
                }
            }
            self.hour(t, out);
        }
    }
}

/// Runs all members over all steps and combines them online; figures per member if asked.
pub(super) struct Outcome {
    pub(super) ensemble: Errors,
    pub(super) members: Vec<(&'static str, Errors)>,
    pub(super) covered: f64,
}

pub(super) fn forecast(view: &View, seed: u64) -> Outcome {
    let members = members(view, seed);
    let (steps, count) = view.z.dim();
    let mut outcome = Outcome {
        ensemble: Errors::default(),
        members: members
            .iter()
            .map(|member| (member.name, Errors::default()))
            .collect(),
        covered: 0.0,
    };
    let learnt: Vec<usize> = (0..members.len())
        .filter(|at| members[*at].name != PLAIN_RIDGE)
        .collect();
    let (mut inside, mut asked) = (0.0, 0.0);
    for k in 0..count {
        let start = vec![1.0 / learnt.len() as f64; learnt.len()];
        let mut ensemble = Ensemble::new(start, 0.999);
        let mut interval = Interval::new(COVERAGE);
        for t in view.fitted().max(view.first() + view.h)..steps {
            // What was said for this step is judged first.
            let made = t - view.h;
            let said: Vec<f64> = learnt
                .iter()
                .map(|&m| members[m].forecasts[(made, k)])
                .collect();
            let truth = view.z[(t, k)];
            if t >= view.begin {
                let scale = view.mean[k];
                for (member, (_, errors)) in members.iter().zip(&mut outcome.members) {
                    errors.add(member.forecasts[(made, k)].max(0.0) * scale, truth * scale);
                }
            }
            ensemble.learn(&said, truth);
            let now: Vec<f64> = learnt
                .iter()
                .map(|&m| members[m].forecasts[(t, k)])
                .collect();
            if t + view.h < steps {
                let value = ensemble.combine(&now).max(0.0);
                if t + view.h >= view.begin {
                    outcome
                        .ensemble
                        .add(value * view.mean[k], view.z[(t + view.h, k)] * view.mean[k]);
                }
                if let Some(hit) = interval.step(value, view.z[(t + view.h, k)])
                    && t >= view.begin
                {
                    asked += 1.0;
                    inside += f64::from(hit);
                }
            }
        }
    }
    outcome.covered = inside / f64::max(asked, 1.0);
    outcome
}

/// Adaptive conformal interval: its width follows the misses.
///
/// Source: Gibbs and Candès 2021; here on the scale, by a step in its logarithm.
struct Interval {
    half: f64,
    coverage: f64,
    seen: u32,
}

impl Interval {
    const fn new(coverage: f64) -> Self {
        Self {
            half: 0.05,
            coverage,
            seen: 0,
        }
    }

    fn step(&mut self, value: f64, truth: f64) -> Option<bool> {
        let hit = (truth - value).abs() <= self.half * value.max(0.05);
        let gain = 0.05;
        let miss = f64::from(!hit);
        self.half *= (gain * (miss - (1.0 - self.coverage)) / (1.0 - self.coverage) * 0.5).exp();
        self.seen += 1;
        (self.seen > 60).then_some(hit)
    }
}

fn members(view: &View, seed: u64) -> Vec<Member> {
    let mut members = vec![persistence(view)];
    if view.day > 0 {
        members.push(yesterday(view));
    }
    members.push(smoothed(view));
    members.push(ridge_members(view));
    for (name, keep) in [
        ("running ridge, week", 0.9995),
        ("running ridge, month", 0.9999),
    ] {
        members.push(running(view, name, keep, false));
    }
    for (name, keep) in [
        ("running change, week", 0.9995),
        ("running change, month", 0.9999),
    ] {
        members.push(running(view, name, keep, true));
    }
    members.push(boosted(view, seed));
    members.push(recurrent(view, seed));
    members
}

fn empty(view: &View) -> Array2<f64> {
    view.z.clone() // where nothing better is known: persistence
}

fn persistence(view: &View) -> Member {
    Member {
        name: "persistence",
        forecasts: empty(view),
    }
}

fn yesterday(view: &View) -> Member {
    let mut forecasts = empty(view);
    for t in view.day..view.z.nrows() {
        for k in 0..view.z.ncols() {
            let (then, later) = (
                view.z[(t - view.day, k)],
                view.z[(t - view.day + view.h, k)],
            );
            forecasts[(t, k)] = (view.z[(t, k)] + later - then).max(0.0);
        }
    }
    Member {
        name: "yesterday's change",
        forecasts,
    }
}

/// Exponential smoothing with the best of some gains on the training part.
fn smoothed(view: &View) -> Member {
    let run = |gain: f64| {
        let mut forecasts = view.z.clone();
        for t in 1..view.z.nrows() {
            for k in 0..view.z.ncols() {
                forecasts[(t, k)] =
                    forecasts[(t - 1, k)] + gain * (view.z[(t, k)] - forecasts[(t - 1, k)]);
            }
        }
        forecasts
    };
    let cost = |forecasts: &Array2<f64>| {
        let mut sum = 0.0;
        for t in view.begin / 2..view.begin - view.h {
            for k in 0..view.z.ncols() {
                sum += ((forecasts[(t, k)] - view.z[(t + view.h, k)]) * view.mean[k]).powi(2);
            }
        }
        sum
    };
    let tried = [0.05, 0.1, 0.2, 0.4, 0.7, 0.9].map(run);
    let best = tried.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
    Member {
        name: "smoothing",
        forecasts: best.unwrap_or_else(|| empty(view)),
    }
}

fn ridge_members(view: &View) -> Member {
    let mut forecasts = empty(view);
    let mut row = Vec::new();
    for k in 0..view.z.ncols() {
        let rows = view.first()..view.begin.saturating_sub(view.h);
        if rows.len() < 50 {
            continue;
        }
        let (mut flat, mut y) = (Vec::new(), Vec::new());
        for t in rows {
            row.clear();
            view.levels(t, k, &mut row);
            flat.extend(&row);
            y.push(view.z[(t + view.h, k)]);
        }
        let x = Array2::from_shape_vec((y.len(), row.len()), flat).unwrap_or_default();
        let ridge = Ridge::fit(x.view(), &y, None, 1.0);
        for t in view.first()..view.z.nrows() {
            row.clear();
            view.levels(t, k, &mut row);
            forecasts[(t, k)] = ridge.value(ndarray::ArrayView1::from(&row[..]));
        }
    }
    Member {
        name: PLAIN_RIDGE,
        forecasts,
    }
}

fn running(view: &View, name: &'static str, keep: f64, change: bool) -> Member {
    let mut forecasts = empty(view);
    let (mut then, mut now) = (Vec::new(), Vec::new());
    for k in 0..view.z.ncols() {
        let mut model: Option<RunningRidge> = None;
        for t in view.first()..view.z.nrows() {
            let fill = |t: usize, out: &mut Vec<f64>| {
                out.clear();
                if change {
                    view.changes(t, k, out)
                } else {
                    view.levels(t, k, out)
                }
                out.push(1.0);
            };
            let log = |t: usize| view.z[(t, k)].max(1e-3).ln();
            fill(t, &mut now);
            let model = model.get_or_insert_with(|| {
                RunningRidge::new(ndarray::Array1::zeros(now.len()), 1.0, keep)
            });
            if t >= view.first() + view.h {
                fill(t - view.h, &mut then);
                let truth = if change {
                    log(t) - log(t - view.h)
                } else {
                    view.z[(t, k)]
                };
                model.learn(ndarray::ArrayView1::from(&then[..]), truth);
            }
            let value = model.value(ndarray::ArrayView1::from(&now[..]));
            forecasts[(t, k)] = if change {
                view.z[(t, k)].max(1e-3) * value.clamp(-3.0, 3.0).exp()
            } else {
                value.clamp(0.0, 20.0)
            };
        }
    }
    Member { name, forecasts }
}

/// One set of trees for all series, on the change.
fn boosted(view: &View, seed: u64) -> Member {
    let mut dice = Dice::new(seed);
    let span = view.fitted().saturating_sub(view.h + view.first());
    let fill = |t: usize, k: usize, out: &mut Vec<f64>| {
        out.clear();
        view.levels(t, k, out);
        let now = view.z[(t, k)];
        out.iter_mut().for_each(|value| *value -= now);
        out.extend([now, k as f64]);
        if view.day > 0 {
            out.push(((t + view.h) % view.day) as f64);
        }
    };
    let (mut flat, mut y, mut weight, mut row) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let usual = view.mean.iter().map(|m| m * m).sum::<f64>() / view.mean.len() as f64;
    for _ in 0..(span * view.z.ncols()).min(60_000) {
        let (t, k) = (view.first() + dice.below(span), dice.below(view.z.ncols()));
        fill(t, k, &mut row);
        flat.extend(&row);
        y.push(view.z[(t + view.h, k)] - view.z[(t, k)]);
        weight.push((view.mean[k] * view.mean[k] / usual).max(0.01));
    }
    let mut forecasts = empty(view);
    if span > 50 {
        let x = Array2::from_shape_vec((y.len(), row.len()), flat).unwrap_or_default();
        let settings = BoostSettings {
            objective: Objective::Squared,
            trees: 200,
            rate: 0.06,
            feature_share: 0.5,
            seed,
            ..BoostSettings::default()
        };
        let trees = Boosted::fit(x.view(), &y, Some(&weight), &settings);
        for t in view.first().max(view.begin / 2)..view.z.nrows() {
            for k in 0..view.z.ncols() {
                fill(t, k, &mut row);
                forecasts[(t, k)] += trees.score(ndarray::ArrayView1::from(&row[..]));
            }
        }
    }
    Member {
        name: "boosting",
        forecasts,
    }
}

/// One recurrent network for all series, on the change.
fn recurrent(view: &View, seed: u64) -> Member {
    let window = 24;
    let first = view.first() + window;
    let width = if view.day > 0 { 6 } else { 2 };
    let span = view.fitted().saturating_sub(view.h + first);
    let mut forecasts = empty(view);
    if span < 50 {
        return Member {
            name: "GRU",
            forecasts,
        };
    }
    let fill = |t: usize, k: usize, slot: usize, x: &mut Array3<f32>| {
        let now = view.z[(t, k)];
        let recent = (0..window).map(|lag| view.z[(t - lag, k)]).sum::<f64>() / window as f64;
        let scale = recent.max(0.02);
        for at in 0..window {
            let then = t + 1 + at - window;
            let mut put =
                |feature: usize, value: f64| x[(at, slot, feature)] = value.clamp(-8.0, 8.0) as f32;
            put(0, (view.z[(then, k)] - now) / scale * 4.0);
            put(1, scale - 1.0);
            if view.day > 0 {
                let angle =
                    std::f64::consts::TAU * ((then + view.h) % view.day) as f64 / view.day as f64;
                put(
                    2,
                    (view.z[(then - view.day + view.h, k)] - view.z[(then - view.day, k)]) / scale
                        * 4.0,
                );
                put(
                    3,
                    (view.z[(then - 7 * view.day + view.h, k)] - view.z[(then - 7 * view.day, k)])
                        / scale
                        * 4.0,
                );
                put(4, angle.sin());
                put(5, angle.cos());
            }
        }
        scale
    };
    let settings = GruSettings {
        units: 24,
        steps: view.lessons,
        batch: 128,
        rate: 0.006,
        seed,
    };
    let network = Gru::<f32>::train(width, 1, &settings, 1.0, |dice, count| {
        let mut x = Array3::zeros((window, count, width));
        let mut y = Array2::zeros((count, 1));
        for slot in 0..count {
            let (t, k) = (first + dice.below(span), dice.below(view.z.ncols()));
            let scale = fill(t, k, slot, &mut x);
            y[(slot, 0)] = ((view.z[(t + view.h, k)] - view.z[(t, k)]) / scale * 4.0) as f32;
        }
        (x, y)
    });
    let count = view.z.ncols();
    for t in first.max(view.begin / 2)..view.z.nrows() {
        let mut x = Array3::zeros((window, count, width));
        let scales: Vec<f64> = (0..count).map(|k| fill(t, k, k, &mut x)).collect();
        let out = network.run(x.view());
        for k in 0..count {
            forecasts[(t, k)] += f64::from(out[(k, 0)]) * scales[k] / 4.0;
        }
    }
    Member {
        name: "GRU",
        forecasts,
    }
}

/// Figures to reach, by horizon.
pub(super) struct Target {
    pub(super) h: usize,
    pub(super) nrmse: Option<f64>,
}

pub(super) fn evaluate(
    label: &str,
    split: &Split,
    targets: &[Target],
    rounds: &Rounds,
    report: &mut Report,
) {
    for target in targets {
        let view = View::new(split, target.h);
        let what = format!("{label}{} steps ahead", target.h);
        let outcomes = rounds.each(&what).map(|seed| forecast(&view, seed));
        let outcomes: Vec<Outcome> = outcomes.collect();
        let nrmse: Vec<f64> = outcomes.iter().map(|o| o.ensemble.nrmse()).collect();
        let wape: Vec<f64> = outcomes.iter().map(|o| o.ensemble.wape()).collect();
        let beside = |pick: fn(&Errors) -> f64| -> Vec<(&'static str, f64)> {
            let plain = outcomes[0]
                .members
                .iter()
                .filter(|(name, _)| PLAIN.contains(name));
            plain.map(|(name, errors)| (*name, pick(errors))).collect()
        };
        let above = outcomes.iter().map(|outcome| {
            let members = outcome.members.iter().map(|(_, errors)| errors.nrmse());
            outcome.ensemble.nrmse() / members.fold(f64::INFINITY, f64::min)
        });
        let above: Vec<f64> = above.collect();
        let h = target.h;
        report.findings.push(Finding {
            target: target.nrmse,
            ..Finding::less(format!("{label}NRMSE, {h} steps"), &nrmse)
                .beside(&beside(Errors::nrmse))
        });
        report.findings.push(
            Finding::less(format!("{label}WAPE, {h} steps"), &wape).beside(&beside(Errors::wape)),
        );
        report.findings.push(Finding::less(
            format!("{label}NRMSE over that of the best member, {h} steps"),
            &above,
        ));
        let covered: Vec<f64> = outcomes.iter().map(|o| o.covered).collect();
        report.findings.push(Finding::more(
            format!("{label}coverage of {COVERAGE} intervals, {h} steps"),
            &covered,
        ));
    }
}

const PLAIN: [&str; 4] = [
    "persistence",
    "yesterday's change",
    "smoothing",
    PLAIN_RIDGE,
];
const PLAIN_RIDGE: &str = "ridge"; // fitted once, on all of the training part: a baseline only
const LAGS_PLAIN: usize = 12;
const COVERAGE: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two noisy series with a rhythm of 24 steps, of ten "weeks" of seven.
    fn split() -> Split {
        let mut dice = Dice::new(5);
        let values = Array2::from_shape_fn((24 * 70, 2), |(t, k)| {
            let angle = std::f64::consts::TAU * t as f64 / 24.0;
            (2.0 + (angle + k as f64).sin() + 0.1 * dice.normal()) * 1e6
        });
        let names = vec!["a".to_owned(), "b".to_owned()];
        let demand = Demand {
            values,
            names,
            first: 0,
        };
        Split {
            demand,
            begin: 24 * 49,
            day: 24,
        }
    }

    #[test]
    fn the_ensemble_is_near_its_best_member_and_its_interval_holds() {
        let view = View {
            lessons: 30,
            ..View::new(&split(), 6)
        };
        let outcome = forecast(&view, 1);
        let members = outcome.members.iter().map(|(_, errors)| errors.nrmse());
        let best = members.fold(f64::INFINITY, f64::min);
        assert!(
            outcome.ensemble.nrmse() < 1.03 * best,
            "{} {best}",
            outcome.ensemble.nrmse()
        );
        assert!(
            (outcome.covered - COVERAGE).abs() < 0.05,
            "{}",
            outcome.covered
        );
    }
}
