//! Incidents of servers, seen in many metrics at once and without labels.

use super::Rounds;
use super::page::Plot;
use super::report::{Finding, Report};
use super::servers::Machine;
use crate::learn::{Rating, Watch};
use crate::measure::{Alarms, Incidents, Tally, average_precision, mean_and_spread};

/// How the rows of a data set stand to time, and what is to be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) rows_per_day: f64,
    /// Rows before an incident in which an alarm is a warning.
    pub(super) early: usize,
    /// Quiet rows between alarms or labels that are still one: half an hour from the last to the next.
    pub(super) gap: usize,
    /// Rows behind an incident in which an alarm is not false.
    pub(super) late: usize,
    /// Rows that the rating of a state is smoothed over.
    pub(super) smooth: usize,
    /// Rows that the rating behind an alarm is smoothed over.
    pub(super) quick: usize,
    pub(super) precision: f64,
}

impl Terms {
    /// One row a minute.
    pub(super) const SMD: Self = Self {
        rows_per_day: 1440.0,
        early: 30,
        gap: 29,
        late: 15,
        smooth: 20,
        quick: 3,
        precision: 0.60,
    };
    /// One row in five minutes.
    pub(super) const ASD: Self = Self {
        rows_per_day: 288.0,
        early: 12,
        gap: 5,
        late: 3,
        smooth: 6,
        quick: 6,
        precision: 0.45,
    };
}

pub(super) fn evaluate(task: &str, machines: &[Machine], terms: Terms, rounds: &Rounds) -> Report {
    let mut report = Report::new(task);
    let runs = rounds.each("servers").map(|seed| {
        let all = machines.len();
        let rated = machines.iter().enumerate().map(|(done, machine)| {
            (rounds.progress)(done, all, &format!("servers, seed {seed}"));
            rate(machine, terms, seed)
        });
        judge(machines, terms, &rated.collect::<Vec<Scores>>())
    });
    let runs: Vec<Judged> = runs.collect();
    let plain = [
        ("static z", plain(machines, terms, false)),
        ("step from the row before", plain(machines, terms, true)),
    ];
    let plain = plain.map(|(name, scores)| (name, judge(machines, terms, &scores)));
    let finding = |metric: &str, less: bool, pick: &dyn Fn(&Judged) -> f64| {
        let values: Vec<f64> = runs.iter().map(pick).collect();
        let beside: Vec<(&'static str, f64)> = plain
            .iter()
            .map(|(name, judged)| (*name, pick(judged)))
            .collect();
        let finding = if less {
            Finding::less(metric, &values)
        } else {
            Finding::more(metric, &values)
        };
        finding.beside(&beside)
    };
    let per_day = terms.rows_per_day;
    report.findings = vec![
        finding("AUC-PR", false, &|judged| judged.precision).reach(terms.precision),
        finding(
            "incidents detected, threshold without labels",
            false,
            &|judged| judged.tally.recall(),
        )
        .reach(0.90),
        finding(
            "false alarms per machine-day at that threshold",
            true,
            &|judged| judged.tally.false_per_day(per_day),
        )
        .reach(0.5),
        finding("incidents warned of before they began", false, &|judged| {
            judged.tally.early()
        })
        .reach(0.25),
        finding(
            "incidents detected at 0.5 false alarms per machine-day, threshold by labels",
            false,
            &|judged| judged.best.recall(),
        ),
    ];
    report.plots = runs
        .first()
        .map(|judged| judged.plot.clone())
        .into_iter()
        .collect();
    report
}

/// Scores of one machine.
struct Scores {
    state: Vec<f64>, // of the labelled part: how sick it looks
    alarm: Vec<f64>, // of the labelled part: how sudden that is
    tail: Vec<f64>,  // the latter over the end of the unlabelled part
}

fn rate(machine: &Machine, terms: Terms, seed: u64) -> Scores {
    let mut watch = Watch::fit(machine.train.view(), TAIL, terms.smooth, seed);
    let from = (machine.train.nrows() as f64 * (1.0 - TAIL)) as usize;
    let tail = machine.train.rows().into_iter().skip(from);
    let ratings: Vec<Rating> = tail
        .chain(machine.test.rows())
        .map(|row| watch.rate(row))
        .collect();
    let quick: Vec<f64> = ratings.iter().map(|rating| rating.now[0]).collect();
    let mut tail = smoothed(&quick, terms.quick);
    let alarm = tail.split_off(machine.train.nrows() - from);
    let labelled = &ratings[tail.len()..];
    Scores {
        state: labelled
            .iter()
            .map(|rating| rating.smooth[0] + rating.smooth[2])
            .collect(),
        alarm,
        tail,
    }
}

/// Trailing means over `rows`.
fn smoothed(raw: &[f64], rows: usize) -> Vec<f64> {
    let mean = |at: usize| {
        let from = (at + 1).saturating_sub(rows);
        raw[from..=at].iter().sum::<f64>() / (at + 1 - from) as f64
    };
    (0..raw.len()).map(mean).collect()
}

/// Mean distance of all metrics from their mean, or from the row before, smoothed.
fn plain(machines: &[Machine], terms: Terms, step: bool) -> Vec<Scores> {
    let of = |machine: &Machine| {
        let scale = crate::learn::Standardizer::fit(machine.train.view());
        let from = (machine.train.nrows() as f64 * (1.0 - TAIL)) as usize;
        let score = |x: &ndarray::Array2<f64>| {
            let z = scale.apply(x.view()).mapv(|value| value.clamp(-10.0, 10.0));
            let rows = z.nrows();
            let raw: Vec<f64> = (0..rows)
                .map(|at| {
                    let before = z.row(at.saturating_sub(1));
                    let own = z.row(at);
                    let off = own.iter().zip(before).map(|(now, before)| {
                        if step {
                            (now - before).powi(2)
                        } else {
                            now.abs()
                        }
                    });
                    off.sum()
                })
                .collect();
            smoothed(&raw, terms.smooth / 2)
        };
        let state = score(&machine.test);
        Scores {
            tail: score(&machine.train).split_off(from),
            alarm: state.clone(),
            state,
        }
    };
    machines.iter().map(of).collect()
}

struct Judged {
    precision: f64, // mean over machines
    tally: Tally,   // at the threshold that was found without labels
    best: Tally,    // at the best threshold with at most half a false alarm a day
    plot: Plot,
}

fn judge(machines: &[Machine], terms: Terms, scores: &[Scores]) -> Judged {
    let mut areas = Vec::new();
    let (mut tally, mut best) = (Tally::default(), Tally::default());
    for (machine, scores) in machines.iter().zip(scores) {
        let incidents = Incidents::of(&machine.labels, terms.gap, terms.early, terms.late);
        let at = |threshold: f64| {
            let alarmed: Vec<bool> = scores
                .alarm
                .iter()
                .map(|score| *score > threshold)
                .collect();
            incidents.judge(&Alarms::of(&alarmed, terms.gap))
        };
        tally.add(at(threshold(&scores.tail, terms)));
        let rated = quantiles(&scores.alarm, 200).map(at);
        let allowed = rated.filter(|tally| tally.false_per_day(terms.rows_per_day) <= 0.5);
        best.add(allowed.fold(at(f64::INFINITY), |best, next| {
            if next.recall() > best.recall() {
                next
            } else {
                best
            }
        }));
        areas.push(average_precision(&scores.state, &machine.labels));
    }
    Judged {
        precision: mean_and_spread(&areas).0,
        tally,
        best,
        plot: Plot::precision_recall(&scores[0].state, &machines[0].labels),
    }
}

/// The lowest threshold that keeps the unlabelled tail within [`ALARMS`] a day.
fn threshold(tail: &[f64], terms: Terms) -> f64 {
    let days = tail.len() as f64 / terms.rows_per_day;
    let quiet = |threshold: &f64| {
        let alarmed: Vec<bool> = tail.iter().map(|score| score > threshold).collect();
        Alarms::of(&alarmed, terms.gap).0.len() as f64 <= ALARMS * days
    };
    quantiles(tail, 400)
        .filter(|value| value.is_finite())
        .find(quiet)
        .unwrap_or(f64::INFINITY)
}

/// `count` quantiles from the 70th percent to the greatest, ascending.
fn quantiles(values: &[f64], count: usize) -> impl Iterator<Item = f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    (0..=count)
        .map(move |at| sorted[((0.7 + 0.3 * at as f64 / count as f64) * last as f64) as usize])
}

const TAIL: f64 = 0.3; // share of the unlabelled part that sets usual ratings and the threshold
const ALARMS: f64 = 1.0; // a day on the tail, at most: the protocol's
