//! `vpnmesh predict`: trains models on data sets and scores them.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use vpnmesh_predict::Error;
use vpnmesh_predict::task::{self, Request};

use crate::arguments::{Predict, PredictOptions};

/// Runs one of the commands under `predict`.
pub(crate) fn run(command: &Predict) -> Result<(), Error> {
    match command {
        Predict::Train { options, out } => train(options, out),
        Predict::Eval { options, seeds } => eval(options, *seeds),
        Predict::Report { options, out } => report(options, out),
    }
}

fn eval(options: &PredictOptions, seeds: u64) -> Result<(), Error> {
    let report = task::evaluate(&options.task, request(options, seeds));
    clear();
    let report = report?;
    if options.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(())
}

fn report(options: &PredictOptions, out: &Path) -> Result<(), Error> {
    let report = task::evaluate(&options.task, request(options, 1));
    clear();
    let report = report?;
    write(out, report.html().as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|source| Error::Unwritable {
        path: path.to_owned(),
        source,
    })
}

fn train(options: &PredictOptions, out: &Path) -> Result<(), Error> {
    let bytes = task::train(&options.task, request(options, 1))?;
    write(out, &bytes)?;
    if options.json {
        let size = bytes.len();
        println!(
            "{}",
            serde_json::json!({ "task": options.task, "bytes": size, "out": out })
        );
    } else {
        println!(
            "{}: {} bytes in {}",
            options.task,
            bytes.len(),
            out.display()
        );
    }
    Ok(())
}

fn request(options: &PredictOptions, seeds: u64) -> Request<'_> {
    Request {
        data: &options.data,
        train: options.train.as_deref(),
        seed: options.seed,
        seeds,
        progress: show,
    }
}

/// A bar on a terminal, nothing elsewhere.
fn show(done: usize, all: usize, what: &str) {
    let mut out = io::stderr();
    if !out.is_terminal() {
        return;
    }
    let filled = BAR * done / all.max(1);
    let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled));
    let _nobody_watches = write!(out, "\r\x1b[K[{bar}] {done} of {all}: {what} ");
}

/// Leaves the line of the bar to what follows.
fn clear() {
    let mut out = io::stderr();
    if out.is_terminal() {
        let _nobody_watches = write!(out, "\r\x1b[K");
    }
}

const BAR: usize = 30;
