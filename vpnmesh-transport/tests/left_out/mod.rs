//! What a machine cannot run is said, and never passes for tested.

#[path = "../../../vpnmesh-testkit/src/left_out.rs"]
#[allow(unreachable_pub)] // it is public in its own crate
mod shared;

/// Says that `suite` is left out. With `CI=true` that is a failure, unless `proof` holds the output
/// of a probe that shows that the kernel lacks the facility.
pub(crate) fn left_out(suite: &str, why: &str, proof: Option<String>) {
    let fails = shared::leave_out(suite, why, proof.as_deref());
    assert!(!fails, "{suite} may not be left out here: {why}");
}
