//! Round-trip times between all pairs of nodes, slice by slice.

use std::path::Path;

use ndarray::{Array2, ArrayView1, Axis, concatenate};

use super::Rounds;
use super::report::{Finding, Report};
use crate::Error;
use crate::learn::{BoostSettings, Boosted, Dice, Objective};
use crate::measure::Errors;
use crate::store::{self, Table};

/// Round-trip times in units of 0.1 ms, shape `[slice, pair]`; missing ones are filled forward.
pub(super) struct Times {
    values: Array2<f64>,
    nodes: usize,
    begin: usize, // of the part to be scored
}

/// The slices of `data`, behind those of `train` if given; else the last 30 % are scored.
pub(super) fn read(data: &Path, train: Option<&Path>) -> Result<Times, Error> {
    let (values, nodes) = read_slices(data)?;
    let (mut values, begin) = match train {
        Some(train) => {
            let (before, _) = read_slices(train)?;
            let begin = before.nrows();
            (
                concatenate(Axis(0), &[before.view(), values.view()]).unwrap_or(values),
                begin,
            )
        }
        None => {
            let begin = values.nrows() * 7 / 10;
            (values, begin)
        }
    };
    for mut pair in values.columns_mut() {
        let mut last = 0.0;
        for value in &mut pair {
            if *value > 0.0 {
                last = *value
            } else {
                *value = last
            }
        }
    }
    Ok(Times {
        values,
        nodes,
        begin,
    })
}

fn read_slices(folder: &Path) -> Result<(Array2<f64>, usize), Error> {
    let table = Table::read_nameless(&store::table_path(folder, "rtt"))?;
    let nodes = ((table.names().len() - 1) as f64).sqrt() as usize;
    let cells = Array2::from_shape_fn((table.rows(), nodes * (nodes - 1)), |(row, at)| {
        let (from, to) = pair(at, nodes);
        table.number(row, 1 + from * nodes + to)
    });
    Ok((cells, nodes))
}

/// Ends of the `at`-th directed pair of different nodes.
fn pair(at: usize, nodes: usize) -> (usize, usize) {
    let (from, rest) = (at / (nodes - 1), at % (nodes - 1));
    (from, if rest >= from { rest + 1 } else { rest })
}

/// Forecasts [`AHEAD`] slices ahead.
pub(super) fn evaluate(times: &Times, rounds: &Rounds) -> Report {
    let (slices, pairs) = times.values.dim();
    let past = Past::of(times);
    let mut plain = [
        Errors::default(),
        Errors::default(),
        Errors::default(),
        Errors::default(),
    ];
    let mut runs: Vec<Errors> = Vec::new();
    let mut row = Vec::new();
    for (run, seed) in rounds.each("round-trip times").enumerate() {
        let model = fit(times, &past, seed);
        let mut errors = Errors::default();
        for t in times.begin - AHEAD..slices - AHEAD {
            for at in 0..pairs {
                let truth = times.values[(t + AHEAD, at)];
                past.features(times, t, at, &mut row);
                errors.add(
                    past.usual[at] * model.score(ArrayView1::from(&row[..])).exp(),
                    truth,
                );
                if run == 0 {
                    let said = [
                        times.values[(t, at)],
                        past.smooth[(t, at)],
                        past.recent[(t, at)],
                        past.usual[at],
                    ];
                    plain
                        .iter_mut()
                        .zip(said)
                        .for_each(|(errors, said)| errors.add(said, truth));
                }
            }
        }
        runs.push(errors);
    }
    let names = ["persistence", "smoothing", "median of 12", "train median"];
    let beside = |pick: fn(&Errors) -> f64| -> Vec<(&'static str, f64)> {
        names.into_iter().zip(plain.iter().map(pick)).collect()
    };
    let values = |pick: fn(&Errors) -> f64| -> Vec<f64> { runs.iter().map(pick).collect() };
    let mut report = Report::new("rtt");
    report
        .findings
        .push(Finding::less("WAPE, 12 steps", &values(Errors::wape)).beside(&beside(Errors::wape)));
    report.findings.push(
        Finding::less("NRMSE, 12 steps", &values(Errors::nrmse)).beside(&beside(Errors::nrmse)),
    );
    report
}

/// What is known of each pair at each slice.
struct Past {
    usual: Vec<f64>,     // median over the training part
    smooth: Array2<f64>, // [slice, pair], gain 0.2
    slow: Array2<f64>,   // gain 0.03
    recent: Array2<f64>, // median of the last 12
    node: Array2<f64>,   // [slice, node]: mean log ratio to usual over its pairs
}

impl Past {
    fn of(times: &Times) -> Self {
        let (slices, pairs) = times.values.dim();
        let median = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(0.0)
        };
        let usual: Vec<f64> = (0..pairs)
            .map(|at| {
                median(&mut (0..times.begin).map(|t| times.values[(t, at)]).collect()).max(1.0)
            })
            .collect();
        let mut past = Self {
            usual,
            smooth: times.values.clone(),
            slow: times.values.clone(),
            recent: times.values.clone(),
            node: Array2::zeros((slices, times.nodes)),
        };
        for t in 0..slices {
            for at in 0..pairs {
                let now = times.values[(t, at)];
                if t > 0 {
                    past.smooth[(t, at)] =
                        past.smooth[(t - 1, at)] + 0.2 * (now - past.smooth[(t - 1, at)]);
                    past.slow[(t, at)] =
                        past.slow[(t - 1, at)] + 0.03 * (now - past.slow[(t - 1, at)]);
                }
                past.recent[(t, at)] = median(
                    &mut (t.saturating_sub(11)..=t)
                        .map(|t| times.values[(t, at)])
                        .collect(),
                );
                let off = (now.max(1.0) / past.usual[at]).ln() / (2 * times.nodes - 2) as f64;
                let (from, to) = pair(at, times.nodes);
                past.node[(t, from)] += off;
                past.node[(t, to)] += off;
            }
        }
        past
    }

    /// All as logs of ratios to what is usual for the pair.
    fn features(&self, times: &Times, t: usize, at: usize, out: &mut Vec<f64>) {
        out.clear();
        let usual = self.usual[at];
        let log = |value: f64| (value.max(1.0) / usual).ln();
        let now = times.values[(t, at)];
        let (from, to) = pair(at, times.nodes);
        let back = to * (times.nodes - 1) + if from > to { from - 1 } else { from };
        let held = (1..24)
            .find(|back| *back > t || times.values[(t - back, at)] != now)
            .unwrap_or(24);
        out.extend([
            log(now),
            log(self.smooth[(t, at)]),
            log(self.slow[(t, at)]),
            log(self.recent[(t, at)]),
        ]);
        out.extend([
            self.node[(t, from)],
            self.node[(t, to)],
            log(times.values[(t, back)]),
            log(self.slow[(t, back)]),
        ]);
        out.extend([
            usual.ln(),
            held as f64,
            log(times.values[(t.saturating_sub(12), at)]),
        ]);
    }
}

fn fit(times: &Times, past: &Past, seed: u64) -> Boosted {
    let mut dice = Dice::new(seed);
    let pairs = times.values.ncols();
    let (mut flat, mut y, mut weight, mut row) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..80_000 {
        let (t, at) = (24 + dice.below(times.begin - AHEAD - 24), dice.below(pairs));
        past.features(times, t, at, &mut row);
        flat.extend(&row);
        y.push((times.values[(t + AHEAD, at)].max(1.0) / past.usual[at]).ln());
        weight.push(past.usual[at].min(20_000.0) / 2_000.0);
    }
    let x = Array2::from_shape_vec((y.len(), row.len()), flat).unwrap_or_default();
    let settings = BoostSettings {
        objective: Objective::Huber(0.3),
        trees: 80,
        rate: 0.1,
        min_rows: 100,
        seed,
        ..BoostSettings::default()
    };
    Boosted::fit(x.view(), &y, Some(&weight), &settings)
}

const AHEAD: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_leave_out_the_diagonal() {
        let all: Vec<(usize, usize)> = (0..6).map(|at| pair(at, 3)).collect();
        assert_eq!(all, [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]);
    }
}
