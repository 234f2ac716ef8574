//! Scores one task without the rest of the program: `score TASK DATA [TRAIN]`.
//!
//! You will see each figure beside those of plain methods. `vpnmesh predict eval` does the same
//! over several seeds.

use std::path::Path;
use std::process::ExitCode;

use vpnmesh_predict::task::{NAMES, Request, evaluate};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [task, data, train @ ..] = &arguments[..] else {
        println!("score TASK DATA [TRAIN], with one of {}", NAMES.join(", "));
        return ExitCode::SUCCESS;
    };
    let request = Request {
        data: Path::new(data),
        train: train.first().map(Path::new),
        seed: 1,
        seeds: 1,
        progress: |_, _, _| {},
    };
    match evaluate(task, request) {
        Ok(report) => print!("{report}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
