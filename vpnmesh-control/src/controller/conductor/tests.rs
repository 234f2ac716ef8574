use vpnmesh_core::{
    HealthReport, NodeSample, PublicKey, Region, ThresholdPredictor, Verdict, Version,
};

use super::*;

fn founding() -> Membership {
    let node = |id: u64| NodeEntry {
        id: NodeId(id),
        name: format!("n{id}"),
        region: Region(format!("r{id}")),
        key: PublicKey([id as u8; 32]),
        addresses: Vec::new(),
        state: NodeState::Active,
    };
    Membership {
        nodes: (1..=3).map(node).collect(),
        ..Membership::default()
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

/// A conductor that leads what `state` says, all written down.
fn leading(state: MeshState, term: u64) -> Conductor {
    let predictor = Box::new(ThresholdPredictor::default());
    let mut conductor = Conductor::new(EnginePolicy::default(), predictor).unwrap();
    conductor.handle_recovery(state, term, &founding(), at(0));
    write(&mut conductor, at(0));
    conductor
}

fn write(conductor: &mut Conductor, now: Timestamp) {
    while let Some(entry) = conductor.next_entry() {
        conductor.handle_written(&entry, now);
    }
}

fn hello(incarnation: u64) -> Hello {
    Hello {
        name: "n1".into(),
        incarnation,
        random: [1; 16],
        seen: Version::default(),
        software: String::new(),
    }
}

fn state_of(conductor: &Conductor, node: u64) -> NodeState {
    conductor.state().node(NodeId(node)).unwrap().state
}

fn disk_full() -> Error {
    Error::write(
        std::path::Path::new("log"),
        std::io::ErrorKind::StorageFull.into(),
    )
}

/// `n1` dies by the word of both others, written down or not.
fn kill(conductor: &mut Conductor, now: Timestamp) {
    for from in [2, 3] {
        let report = AgentReport::Health(HealthReport {
            from: NodeId(from),
            about: NodeId(1),
            verdict: Verdict::Silent,
            risk: None,
            path: None,
            own_delay: Duration::ZERO,
        });
        conductor.handle_report(
            NodeId(from),
            AgentReport::Sample(NodeSample::default()),
            now,
        );
        conductor.handle_report(NodeId(from), report, now);
    }
}

#[test]
fn nothing_is_brought_about_before_it_is_written_down() {
    let mut conductor = leading(MeshState::default(), 1);
    while conductor.poll_effect().is_some() {}
    kill(&mut conductor, at(100));
    assert!(conductor.next_entry().is_some());
    assert_eq!(conductor.poll_effect(), None);
    assert_eq!(state_of(&conductor, 1), NodeState::Active);
    write(&mut conductor, at(100));
    assert_eq!(state_of(&conductor, 1), NodeState::Removed);
    assert!(matches!(conductor.poll_effect(), Some(Effect::Ordered(_))));
}

#[test]
fn on_a_full_disk_operators_are_told_and_automation_tries_again() {
    let mut conductor = leading(MeshState::default(), 1);
    conductor.handle_change(Change::Hold(NodeId(2)), 7);
    kill(&mut conductor, at(100));
    assert!(conductor.next_entry().is_some());
    assert!(conductor.handle_failure(disk_full()), "an operator's");
    let (ticket, answer) = conductor.poll_answer().unwrap();
    assert_eq!(ticket, 7);
    assert!(answer.unwrap_err().to_string().contains("free some space"));
    assert!(!conductor.handle_failure(disk_full()), "automation's");
    conductor.handle_change(Change::Hold(NodeId(2)), 8);
    conductor.refuse_waiting();
    assert!(matches!(
        conductor.poll_answer(),
        Some((8, Err(Error::Denied { .. })))
    ));
    assert_eq!(conductor.status().notes.len(), 1, "the same is said once");
    write(&mut conductor, at(200));
    assert_eq!(state_of(&conductor, 1), NodeState::Removed);
    assert!(!conductor.state().held().contains(&NodeId(2)));
}

#[test]
fn a_node_that_an_operator_removed_stays_out_until_he_takes_it_back() {
    let mut conductor = leading(MeshState::default(), 1);
    conductor.handle_hello(&hello(1)).unwrap();
    conductor.handle_change(Change::Remove(NodeId(1)), 1);
    write(&mut conductor, at(0));
    conductor.handle_hello(&hello(2)).unwrap();
    write(&mut conductor, at(100));
    conductor.handle_timeout(at(100_000));
    write(&mut conductor, at(100_000));
    assert_eq!(state_of(&conductor, 1), NodeState::Removed);
    conductor.handle_change(Change::Undrain(NodeId(1)), 2);
    write(&mut conductor, at(100_001));
    assert_eq!(state_of(&conductor, 1), NodeState::Active);
}

#[test]
fn a_node_that_automation_removed_comes_back_also_under_the_next_controller() {
    let mut former = leading(MeshState::default(), 1);
    former.handle_hello(&hello(1)).unwrap();
    kill(&mut former, at(100));
    write(&mut former, at(100));
    assert_eq!(state_of(&former, 1), NodeState::Removed);

    let mut next = leading(former.state().clone(), 2);
    next.handle_hello(&hello(1)).unwrap();
    write(&mut next, at(0));
    assert_eq!(
        state_of(&next, 1),
        NodeState::Removed,
        "the same old process"
    );
    next.handle_hello(&hello(2)).unwrap();
    write(&mut next, at(10));
    assert_eq!(state_of(&next, 1), NodeState::Active);
}

#[test]
fn holds_and_freezes_survive_the_controller() {
    let mut former = leading(MeshState::default(), 1);
    former.handle_change(Change::Hold(NodeId(1)), 1);
    former.handle_change(Change::Freeze, 2);
    write(&mut former, at(0));
    let next = leading(former.state().clone(), 2);
    let status = next.status();
    assert!(status.frozen);
    assert!(status.nodes[0].engine.as_ref().unwrap().held);
    assert_eq!(status.version.term, 2);
}

#[test]
fn an_absurd_version_of_a_node_moves_nothing() {
    let mut conductor = leading(MeshState::default(), 1);
    let seen = Version {
        term: u64::MAX,
        index: 0,
    };
    conductor.handle_hello(&Hello { seen, ..hello(1) }).unwrap();
    write(&mut conductor, at(0));
    assert_eq!(conductor.state().version().term, 1);
}

#[test]
fn a_clone_with_the_same_counter_is_told_to_start_anew() {
    let mut conductor = leading(MeshState::default(), 1);
    conductor.handle_hello(&hello(3)).unwrap();
    write(&mut conductor, at(0));
    conductor.handle_hello(&hello(3)).unwrap(); // the same process again
    let random = [2; 16];
    let refused = conductor.handle_hello(&Hello { random, ..hello(3) });
    let node = NodeId(1);
    assert!(matches!(
        refused,
        Err(Error::Refused(Refusal::Incarnation { seen: 3, .. }))
    ));
    conductor
        .handle_hello(&Hello { random, ..hello(4) })
        .unwrap();
    write(&mut conductor, at(0));
    assert_eq!(conductor.state().incarnation(node), Some(4));
}

/// `n1` lives again from second `from` to `until`; when it was taken back.
fn taken_back(conductor: &mut Conductor, from: u64, until: u64) -> Option<u64> {
    (from..until).find(|second| {
        let now = at(second * 1000);
        let sample = AgentReport::Sample(NodeSample::default());
        conductor.handle_report(NodeId(1), sample, now);
        conductor.handle_timeout(now);
        write(conductor, now);
        state_of(conductor, 1) == NodeState::Active
    })
}

#[test]
fn a_removed_node_that_lives_on_is_taken_back_after_the_dwell() {
    let mut conductor = leading(MeshState::default(), 1);
    kill(&mut conductor, at(100));
    write(&mut conductor, at(100));
    assert_eq!(state_of(&conductor, 1), NodeState::Removed);
    assert_eq!(taken_back(&mut conductor, 30, 60), Some(40));

    kill(&mut conductor, at(70_000));
    write(&mut conductor, at(70_000));
    let mut next = leading(conductor.state().clone(), 2);
    assert_eq!(state_of(&next, 1), NodeState::Removed);
    let lived_on = taken_back(&mut next, 80, 120);
    assert_eq!(lived_on, None, "the next controller does not know why");
    next.handle_hello(&hello(2)).unwrap();
    write(&mut next, at(120_000));
    assert_eq!(state_of(&next, 1), NodeState::Active, "a new start");
}
