//! Seeds that once broke a law, by what was wrong then.

use vpnmesh_testkit::sim::play::play;

fn holds(seeds: &[u64]) {
    for seed in seeds {
        assert_eq!(play(*seed).broken, None, "seed {seed}");
    }
}

#[test]
fn timers_that_nothing_serves_do_not_fire() {
    holds(&[12, 43, 45, 48, 54]);
}

#[test]
fn a_resumed_site_waits_for_fresh_statements() {
    holds(&[14, 21]);
}

#[test]
fn a_resumed_client_never_uses_a_generation_again() {
    holds(&[12]);
}

#[test]
fn shadows_forget_sessions_that_ended() {
    holds(&[88, 191]);
}

#[test]
fn a_client_that_its_clone_outdid_hears_of_it() {
    holds(&[214]);
}

#[test]
fn a_move_turned_back_twice_within_a_round_trip_loses_nothing() {
    holds(&[662]);
}
