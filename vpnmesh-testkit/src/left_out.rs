//! Suites that a machine cannot run: named, and never taken for tested.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that `suite` is left out and why, past the capture of the test harness, and adds the line to
/// the file that the variable `VPNMESH_LEFT_OUT` names, if it does: `scripts/test` lists all at its
/// end.
///
/// True if the caller must fail: with `CI=true`, unless `proof` holds the output of a probe which
/// shows that the kernel lacks the facility.
#[must_use]
pub fn leave_out(suite: &str, why: &str, proof: Option<&str>) -> bool {
    let line = format!("{suite}: {why}");
    let mut out = std::io::stderr();
    let _nobody_reads = writeln!(out, "LEFT OUT: {line}");
    if let Some(proof) = proof {
        let _nobody_reads = writeln!(out, "LEFT OUT: {suite}: probe: {proof}");
    }
    if let Some(list) = std::env::var_os("VPNMESH_LEFT_OUT") {
        let list = OpenOptions::new().create(true).append(true).open(list);
        // In one write: other tests add theirs at the same time.
        let line = format!("{line}\n");
        let _it_was_said_above = list.and_then(|mut list| list.write_all(line.as_bytes()));
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    ci && proof.is_none()
}
