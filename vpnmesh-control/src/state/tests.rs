use proptest::prelude::*;
use vpnmesh_core::{
    ClientEntry, ClientId, Membership, NodeEntry, NodeId, NodeState, OrderKind, PublicKey, Ratio,
    Region, Tier, Version,
};

use super::{Effect, MeshState, Refusal};
use crate::{LogEntry, MeshCommand};

fn node(id: u64) -> MeshCommand {
    MeshCommand::PutNode(NodeEntry {
        id: NodeId(id),
        name: format!("n{id}"),
        region: Region("eu".into()),
        key: PublicKey([id as u8; 32]),
        addresses: vec!["192.0.2.1:51820".parse().unwrap()],
        state: NodeState::Active,
    })
}

fn client(id: u64) -> MeshCommand {
    MeshCommand::PutClient(ClientEntry {
        id: ClientId(id),
        name: format!("c{id}"),
        key: PublicKey([id as u8; 32]),
        prefixes: vec![format!("10.0.0.{id}/32").parse().unwrap()],
        tier: Tier::Standard,
    })
}

fn with(commands: impl IntoIterator<Item = MeshCommand>) -> MeshState {
    let mut state = MeshState::default();
    for command in commands {
        let entry = LogEntry::after(state.version(), command);
        state.apply(&entry).unwrap();
    }
    state
}

fn apply(state: &mut MeshState, command: MeshCommand) -> Result<Vec<Effect>, Refusal> {
    state.apply(&LogEntry::after(state.version(), command))
}

#[test]
fn nobody_joins_of_whom_the_others_could_not_be_told() {
    let mut state = with([node(1), client(2)]);
    let MeshCommand::PutNode(mut long) = node(3) else {
        unreachable!("it makes a node")
    };
    let address = long.addresses[0];
    long.addresses = vec![address; Membership::MAX_ENCODED / 8];
    let refused = apply(&mut state, MeshCommand::PutNode(long)).unwrap_err();
    assert!(matches!(refused, Refusal::Full { bytes, limit } if bytes > limit));
    assert!(state.node(NodeId(3)).is_none() && state.node(NodeId(1)).is_some());
    apply(&mut state, node(3)).unwrap();
}

#[test]
fn a_stale_entry_is_refused_whoever_leads() {
    let mut state = with([node(1)]);
    apply(&mut state, MeshCommand::Freeze(true)).unwrap();
    let begin = LogEntry::begin_term(state.version(), 3);
    state.apply(&begin).unwrap();
    let before = state.clone();
    for (term, index) in [(3, 3), (3, 2), (2, 999)] {
        let version = Version { term, index };
        let command = MeshCommand::Freeze(false);
        let refused = state.apply(&LogEntry { version, command });
        assert!(matches!(refused, Err(Refusal::Stale { .. })));
    }
    assert_eq!(state, before);
}

#[test]
fn a_refused_command_changes_nothing_but_the_version() {
    let mut state = with([node(1), client(2)]);
    let membership = state.membership();
    let unnamed = match node(3) {
        MeshCommand::PutNode(entry) => MeshCommand::PutNode(NodeEntry {
            name: "No Name!".into(),
            ..entry
        }),
        other => other,
    };
    let twin = match client(3) {
        MeshCommand::PutClient(entry) => MeshCommand::PutClient(ClientEntry {
            prefixes: vec!["10.0.0.0/24".parse().unwrap()],
            ..entry
        }),
        other => other,
    };
    let (one, nobody) = (NodeId(1), NodeId(9));
    let refused = [
        unnamed,
        twin,
        node(2),
        MeshCommand::Forget(9),
        MeshCommand::Warm {
            node: one,
            standby: one,
        },
        MeshCommand::Warm {
            node: one,
            standby: nobody,
        },
        MeshCommand::Hold {
            node: nobody,
            held: true,
        },
        MeshCommand::SetTier {
            client: ClientId(1),
            tier: Tier::Basic,
        },
    ];
    for command in refused {
        let before = state.clone();
        assert_eq!(
            state.check(&command).err(),
            apply(&mut state, command.clone()).err()
        );
        assert!(before.version() < state.version());
        assert_eq!(state.membership(), membership, "{command:?}");
        assert!(state.check(&command).is_err());
    }
}

#[test]
fn a_move_of_traffic_shows_in_state_orders_and_membership() {
    let mut state = with([node(1), node(2), node(3)]);
    let (from, to) = (NodeId(1), NodeId(2));
    let half = Ratio::saturating(0.5);
    apply(
        &mut state,
        MeshCommand::Warm {
            node: from,
            standby: to,
        },
    )
    .unwrap();
    let moved = MeshCommand::SetShare {
        node: from,
        to,
        share: half,
    };
    let effects = apply(&mut state, moved.clone()).unwrap();
    assert!(effects.contains(&Effect::MembershipChanged));
    assert_eq!(state.node(from).unwrap().state, NodeState::Draining);
    assert_eq!(state.share(from), Some((to, half)));
    let effects = apply(&mut state, moved).unwrap();
    assert!(
        !effects.contains(&Effect::MembershipChanged),
        "it was draining already"
    );

    let told = state.outstanding(to);
    assert!(matches!(told[0], Effect::Warm { standby, .. } if standby == to));
    let drains = |effect: &Effect| matches!(effect, Effect::Ordered(o) if o.kind == OrderKind::Drain && o.share == half);
    assert!(told.iter().any(drains));
    assert_eq!(
        state.outstanding(NodeId(3)).len(),
        1,
        "a bystander relays the order"
    );

    let automatic = true;
    let removed = MeshCommand::SetState {
        node: from,
        state: NodeState::Removed,
        automatic,
    };
    let effects = apply(&mut state, removed).unwrap();
    assert!(matches!(effects[0], Effect::Ordered(o) if o.kind == OrderKind::Remove));
    assert!(state.may_return().contains(&from));
    assert_eq!(state.outstanding(to), [], "the membership says it all");
}

#[test]
fn weights_that_turned_back_leave_no_trace() {
    let mut state = with([node(1), node(2)]);
    let (from, to) = (NodeId(1), NodeId(2));
    let share = |share| MeshCommand::SetShare {
        node: from,
        to,
        share,
    };
    apply(&mut state, share(Ratio::ONE)).unwrap();
    let effects = apply(&mut state, share(Ratio::ZERO)).unwrap();
    assert!(effects.contains(&Effect::MembershipChanged));
    assert_eq!(state.node(from).unwrap().state, NodeState::Active);
    assert_eq!(state.outstanding(from), []);
}

#[test]
fn a_node_never_starts_with_a_lower_incarnation() {
    let mut state = with([node(1)]);
    let start = |incarnation| MeshCommand::Started {
        node: NodeId(1),
        incarnation,
        random: [0; 16],
    };
    apply(&mut state, start(5)).unwrap();
    for incarnation in [4, 5] {
        let refused = apply(&mut state, start(incarnation));
        let node = NodeId(1);
        assert_eq!(refused, Err(Refusal::Incarnation { node, seen: 5 }));
    }
    apply(&mut state, start(6)).unwrap();
    assert_eq!(state.incarnation(NodeId(1)), Some(6));
}

#[test]
fn a_new_term_has_the_membership_signed_anew() {
    let mut state = with([node(1)]);
    let begin = LogEntry::begin_term(state.version(), 7);
    assert_eq!(state.apply(&begin), Ok(vec![Effect::MembershipChanged]));
    assert_eq!(state.membership().version, begin.version);
}

#[test]
fn an_id_is_never_used_twice() {
    let mut state = with([node(4)]);
    apply(&mut state, MeshCommand::Forget(4)).unwrap();
    assert_eq!(state.free_id(), 5);
}

fn any_command() -> impl Strategy<Value = MeshCommand> {
    let id = || 1u64..6;
    let pair = move || (id(), id()).prop_map(|(a, b)| (NodeId(a), NodeId(b)));
    let state = prop_oneof![
        Just(NodeState::Active),
        Just(NodeState::Standby),
        Just(NodeState::Draining),
        Just(NodeState::Removed),
    ];
    prop_oneof![
        Just(MeshCommand::BeginTerm),
        id().prop_map(node),
        id().prop_map(client),
        id().prop_map(MeshCommand::Forget),
        (id(), 0u64..9).prop_map(|(node, incarnation)| MeshCommand::Started {
            node: NodeId(node),
            incarnation,
            random: [0; 16],
        }),
        (id(), state, any::<bool>()).prop_map(|(node, state, automatic)| MeshCommand::SetState {
            node: NodeId(node),
            state,
            automatic,
        }),
        id().prop_map(|client| MeshCommand::SetTier {
            client: ClientId(client),
            tier: Tier::Basic
        }),
        pair().prop_map(|(node, standby)| MeshCommand::Warm { node, standby }),
        pair().prop_map(|(node, standby)| MeshCommand::Release { node, standby }),
        (pair(), 0.0..=1.0f64).prop_map(|((node, to), share)| MeshCommand::SetShare {
            node,
            to,
            share: Ratio::saturating(share),
        }),
        (id(), any::<bool>()).prop_map(|(node, held)| MeshCommand::Hold {
            node: NodeId(node),
            held
        }),
        any::<bool>().prop_map(MeshCommand::Freeze),
    ]
}

fn any_log() -> impl Strategy<Value = Vec<LogEntry>> {
    let entry = (1u64..4, 1u64..40, any_command());
    let entry = entry.prop_map(|(term, index, command)| LogEntry {
        version: Version { term, index },
        command,
    });
    prop::collection::vec(entry, 0..60)
}

proptest! {
    #[test]
    fn the_same_log_gives_the_same_state_and_effects_on_every_replica(log in any_log()) {
        let (mut one, mut two) = (MeshState::default(), MeshState::default());
        for entry in &log {
            let before = one.clone();
            let done = one.apply(entry);
            prop_assert_eq!(&done, &two.apply(entry));
            prop_assert!(one.membership().check().is_ok());
            prop_assert!(one.membership_version() <= one.version());
            if one.membership() != before.membership() {
                prop_assert!(one.membership_version() > before.membership_version());
                prop_assert!(done.unwrap().contains(&Effect::MembershipChanged));
            }
            let copied: MeshState = postcard::from_bytes(&postcard::to_stdvec(&one).unwrap()).unwrap();
            prop_assert_eq!(&copied, &one, "a snapshot is as good as the log");
            two = copied;
        }
        prop_assert_eq!(one, two);
    }

    #[test]
    fn what_a_check_allows_is_never_refused(log in any_log(), command in any_command()) {
        let mut state = MeshState::default();
        for entry in &log {
            let _ = state.apply(entry);
        }
        let allowed = state.check(&command).is_ok();
        prop_assert_eq!(apply(&mut state, command).is_ok(), allowed);
    }
}
