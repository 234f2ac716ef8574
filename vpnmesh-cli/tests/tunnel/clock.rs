//! A clock that goes back between two starts.

use vpnmesh_testkit::lab::Inside;

use super::clock_shim::{ClockShim, DAY, now};
use super::rig::Pair;

/// Lives are numbered by the calendar: a life that begins below the last one must be told so by its
/// peer, and goes on above it.
pub(crate) fn a_clock_that_went_back(inside: Inside) {
    let pair = Pair::new(inside);
    let shim = ClockShim::build(pair.directory.path());
    pair.make_devices();
    let a = pair.a.start(&pair.b, &[]);
    let b = pair.b.start(&pair.a, &["--json"]);
    assert_eq!(a.line(), "ready");
    b.event("ready");
    pair.ping();
    a.dies();
    for seconds in [DAY, now() + DAY] {
        // The second one is before 1970.
        let a = pair
            .a
            .start_with(&pair.b, &[], |command| shim.set_back(command, seconds));
        assert_eq!(a.line(), "ready");
        b.event("restarted");
        pair.ping();
        a.dies();
    }
    b.ends_well();
}
