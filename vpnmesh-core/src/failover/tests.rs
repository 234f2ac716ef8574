use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ActionKind;

const NODE: NodeId = NodeId(1);
const FIRST: NodeId = NodeId(2);
const SECOND: NodeId = NodeId(3);

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

fn risk(probability: f64) -> Forecast {
    Forecast {
        probability: Ratio::saturating(probability),
        horizon: Duration::from_secs(10),
        lead: None,
        evidence: Vec::new(),
        confidence: Ratio::ONE,
    }
}

fn dead() -> Cause {
    Cause::Dead {
        witnesses: vec![FIRST, SECOND],
        unheard: false,
    }
}

fn failover() -> Failover {
    let mut failover = Failover::new(NODE, FailoverPolicy::default());
    failover.handle_surroundings(&[FIRST, SECOND], Permit::Free, at(0));
    failover
}

fn actions(failover: &mut Failover) -> Vec<ActionKind> {
    std::iter::from_fn(|| failover.poll_action())
        .map(|action| action.kind)
        .collect()
}

fn shares(failover: &mut Failover) -> Vec<f64> {
    let share = |kind| match kind {
        ActionKind::SetShare { share, .. } => Some(share.get()),
        _ => None,
    };
    actions(failover).into_iter().filter_map(share).collect()
}

fn declined(failover: &mut Failover) -> Vec<Refusal> {
    let records = std::iter::from_fn(|| failover.poll_record());
    let refusal = |record| match record {
        Record::Decided(Decision::Declined(refusal), _) => Some(refusal),
        _ => None,
    };
    records.filter_map(refusal).collect()
}

fn run_until(failover: &mut Failover, end: Timestamp) {
    while failover.poll_timeout() <= end {
        let now = failover.poll_timeout();
        failover.handle_timeout(now);
    }
}

/// Shifting to `FIRST`, three steps of 10, 40 and 70 % taken, the last one at 2 s.
fn shifting() -> Failover {
    let mut failover = failover();
    failover.handle_forecast(&risk(0.9), at(0));
    failover.handle_standby_ready(FIRST, at(0));
    run_until(&mut failover, at(2500));
    actions(&mut failover);
    failover
}

#[test]
fn weight_moves_in_steps_and_the_empty_node_is_removed() {
    let mut failover = failover();
    failover.handle_forecast(&risk(0.6), at(0));
    let warm = ActionKind::WarmStandby {
        node: NODE,
        standby: FIRST,
    };
    assert_eq!(actions(&mut failover), [warm]);
    failover.handle_standby_ready(FIRST, at(200));
    run_until(&mut failover, at(3200));
    assert_eq!(shares(&mut failover), [0.1, 0.4, 0.7, 1.0]);
    assert_eq!(failover.state(), FailoverState::Draining { standby: FIRST });
    failover.handle_drained(at(3300));
    assert_eq!(
        actions(&mut failover),
        [ActionKind::RemoveNode { node: NODE }]
    );
    assert_eq!(failover.poll_timeout(), Timestamp::MAX);
}

#[test]
fn below_the_threshold_nothing_happens() {
    let mut failover = failover();
    failover.handle_forecast(&risk(0.59), at(0));
    assert_eq!(failover.poll_action(), None);
}

#[test]
fn a_node_that_never_says_that_it_is_empty_is_removed_all_the_same() {
    let mut failover = shifting();
    run_until(&mut failover, at(8000));
    assert_eq!(failover.state(), FailoverState::Removed);
    let records: Vec<Record> = std::iter::from_fn(|| failover.poll_record()).collect();
    assert!(records.contains(&Record::Followed(OutcomeKind::DrainTimedOut)));
}

#[test]
fn a_risk_that_recedes_halts_the_move_and_turns_it_back_after_the_dwell() {
    let mut failover = shifting();
    failover.handle_forecast(&risk(0.1), at(2600));
    run_until(&mut failover, at(12_500));
    assert_eq!(shares(&mut failover), [0.0; 0]);
    assert!(matches!(failover.state(), FailoverState::Holding { .. }));
    run_until(&mut failover, at(20_000));
    assert_eq!(shares(&mut failover), [0.4, 0.1, 0.0]);
    assert_eq!(failover.state(), FailoverState::Healthy);
}

#[test]
fn a_risk_that_returns_goes_on_where_it_halted() {
    let mut failover = shifting();
    failover.handle_forecast(&risk(0.1), at(2600));
    failover.handle_forecast(&risk(0.8), at(4000));
    run_until(&mut failover, at(5100));
    assert_eq!(shares(&mut failover), [1.0]);
}

#[test]
fn a_standby_that_fails_makes_room_for_the_next_and_the_node_keeps_its_traffic() {
    let mut failover = failover();
    failover.handle_forecast(&risk(0.9), at(0));
    actions(&mut failover);
    failover.handle_standby_failed(FIRST, StandbyFailure::DidNotStart, at(100));
    let release = ActionKind::ReleaseStandby {
        node: NODE,
        standby: FIRST,
    };
    let warm = ActionKind::WarmStandby {
        node: NODE,
        standby: SECOND,
    };
    assert_eq!(actions(&mut failover), [release, warm]);
    run_until(&mut failover, at(5200));
    assert_eq!(
        failover.state(),
        FailoverState::Healthy,
        "the second timed out"
    );
    assert_eq!(declined(&mut failover), [Refusal::NoCandidate]);
}

#[test]
fn a_standby_that_falls_sick_in_mid_shift_gives_everything_back_first() {
    let mut failover = shifting();
    failover.handle_surroundings(&[SECOND], Permit::Free, at(2600));
    let back = ActionKind::SetShare {
        node: NODE,
        to: FIRST,
        share: Ratio::ZERO,
    };
    let release = ActionKind::ReleaseStandby {
        node: NODE,
        standby: FIRST,
    };
    let warm = ActionKind::WarmStandby {
        node: NODE,
        standby: SECOND,
    };
    assert_eq!(actions(&mut failover), [back, release, warm]);
}

#[test]
fn without_any_healthy_node_the_old_one_keeps_its_traffic_and_says_so() {
    let mut failover = failover();
    failover.handle_surroundings(&[], Permit::Free, at(0));
    failover.handle_forecast(&risk(0.9), at(0));
    failover.handle_forecast(&risk(0.95), at(100));
    assert_eq!(failover.poll_action(), None);
    assert_eq!(declined(&mut failover), [Refusal::NoCandidate]);
    failover.handle_surroundings(&[SECOND], Permit::Free, at(200));
    assert!(
        failover.state().is_moving(),
        "it tries again when one appears"
    );
}

#[test]
fn an_operators_drain_takes_the_same_path_and_no_forecast_turns_it_back() {
    let mut failover = failover();
    failover.handle_surroundings(&[FIRST], Permit::Frozen, at(0));
    failover.handle_drain(at(0));
    failover.handle_standby_ready(FIRST, at(0));
    failover.handle_forecast(&risk(0.0), at(500));
    run_until(&mut failover, at(3000));
    assert_eq!(shares(&mut failover), [0.1, 0.4, 0.7, 1.0]);
}

#[test]
fn an_undrain_turns_back_even_from_full_weight() {
    let mut failover = shifting();
    run_until(&mut failover, at(3100));
    assert_eq!(shares(&mut failover), [1.0]);
    failover.handle_undrain(at(3200));
    run_until(&mut failover, at(9000));
    assert_eq!(shares(&mut failover), [0.7, 0.4, 0.1, 0.0]);
    failover.handle_forecast(&risk(0.9), at(9000));
    assert_eq!(declined(&mut failover), [Refusal::Dwell]);
}

#[test]
fn a_removed_node_returns_by_a_new_start_after_the_dwell_and_gets_no_traffic() {
    let mut failover = failover();
    failover.handle_dead(dead(), at(0));
    assert_eq!(
        actions(&mut failover),
        [ActionKind::RemoveNode { node: NODE }]
    );
    failover.handle_forecast(&risk(0.0), at(100));
    assert_eq!(
        failover.state(),
        FailoverState::Removed,
        "no automatic fail-back"
    );
    failover.handle_joined(at(200));
    assert_eq!(failover.poll_timeout(), at(10_000));
    failover.handle_timeout(at(10_000));
    assert_eq!(
        actions(&mut failover),
        [ActionKind::RestoreNode { node: NODE }]
    );
}

#[test]
fn a_node_that_an_operator_drained_returns_by_an_operator_only() {
    let mut failover = failover();
    failover.handle_drain(at(0));
    failover.handle_dead(dead(), at(100));
    failover.handle_joined(at(200));
    run_until(&mut failover, at(60_000));
    assert_eq!(failover.state(), FailoverState::Removed);
    failover.handle_undrain(at(60_000));
    assert_eq!(failover.state(), FailoverState::Healthy);
}

#[test]
fn a_frozen_move_rests_and_goes_on_after_the_thaw() {
    let mut failover = shifting();
    failover.handle_surroundings(&[FIRST], Permit::Frozen, at(2600));
    failover.handle_timeout(at(9000));
    assert_eq!(failover.poll_action(), None);
    assert_eq!(failover.poll_timeout(), Timestamp::MAX);
    failover.handle_surroundings(&[FIRST], Permit::Free, at(9000));
    assert_eq!(shares(&mut failover), [1.0]);
}

#[test]
fn a_held_node_is_moved_by_nobody_but_an_operator() {
    let mut failover = failover();
    failover.handle_hold(true, at(0));
    failover.handle_forecast(&risk(1.0), at(0));
    failover.handle_evict(at(1));
    assert_eq!(failover.poll_action(), None);
    assert_eq!(declined(&mut failover), [Refusal::HeldByOperator]);
    failover.handle_drain(at(2));
    assert!(failover.state().is_moving());
}

#[test]
fn eviction_ignores_a_freeze() {
    let mut failover = failover();
    failover.handle_surroundings(&[FIRST], Permit::Frozen, at(0));
    failover.handle_evict(at(0));
    assert!(failover.state().is_moving());
}

/// Anything a caller can do to one machine.
#[derive(Clone, Debug)]
enum Input {
    Forecast(f64),
    Ready,
    Failed,
    Drained,
    Dead,
    Joined,
    Drain,
    Evict,
    Undrain,
    Hold(bool),
    Around(usize, Permit),
    Timeout,
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        6 => (0.0..1.0).prop_map(Input::Forecast),
        4 => Just(Input::Ready),
        1 => Just(Input::Failed),
        1 => Just(Input::Drained),
        1 => Just(Input::Dead),
        1 => Just(Input::Joined),
        1 => Just(Input::Drain),
        1 => Just(Input::Evict),
        1 => Just(Input::Undrain),
        1 => any::<bool>().prop_map(Input::Hold),
        2 => (0..3_usize, prop_oneof![Just(Permit::Free), Just(Permit::Spent), Just(Permit::Frozen)])
            .prop_map(|(count, permit)| Input::Around(count, permit)),
        6 => Just(Input::Timeout),
    ]
}

fn feed(failover: &mut Failover, input: &Input, now: Timestamp) {
    let standby = failover.state().standby().unwrap_or(FIRST);
    match input {
        Input::Forecast(p) => failover.handle_forecast(&risk(*p), now),
        Input::Ready => failover.handle_standby_ready(standby, now),
        Input::Failed => {
            failover.handle_standby_failed(standby, StandbyFailure::DidNotSynchronise, now);
        }
        Input::Drained => failover.handle_drained(now),
        Input::Dead => failover.handle_dead(dead(), now),
        Input::Joined => failover.handle_joined(now),
        Input::Drain => failover.handle_drain(now),
        Input::Evict => failover.handle_evict(now),
        Input::Undrain => failover.handle_undrain(now),
        Input::Hold(held) => failover.handle_hold(*held, now),
        Input::Around(count, permit) => {
            failover.handle_surroundings(&[FIRST, SECOND][..*count], *permit, now);
        }
        Input::Timeout => failover.handle_timeout(now),
    }
}

proptest! {
    #[test]
    fn weights_change_by_at_most_one_step_per_interval_and_bounds_hold(
        inputs in proptest::collection::vec((any_input(), 0_u64..3000), 1..200)
    ) {
        let mut failover = failover();
        let policy = *failover.policy();
        let mut now = at(0);
        let mut share = 0.0;
        let mut stepped_up = None;
        for (input, pause) in inputs {
            now += Duration::from_millis(pause);
            feed(&mut failover, &input, now);
            for kind in actions(&mut failover) {
                match kind {
                    ActionKind::SetShare { share: to, .. } if to.get() > share => {
                        prop_assert!(to.get() - share <= policy.step_size.get() + 1e-6);
                        if let Some(last) = stepped_up && share > 0.0 {
                            prop_assert!(now.since(last) >= FailoverPolicy::MIN_STEP_INTERVAL);
                        }
                        stepped_up = Some(now);
                        share = to.get();
                    }
                    ActionKind::SetShare { share: to, .. } => share = to.get(),
                    ActionKind::RemoveNode { .. } | ActionKind::RestoreNode { .. } => share = 0.0,
                    _ => {}
                }
            }
            if failover.state().is_moving() {
                prop_assert!((failover.state().share().get() - share).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn what_is_frozen_acts_by_greater_authority_only(
        inputs in proptest::collection::vec((any_input(), 0_u64..3000), 1..200)
    ) {
        let mut failover = failover();
        let mut now = at(0);
        let mut frozen = false;
        for (input, pause) in inputs {
            now += Duration::from_millis(pause);
            if let Input::Around(_, permit) = &input {
                frozen = *permit == Permit::Frozen;
            }
            feed(&mut failover, &input, now);
            for action in std::iter::from_fn(|| failover.poll_action()) {
                prop_assert!(!frozen || action.cause.authority() > crate::Authority::Policy, "{action:?}");
            }
        }
    }

    #[test]
    fn timeouts_always_make_progress(
        inputs in proptest::collection::vec((any_input(), 0_u64..3000), 1..100)
    ) {
        let mut failover = failover();
        let mut now = at(0);
        for (input, pause) in inputs {
            now += Duration::from_millis(pause);
            feed(&mut failover, &input, now);
        }
        let end = now + Duration::from_secs(600);
        let mut wakes = 0;
        while failover.poll_timeout() < end {
            now = now.max(failover.poll_timeout());
            failover.handle_timeout(now);
            wakes += 1;
            prop_assert!(wakes < 1000, "a busy loop in {:?}", failover.state());
        }
    }
}
