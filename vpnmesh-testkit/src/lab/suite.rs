//! Tests inside a lab: a `main` for test programs without a harness.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use super::{Inside, Refusal, enter, probe_report};
use crate::left_out::leave_out;

/// A test by name; it panics if it fails.
pub type Test = (&'static str, fn(Inside));

/// Enters fresh namespaces and runs the tests one after another, those whose name contains the
/// first plain argument of the program. The last line says `N passed, N failed`.
///
/// Call it first thing in `main`: namespaces are entered before any thread starts. A machine that
/// refuses them leaves the suite out and says why; with `CI=true` that is a failure unless the
/// kernel lacks them.
#[must_use]
pub fn run_suite(suite: &str, tests: &[Test]) -> ExitCode {
    let filter = std::env::args().skip(1).find(|it| !it.starts_with('-'));
    let filter = filter.unwrap_or_default();
    match enter() {
        Ok(inside) => run(inside, suite, tests, &filter),
        Err(refusal) => refused(suite, &refusal),
    }
}

fn run(inside: Inside, suite: &str, tests: &[Test], filter: &str) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(filter)) {
        let held = catch_unwind(AssertUnwindSafe(|| test(inside))).is_ok();
        println!("{suite}::{name} ... {}", if held { "ok" } else { "FAILED" });
        *(if held { &mut passed } else { &mut failed }) += 1;
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What a suite is that needs `tool`, which this machine does not have.
#[must_use]
pub fn tool_is_missing(suite: &str, tool: &str) -> ExitCode {
    let why = format!("{tool} is missing; scripts/test installs it");
    end(leave_out(suite, &why, None))
}

/// What a suite is on a machine that refuses namespaces.
#[must_use]
pub fn refused(suite: &str, refusal: &Refusal) -> ExitCode {
    let probe = probe_report();
    let why = format!("{refusal}; to allow it: {}; {probe}", refusal.remedy());
    let proof = refusal.kernel_lacks_it().then_some(probe.as_str());
    end(leave_out(suite, &why, proof))
}

fn end(demanded: bool) -> ExitCode {
    println!("0 passed, {} failed", u8::from(demanded));
    ExitCode::from(u8::from(demanded))
}
