//! Any network between two ends: losing, repeating and reordering.

use proptest::prelude::*;
use vpnmesh_transport::handshake::{Established, Progress};
use vpnmesh_transport::suite::Profile;

use crate::rig::{RETRY, Rig, assert_agree, drain};

/// What the network does with the next datagram in flight.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Deliver(usize),
    Repeat(usize),
    Lose(usize),
}

fn fate() -> impl Strategy<Value = Fate> {
    let place = 0usize..8;
    prop_oneof![
        4 => place.clone().prop_map(Fate::Deliver),
        1 => place.clone().prop_map(Fate::Repeat),
        1 => place.prop_map(Fate::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_the_network_does_both_ends_hold_the_same_keys_or_none(
        fates in prop::collection::vec(fate(), 0..60),
        high in any::<bool>(),
    ) {
        let mut rig = Rig::new();
        let mut initiator = rig.start(if high { Profile::High } else { Profile::Standard });
        let mut flying: Vec<(bool, Vec<u8>)> = drain(&mut initiator).into_iter().map(|d| (true, d)).collect();
        let (mut client, mut server): (Option<Established>, Option<Established>) = (None, None);
        let mut repeated = false;
        for fate in fates {
            if flying.is_empty() && !repeated {
                repeated = true;
                rig.now += RETRY;
                initiator.handle_timeout(rig.now);
                flying.extend(drain(&mut initiator).into_iter().map(|d| (true, d)));
            }
            let Some(last) = flying.len().checked_sub(1) else { break };
            let (to_server, datagram) = match fate {
                Fate::Deliver(place) => flying.remove(place.min(last)),
                Fate::Repeat(place) => flying[place.min(last)].clone(),
                Fate::Lose(place) => {
                    flying.remove(place.min(last));
                    continue;
                }
            };
            if to_server {
                let outcome = rig.deliver(&datagram);
                flying.extend(outcome.replies.into_iter().map(|reply| (false, reply)));
                if let Some(session) = outcome.established {
                    prop_assert!(server.replace(*session).is_none(), "one attempt, one session");
                }
            } else if let Ok(Progress::Established(session)) = initiator.handle_datagram(&datagram, rig.now) {
                prop_assert!(client.replace(*session).is_none(), "one attempt, one session");
            }
        }
        prop_assert!(client.is_none() || server.is_some());
        if let (Some(client), Some(server)) = (client, server) {
            assert_agree(&client, &server);
        }
    }
}
