//! Tasks with data, protocol and figures: what `vpnmesh predict train|eval` runs.
//!
//! Each task reads the folder of one data set, trains on the training side and scores the other.
//! Without a training side of its own the folder is split inside, by time, by unit or by kind of
//! attack, never by chance where rows of one origin would land on both sides.

mod benchmark;
pub mod disks;
pub mod engines;
pub mod flows;
mod incidents;
mod life;
mod page;
mod report;
mod risk;
mod rtt;
pub mod series;
pub mod servers;
pub mod single;
mod traffic;

use std::path::Path;

pub use page::Plot;
pub use report::{Finding, Report};

use crate::Error;
use crate::learn::{Dice, Weights as _};
use flows::Flows;
use risk::Targets;
use traffic::Target;

/// The names of all tasks.
pub const NAMES: [&str; 14] = [
    "smd",
    "asd",
    "nab",
    "backblaze",
    "cmapss",
    "site_traffic",
    "isp_5min",
    "od_small",
    "nsl_kdd",
    "ddos_sdn",
    "cicids2017",
    "cicddos2019",
    "zeek_conn",
    "rtt",
];

/// Hears how far the work is: parts that are done, all parts of this kind, and what begins now.
pub type Progress = fn(usize, usize, &str);

/// What to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The folder to be scored.
    pub data: &'a Path,
    /// The folder to train on, where it is another one.
    pub train: Option<&'a Path>,
    /// The first seed.
    pub seed: u64,
    /// How many seeds: more cost time and tell the spread better.
    pub seeds: u64,
    /// Hears how far the work is.
    pub progress: Progress,
}

/// The seeds of an evaluation, and who hears of its progress.
#[derive(Debug)]
struct Rounds {
    seeds: Vec<u64>,
    progress: Progress,
}

impl Rounds {
    fn new(request: Request<'_>) -> Self {
        let seeds = (0..request.seeds.max(1)).map(|more| request.seed + more);
        Self {
            seeds: seeds.collect(),
            progress: request.progress,
        }
    }

    /// Each seed in turn, for one part of the work.
    fn each(&self, what: &str) -> impl Iterator<Item = u64> {
        let all = self.seeds.len();
        self.seeds.iter().enumerate().map(move |(done, seed)| {
            (self.progress)(done, all, &format!("{what}, seed {seed}"));
            *seed
        })
    }
}

/// Trains and scores one task.
///
/// # Errors
/// [`Error::NoTask`] for an unknown name, and whatever is wrong with the data.
pub fn evaluate(name: &str, request: Request<'_>) -> Result<Report, Error> {
    let rounds = &Rounds::new(request);
    match name {
        "nsl_kdd" => {
            let targets = Targets {
                at_1_percent: Some(0.80),
                unseen: Some(0.50),
                ..Targets::default()
            };
            let (train, test) = match request.train {
                Some(train) => (
                    flows::nsl_kdd(train, false)?,
                    flows::nsl_kdd(request.data, true)?,
                ),
                None => risk::split(&flows::nsl_kdd(request.data, false)?, true, request.seed),
            };
            Ok(risk::evaluate(name, &train, &test, targets, rounds))
        }
        "ddos_sdn" => {
            let targets = Targets {
                at_1_percent: Some(0.90),
                at_0_1_percent: Some(0.80),
                all_known: true,
                ..Targets::default()
            };
            risk_task(name, request, flows::ddos_sdn, false, targets, rounds)
        }
        "cicids2017" => risk_task(
            name,
            request,
            flows::cicids2017,
            false,
            Targets::default(),
            rounds,
        ),
        "cicddos2019" => {
            let targets = Targets {
                unseen: Some(0.90),
                ..Targets::default()
            };
            risk_task(name, request, flows::cicddos2019, true, targets, rounds)
        }
        "zeek_conn" => risk_task(
            name,
            request,
            flows::zeek_conn,
            false,
            Targets {
                all_known: true,
                ..Targets::default()
            },
            rounds,
        ),
        "backblaze" => {
            let all = disks::read(request.data)?;
            let (train, test) = match request.train {
                Some(train) => (disks::read(train)?, all),
                None => halves(all, request.seed),
            };
            Ok(life::disks(&train, &test, rounds))
        }
        "cmapss" => {
            let (train, test) = match request.train {
                Some(train) => (
                    engines::read(train, false)?,
                    engines::read(request.data, true)?,
                ),
                None => {
                    let (train, whole) = halves(engines::read(request.data, false)?, request.seed);
                    let mut dice = Dice::new(request.seed ^ 0xc07);
                    let cuts = whole.iter().flat_map(|unit| [unit; 5]).map(|unit| {
                        let rows = unit.readings.nrows();
                        unit.cut(rows - (7 + dice.below(139)).min(rows - 31))
                    });
                    (train, cuts.collect())
                }
            };
            Ok(life::engines(&train, &test, rounds))
        }
        "site_traffic" => {
            let targets = [
                Target {
                    h: 1,
                    nrmse: Some(0.050),
                },
                Target {
                    h: 12,
                    nrmse: Some(0.095),
                },
            ];
            traffic_task(name, request, &[("", "site_traffic", 288, targets)], rounds)
        }
        "isp_5min" => {
            let target = |nrmse| {
                [
                    Target { h: 1, nrmse: None },
                    Target {
                        h: 12,
                        nrmse: Some(nrmse),
                    },
                ]
            };
            let parts = [
                (
                    "isp_transatlantic: ",
                    "isp_transatlantic",
                    288,
                    target(0.065),
                ),
                (
                    "uk_academic_backbone: ",
                    "uk_academic_backbone",
                    288,
                    target(0.038),
                ),
            ];
            traffic_task(name, request, &parts, rounds)
        }
        "od_small" => {
            let target = |nrmse| [Target { h: 1, nrmse: None }, Target { h: 12, nrmse }];
            let parts = [
                ("cmu: ", "cmu", 0, target(Some(0.25))),
                ("bell_labs: ", "bell_labs", 0, target(None)),
            ];
            traffic_task(name, request, &parts, rounds)
        }
        "smd" => Ok(incidents::evaluate(
            name,
            &servers::read(request.data)?,
            incidents::Terms::SMD,
            rounds,
        )),
        "asd" => Ok(incidents::evaluate(
            name,
            &servers::read(request.data)?,
            incidents::Terms::ASD,
            rounds,
        )),
        "nab" => {
            let train = request.train.map(single::read).transpose()?;
            Ok(benchmark::evaluate(
                train.as_deref(),
                &single::read(request.data)?,
            ))
        }
        "rtt" => Ok(rtt::evaluate(
            &rtt::read(request.data, request.train)?,
            rounds,
        )),
        _ => Err(Error::NoTask {
            name: name.to_owned(),
        }),
    }
}

/// Trains one task on the whole of its folder and gives the weights as bytes.
///
/// # Errors
/// [`Error::NoWeights`] for tasks that learn while they run and keep nothing, and whatever is wrong
/// with the data.
pub fn train(name: &str, request: Request<'_>) -> Result<Vec<u8>, Error> {
    let folder = request.train.unwrap_or(request.data);
    let guard = |flows: Flows, known| risk::fit(&flows, known, request.seed).to_bytes();
    match name {
        "nsl_kdd" => Ok(guard(flows::nsl_kdd(folder, false)?, false)),
        "ddos_sdn" => Ok(guard(flows::ddos_sdn(folder)?, true)),
        "cicids2017" => Ok(guard(flows::cicids2017(folder)?, false)),
        "cicddos2019" => Ok(guard(flows::cicddos2019(folder)?, false)),
        "zeek_conn" => Ok(guard(flows::zeek_conn(folder)?, true)),
        "backblaze" => Ok(life::train_disks(&disks::read(folder)?, request.seed).to_bytes()),
        "cmapss" => {
            Ok(life::train_engines(&engines::read(folder, false)?, request.seed).to_bytes())
        }
        known if NAMES.contains(&known) => Err(Error::NoWeights {
            task: known.to_owned(),
        }),
        _ => Err(Error::NoTask {
            name: name.to_owned(),
        }),
    }
}

fn risk_task(
    name: &str,
    request: Request<'_>,
    read: fn(&Path) -> Result<Flows, Error>,
    by_kind: bool,
    targets: Targets,
    rounds: &Rounds,
) -> Result<Report, Error> {
    let all = read(request.data)?;
    let (train, test) = match request.train {
        Some(train) => (read(train)?, all),
        None => risk::split(&all, by_kind, request.seed),
    };
    Ok(risk::evaluate(name, &train, &test, targets, rounds))
}

type TrafficPart<'a> = (&'a str, &'a str, usize, [Target; 2]);

fn traffic_task(
    name: &str,
    request: Request<'_>,
    parts: &[TrafficPart<'_>],
    rounds: &Rounds,
) -> Result<Report, Error> {
    let mut report = Report::new(name);
    for (label, file, day, targets) in parts {
        let split = traffic::read(file, request.data, request.train, *day)?;
        traffic::evaluate(label, &split, targets, rounds, &mut report);
    }
    Ok(report)
}

/// Two thirds to train on, the rest to be scored.
fn halves<T>(all: Vec<T>, seed: u64) -> (Vec<T>, Vec<T>) {
    let mut dice = Dice::new(seed ^ 0x4a1f);
    let mut sides = (Vec::new(), Vec::new());
    for one in all {
        if dice.unit() < 2.0 / 3.0 {
            sides.0.push(one)
        } else {
            sides.1.push(one)
        }
    }
    sides
}
