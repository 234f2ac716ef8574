use proptest::prelude::*;

use super::*;
use crate::{
    Authority, BudgetPolicy, Evidence, FailoverState, Forecast, FreezePolicy, Metric, NodeEntry,
    PathSample, PublicKey, Ratio, Refusal, Region, Verdict, WitnessPolicy,
};

/// Believes the processor load: what a test wants the risk to be.
#[derive(Debug, Default)]
struct Scripted(BTreeMap<NodeId, Ratio>);

impl FailurePredictor for Scripted {
    fn observe(&mut self, node: NodeId, sample: &NodeSample, _now: Timestamp) {
        self.0.extend(sample.cpu.map(|cpu| (node, cpu)));
    }

    fn forecast(&self, node: NodeId, horizon: Duration, _now: Timestamp) -> Option<Forecast> {
        let probability = *self.0.get(&node)?;
        Some(Forecast {
            probability,
            horizon,
            lead: None,
            evidence: vec![Evidence {
                metric: Metric::Cpu,
                value: probability.get(),
                contribution: 1.0,
            }],
            confidence: Ratio::ONE,
        })
    }

    fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

fn membership(nodes: u64) -> Membership {
    let entry = |id: u64| NodeEntry {
        id: NodeId(id),
        name: format!("n{id}"),
        region: Region(["eu", "us", "as"][id as usize % 3].into()),
        key: PublicKey([id as u8; 32]),
        addresses: Vec::new(),
        state: NodeState::Active,
    };
    Membership {
        nodes: (1..=nodes).map(entry).collect(),
        ..Membership::default()
    }
}

fn engine_with(policy: EnginePolicy, nodes: u64) -> Engine {
    let mut engine = Engine::new(policy, Box::new(Scripted::default())).unwrap();
    engine.handle_membership(&membership(nodes), at(0));
    (1..=nodes).for_each(|node| risk(&mut engine, node, 0.1, at(0)));
    engine
}

fn engine() -> Engine {
    engine_with(EnginePolicy::default(), 5)
}

fn risk(engine: &mut Engine, node: u64, probability: f64, now: Timestamp) {
    let sample = NodeSample {
        cpu: Ratio::new(probability),
        ..NodeSample::default()
    };
    engine.handle_sample(NodeId(node), &sample, now);
}

fn silent(from: u64, about: u64) -> HealthReport {
    HealthReport {
        from: NodeId(from),
        about: NodeId(about),
        verdict: Verdict::Silent,
        risk: None,
        path: None,
        own_delay: Duration::ZERO,
    }
}

fn actions(engine: &mut Engine) -> Vec<ActionKind> {
    std::iter::from_fn(|| engine.poll_action())
        .map(|action| action.kind)
        .collect()
}

fn is_frozen_by(kinds: &[ActionKind]) -> bool {
    kinds
        .iter()
        .any(|kind| matches!(kind, ActionKind::Freeze { .. }))
}

fn state(engine: &Engine, node: u64) -> FailoverState {
    engine.node(NodeId(node)).unwrap().state
}

#[test]
fn a_predicted_failure_moves_traffic_and_removes_the_node() {
    let mut engine = engine();
    risk(&mut engine, 1, 0.9, at(100));
    let standby = state(&engine, 1).standby().unwrap();
    assert_ne!(
        engine.topology().place(standby).unwrap().region,
        Region("us".into())
    );
    engine.handle_event(
        Event::StandbyReady {
            node: NodeId(1),
            standby,
        },
        at(300),
    );
    let mut now = 300;
    while state(&engine, 1) != (FailoverState::Draining { standby }) {
        now += 100;
        (2..=5).for_each(|node| risk(&mut engine, node, 0.1, at(now)));
        engine.handle_timeout(at(now));
    }
    engine.handle_event(Event::NodeDrained { node: NodeId(1) }, at(now));
    let kinds = actions(&mut engine);
    assert_eq!(
        kinds.last(),
        Some(&ActionKind::RemoveNode { node: NodeId(1) })
    );
    let first = engine.journal().entries().next().unwrap();
    assert_eq!(first.cause.evidence()[0].metric, Metric::Cpu);
    assert_eq!(first.outcomes[0].kind, crate::OutcomeKind::StandbyReady);
}

#[test]
fn a_sick_standby_is_replaced() {
    let mut engine = engine();
    risk(&mut engine, 1, 0.9, at(100));
    let first = state(&engine, 1).standby().unwrap();
    engine.handle_event(
        Event::StandbyFailed {
            node: NodeId(1),
            standby: first,
            reason: crate::StandbyFailure::DidNotSynchronise,
        },
        at(200),
    );
    let second = state(&engine, 1).standby().unwrap();
    assert_ne!(first, second);
}

#[test]
fn two_witnesses_make_a_death_once_the_engine_hears_nothing_either() {
    let mut engine = engine();
    engine.handle_report(&silent(2, 1), at(1000));
    engine.handle_report(&silent(3, 1), at(1000));
    assert_eq!(actions(&mut engine), []);
    engine.handle_report(&silent(3, 1), at(2001));
    let action = engine.poll_action().unwrap();
    assert_eq!(action.kind, ActionKind::RemoveNode { node: NodeId(1) });
    let witnesses = vec![NodeId(2), NodeId(3)];
    let unheard = true;
    assert_eq!(action.cause, Cause::Dead { witnesses, unheard });
}

#[test]
fn the_engines_own_silence_is_the_second_witness_in_time() {
    let mut engine = engine();
    engine.handle_report(&silent(2, 1), at(1000));
    assert_eq!(actions(&mut engine), []);
    let wake = engine.poll_timeout();
    assert!(wake < at(2100) && wake > at(2000), "{wake:?}");
    engine.handle_timeout(wake);
    assert_eq!(
        actions(&mut engine),
        [ActionKind::RemoveNode { node: NodeId(1) }]
    );
}

#[test]
fn a_node_that_talks_to_the_engine_is_not_dead() {
    let mut engine = engine();
    risk(&mut engine, 1, 0.1, at(2400));
    engine.handle_report(&silent(2, 1), at(2500));
    engine.handle_report(&silent(3, 1), at(2500));
    assert_eq!(actions(&mut engine), []);
}

#[test]
fn an_engine_that_did_not_run_accuses_nobody() {
    let mut engine = engine();
    let delay = Duration::from_secs(30);
    engine.handle_event(Event::OwnDelay { delay }, at(30_000));
    engine.handle_report(&silent(2, 1), at(30_000));
    engine.handle_timeout(at(30_001));
    assert_eq!(actions(&mut engine), []);
}

#[test]
fn many_sick_nodes_at_once_freeze_automation() {
    let mut engine = engine();
    risk(&mut engine, 1, 0.9, at(100));
    actions(&mut engine);
    risk(&mut engine, 2, 0.9, at(200));
    assert_eq!(
        actions(&mut engine),
        [ActionKind::Freeze { sick: 2, of: 5 }]
    );
    let standby = state(&engine, 1).standby().unwrap();
    engine.handle_event(
        Event::StandbyReady {
            node: NodeId(1),
            standby,
        },
        at(300),
    );
    assert_eq!(actions(&mut engine), []);
    assert_eq!(
        engine.node(NodeId(2)).unwrap().declined,
        Some(Refusal::Frozen)
    );
    engine.handle_command(Command::Thaw, at(400)).unwrap();
    assert!(
        engine
            .poll_action()
            .is_some_and(|a| a.kind == ActionKind::Thaw)
    );
    assert!(!actions(&mut engine).is_empty(), "moves go on");
}

#[test]
fn nodes_that_leave_on_purpose_do_not_freeze() {
    let mut engine = engine();
    for node in [1, 2] {
        engine
            .handle_command(Command::Drain { node: NodeId(node) }, at(100))
            .unwrap();
        risk(&mut engine, node, 0.9, at(200));
    }
    risk(&mut engine, 3, 0.9, at(300));
    assert!(!is_frozen_by(&actions(&mut engine)));
}

#[test]
fn the_budget_is_kept_and_the_next_move_waits_for_its_turn() {
    let policy = EnginePolicy {
        budget: BudgetPolicy {
            concurrent: 1,
            ..BudgetPolicy::default()
        },
        freeze: FreezePolicy {
            share: Ratio::ONE,
            ..FreezePolicy::default()
        },
        ..EnginePolicy::default()
    };
    let mut engine = engine_with(policy, 5);
    risk(&mut engine, 1, 0.9, at(100));
    risk(&mut engine, 2, 0.9, at(200));
    assert_eq!(
        engine.node(NodeId(2)).unwrap().declined,
        Some(Refusal::Budget)
    );
    risk(&mut engine, 1, 0.1, at(300));
    assert!(state(&engine, 2).is_moving(), "the first move ended");
}

#[test]
fn strangers_are_counted_and_change_nothing() {
    let mut engine = engine();
    risk(&mut engine, 99, 0.9, at(100));
    engine.handle_report(&silent(99, 1), at(100));
    engine.handle_event(Event::NodeJoined { node: NodeId(99) }, at(100));
    assert_eq!(engine.strangers(), 3);
    let unknown = Error::UnknownNode { node: NodeId(99) };
    let refused = engine.handle_command(Command::Drain { node: NodeId(99) }, at(100));
    assert_eq!(refused, Err(unknown));
}

#[test]
fn a_new_engine_goes_on_with_a_drain_that_it_finds() {
    let mut found = membership(3);
    found.nodes[0].state = NodeState::Draining;
    let mut engine = Engine::new(EnginePolicy::default(), Box::new(Scripted::default())).unwrap();
    engine.handle_membership(&found, at(0));
    risk(&mut engine, 2, 0.1, at(100));
    engine.handle_timeout(at(100));
    let warm = ActionKind::WarmStandby {
        node: NodeId(1),
        standby: NodeId(2),
    };
    assert_eq!(actions(&mut engine), [warm]);
}

#[derive(Clone, Debug)]
enum Input {
    Risk(u64, f64),
    Silent(u64, u64),
    Ready(u64),
    Failed(u64),
    Drained(u64),
    Joined(u64),
    Command(Command),
    Timeout,
}

fn any_input() -> impl Strategy<Value = Input> {
    let node = || 1_u64..6;
    let command = (node(), 0..7_usize).prop_map(|(node, which)| {
        let node = NodeId(node);
        Input::Command(match which {
            0 => Command::Drain { node },
            1 => Command::Undrain { node },
            2 => Command::Evict { node },
            3 => Command::Hold { node },
            4 => Command::Release { node },
            5 => Command::Freeze,
            _ => Command::Thaw,
        })
    });
    prop_oneof![
        8 => (node(), 0.0..1.0).prop_map(|(node, risk)| Input::Risk(node, risk)),
        2 => (node(), node()).prop_map(|(from, about)| Input::Silent(from, about)),
        3 => node().prop_map(Input::Ready),
        1 => node().prop_map(Input::Failed),
        1 => node().prop_map(Input::Drained),
        1 => node().prop_map(Input::Joined),
        1 => command,
        4 => Just(Input::Timeout),
    ]
}

fn feed(engine: &mut Engine, input: &Input, now: Timestamp) {
    let standby = |engine: &Engine, node| state(engine, node).standby().unwrap_or(NodeId(5));
    match input {
        Input::Risk(node, probability) => risk(engine, *node, *probability, now),
        Input::Silent(from, about) => engine.handle_report(&silent(*from, *about), now),
        Input::Ready(node) => {
            let standby = standby(engine, *node);
            let node = NodeId(*node);
            engine.handle_event(Event::StandbyReady { node, standby }, now);
        }
        Input::Failed(node) => {
            let standby = standby(engine, *node);
            let (node, reason) = (NodeId(*node), crate::StandbyFailure::DidNotStart);
            engine.handle_event(
                Event::StandbyFailed {
                    node,
                    standby,
                    reason,
                },
                now,
            );
        }
        Input::Drained(node) => {
            engine.handle_event(
                Event::NodeDrained {
                    node: NodeId(*node),
                },
                now,
            );
        }
        Input::Joined(node) => engine.handle_event(
            Event::NodeJoined {
                node: NodeId(*node),
            },
            now,
        ),
        Input::Command(command) => engine.handle_command(*command, now).unwrap(),
        Input::Timeout => engine.handle_timeout(now),
    }
}

fn any_inputs() -> impl Strategy<Value = Vec<(Input, u64)>> {
    proptest::collection::vec((any_input(), 0_u64..1500), 1..150)
}

proptest! {
    #[test]
    fn no_more_automatic_moves_run_than_the_budget_allows(inputs in any_inputs()) {
        let mut engine = engine();
        let mut now = at(0);
        for (input, pause) in inputs {
            now += Duration::from_millis(pause);
            feed(&mut engine, &input, now);
            let automatic = |watched: &&Watched| watched.failover.origin() == Some(Origin::Forecast);
            let running = engine.nodes.values().filter(automatic).count();
            prop_assert!(running <= engine.policy.budget.concurrent as usize);
        }
    }

    #[test]
    fn while_frozen_automation_does_nothing_but_thaw(inputs in any_inputs()) {
        let mut engine = engine();
        let mut now = at(0);
        let mut frozen = false;
        for (input, pause) in inputs {
            now += Duration::from_millis(pause);
            feed(&mut engine, &input, now);
            for action in std::iter::from_fn(|| engine.poll_action()) {
                match action.kind {
                    ActionKind::Freeze { .. } => frozen = true,
                    ActionKind::Thaw => frozen = false,
                    _ => prop_assert!(!frozen || action.cause.authority() > Authority::Policy, "{action:?}"),
                }
            }
            prop_assert_eq!(frozen, engine.is_frozen());
        }
    }

    #[test]
    fn same_inputs_give_same_actions(inputs in any_inputs()) {
        let run = || {
            let mut engine = engine();
            let mut now = at(0);
            let mut done = Vec::new();
            for (input, pause) in &inputs {
                now += Duration::from_millis(*pause);
                feed(&mut engine, input, now);
                done.extend(std::iter::from_fn(|| engine.poll_action()));
            }
            done
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn every_action_stands_in_the_journal_with_its_cause(inputs in any_inputs()) {
        let mut engine = engine();
        let mut now = at(0);
        for (input, pause) in inputs {
            now += Duration::from_millis(pause);
            feed(&mut engine, &input, now);
            while let Some(action) = engine.poll_action() {
                let stands = engine.journal().entries().any(|entry| {
                    entry.at == now
                        && entry.decision == Decision::Acted(action.kind)
                        && entry.cause == action.cause
                });
                prop_assert!(stands, "{action:?}");
            }
        }
    }

    #[test]
    fn timeouts_end_in_rest(inputs in any_inputs()) {
        let mut engine = engine();
        let mut now = at(0);
        for (input, pause) in inputs {
            now += Duration::from_millis(pause);
            feed(&mut engine, &input, now);
        }
        let end = now + Duration::from_secs(300);
        let mut wakes = 0;
        while engine.poll_timeout() < end {
            now = now.max(engine.poll_timeout());
            engine.handle_timeout(now);
            wakes += 1;
            prop_assert!(wakes < 2000, "a busy loop: {engine:?}");
        }
    }
}

fn troubled(from: u64, about: u64) -> HealthReport {
    HealthReport {
        verdict: Verdict::Troubled,
        ..silent(from, about)
    }
}

#[test]
fn loss_that_was_measured_before_the_engine_started_drains_nobody() {
    let mut engine = engine();
    let mut begun = None;
    for millis in (0..30_000).step_by(500) {
        for from in 2..=5 {
            engine.handle_report(&troubled(from, 1), at(millis));
        }
        if begun.is_none() && !actions(&mut engine).is_empty() {
            begun = Some(millis);
        }
    }
    let WitnessPolicy {
        stale_loss,
        persistence,
        ..
    } = WitnessPolicy::default();
    let soonest = (stale_loss + persistence).as_millis() as u64;
    assert!(begun.is_some_and(|millis| millis >= soonest), "{begun:?}");
}

#[test]
fn a_predictor_sees_no_loss_from_before_the_start() {
    /// Expects a failure wherever there is loss.
    #[derive(Debug, Default)]
    struct Losses(bool);
    impl FailurePredictor for Losses {
        fn observe(&mut self, _: NodeId, sample: &NodeSample, _: Timestamp) {
            self.0 = sample.paths.iter().any(|path| path.loss.is_some());
        }
        fn forecast(&self, _: NodeId, horizon: Duration, _: Timestamp) -> Option<Forecast> {
            Some(Forecast {
                probability: if self.0 { Ratio::ONE } else { Ratio::ZERO },
                horizon,
                lead: None,
                evidence: Vec::new(),
                confidence: Ratio::ONE,
            })
        }
    }
    let mut engine = Engine::new(EnginePolicy::default(), Box::new(Losses::default())).unwrap();
    engine.handle_membership(&membership(5), at(1000));
    let sample = NodeSample {
        paths: vec![PathSample {
            peer: NodeId(2),
            rtt: None,
            jitter: None,
            loss: Ratio::new(0.3),
            packets: 64,
        }],
        ..NodeSample::default()
    };
    engine.handle_sample(NodeId(1), &sample, at(16_999));
    assert!(!engine.node(NodeId(1)).unwrap().sick);
    engine.handle_sample(NodeId(1), &sample, at(17_000));
    assert!(engine.node(NodeId(1)).unwrap().sick);
}

#[test]
fn silence_counts_from_the_start() {
    let mut engine = engine();
    let well = at(2500);
    for node in 2..=5 {
        risk(&mut engine, node, 0.1, well);
        engine.handle_report(&silent(node, 1), well);
    }
    assert_eq!(state(&engine, 1), FailoverState::Removed);
}

/// `node` dies by the word of all others, and automation removes it.
fn bury(engine: &mut Engine, node: u64, now: Timestamp) {
    for other in (1..=5).filter(|other| *other != node) {
        risk(engine, other, 0.1, now);
        engine.handle_report(&silent(other, node), now);
    }
    assert_eq!(state(engine, node), FailoverState::Removed);
    actions(engine);
}

/// All nodes live from second `from` to `until`, `node` with that risk; when it was restored.
fn restored(engine: &mut Engine, node: u64, risk_of_it: f64, from: u64, until: u64) -> Option<u64> {
    for second in from..until {
        for other in 1..=5 {
            let probability = if other == node { risk_of_it } else { 0.1 };
            risk(engine, other, probability, at(second * 1000));
        }
        engine.handle_timeout(at(second * 1000));
        let node = NodeId(node);
        if actions(engine).contains(&ActionKind::RestoreNode { node }) {
            return Some(second);
        }
    }
    None
}

#[test]
fn a_removed_node_that_lives_on_comes_back_once_it_was_well_for_the_dwell() {
    let mut engine = engine();
    bury(&mut engine, 1, at(5000));
    assert_eq!(restored(&mut engine, 1, 0.9, 20, 40), None, "it is sick");
    assert_eq!(restored(&mut engine, 1, 0.1, 40, 45), None, "not for long");
    assert_eq!(restored(&mut engine, 1, 0.9, 45, 46), None, "sick again");
    assert_eq!(restored(&mut engine, 1, 0.1, 46, 70), Some(56));
}

/// Carries a move of `node` out until it is removed.
fn empty(engine: &mut Engine, node: u64, risk_of_it: f64) {
    for millis in (0..20_000).step_by(100) {
        for other in 1..=5 {
            let probability = if other == node { risk_of_it } else { 0.1 };
            risk(engine, other, probability, at(millis));
        }
        engine.handle_timeout(at(millis));
        if let Some(standby) = state(engine, node).standby() {
            let node = NodeId(node);
            engine.handle_event(Event::StandbyReady { node, standby }, at(millis));
        }
    }
    assert_eq!(state(engine, node), FailoverState::Removed);
    actions(engine);
}

#[test]
fn a_node_that_was_left_for_a_reason_does_not_come_back_because_it_lives() {
    let mut engine = engine();
    empty(&mut engine, 1, 0.9);
    assert_eq!(restored(&mut engine, 1, 0.1, 20, 60), None);

    let mut engine = self::engine();
    let node = NodeId(1);
    let drain = Command::Drain { node };
    engine.handle_command(drain, at(0)).unwrap();
    empty(&mut engine, 1, 0.1);
    assert_eq!(restored(&mut engine, 1, 0.1, 20, 60), None);
}
