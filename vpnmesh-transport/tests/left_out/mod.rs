//! What a machine cannot run is said, and never passes for tested.

use std::io::Write;

/// Says that `suite` is left out. With `CI=true` that is a failure, unless `proof` holds the output
/// of a probe that shows that the kernel lacks the facility.
pub(crate) fn left_out(suite: &str, why: &str, proof: Option<String>) {
    // Written past the capture of the test harness.
    let mut out = std::io::stderr();
    let _ = writeln!(out, "LEFT OUT: {suite}: {why}");
    if let Some(proof) = &proof {
        let _ = writeln!(out, "LEFT OUT: {suite}: probe: {proof}");
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(
        !ci || proof.is_some(),
        "{suite} may not be left out here: {why}"
    );
}
