//! Ends with ML-KEM and without.

use vpnmesh_transport::DropReason;
use vpnmesh_transport::handshake::{Exchange, Load, MAX_RESPONSE, Pq, Refusal};
use vpnmesh_transport::suite::Profile;

use crate::order::refusal;
use crate::rig::{Rig, assert_agree, drain, finish, repair_answer, repair_mac1, suite_pairs};

const BOTH: [Exchange; 2] = [Exchange::Hybrid, Exchange::Classical];

/// A responder that serves X25519 alone, and an initiator that asks for it.
fn classical() -> Rig {
    let mut rig = Rig::new();
    rig.responder.set_pq(Pq::Off);
    rig.exchange = Exchange::Classical;
    rig
}

#[test]
fn an_exchange_is_made_or_refused_as_the_responder_wants() {
    for (client_suite, server_suite) in suite_pairs() {
        for pq in Pq::ALL {
            for (exchange, profile) in all() {
                let mut rig = Rig::with(client_suite, server_suite, Some([1; 32]), Some([1; 32]));
                rig.responder.set_pq(pq);
                rig.exchange = exchange;
                let mut initiator = rig.start(profile);
                let (replies, server) = rig.deliver_all(&drain(&mut initiator));
                if !pq.serves(exchange) {
                    assert!(server.is_none());
                    let reason = refusal(&mut initiator, &replies[0], &rig);
                    assert_eq!(reason, Refusal::Exchange);
                    continue;
                }
                let client = finish(&mut initiator, &replies, rig.now).unwrap();
                let server = server.unwrap();
                assert_agree(&client, &server);
                assert_eq!((client.exchange, server.exchange), (exchange, exchange));
                assert_eq!(client.kem(), exchange.kem(profile));
            }
        }
    }
}

fn all() -> impl Iterator<Item = (Exchange, Profile)> {
    let profiles = Profile::ALL.into_iter();
    profiles.flat_map(|profile| BOTH.map(|exchange| (exchange, profile)))
}

#[test]
fn an_exchange_that_was_changed_on_the_way_opens_nothing() {
    for exchange in BOTH {
        let mut rig = Rig::new();
        rig.responder.set_pq(Pq::Prefer);
        rig.exchange = exchange;
        let mut initiator = rig.start(Profile::Standard);
        let datagrams = drain(&mut initiator);
        let mut changed = datagrams[0].clone();
        changed[3] ^= 1;
        repair_mac1(&mut changed, &rig.server);
        assert_eq!(rig.deliver(&changed).dropped, Some(DropReason::Forged));
        let (replies, _) = rig.deliver_all(&datagrams);
        let session = finish(&mut initiator, &replies, rig.now).unwrap();
        assert_eq!(session.exchange, exchange);
    }
}

#[test]
fn without_ml_kem_one_datagram_goes_each_way_and_an_answer_comes_twice_at_most() {
    let mut rig = classical();
    rig.options = Vec::new();
    rig.book.payload = vec![2; MAX_RESPONSE]; // the rig compares the bytes
    let mut initiator = rig.start(Profile::Standard);
    let datagrams = drain(&mut initiator);
    let (first, server) = rig.deliver_all(&datagrams);
    assert_eq!((datagrams.len(), first.len()), (1, 1));
    let elsewhere = rig.deliver_from("198.51.100.1:1".parse().unwrap(), &datagrams[0]);
    assert_eq!(elsewhere.dropped, Some(DropReason::Replayed));
    let (second, again) = rig.deliver_all(&datagrams);
    assert_eq!(first, second);
    assert!(again.is_none());
    let third = rig.deliver(&datagrams[0]);
    assert_eq!(third.dropped, Some(DropReason::Duplicate));
    assert!(third.replies.is_empty());
    let client = finish(&mut initiator, &second, rig.now).unwrap();
    assert_agree(&client, &server.unwrap());
    assert_eq!(rig.book.asked.len(), 1);
}

#[test]
fn an_answer_without_ml_kem_is_none_to_a_request_with_it() {
    let mut rig = Rig::new();
    let mut initiator = rig.start(Profile::Standard);
    let datagrams = drain(&mut initiator);
    let index = initiator.local_index().to_le_bytes();
    let mut answer = [&[0x03_u8, 1, 0, 0][..], &index, &[7; 77], &[0; 16]].concat();
    repair_answer(&mut answer, &rig.client.public(), &datagrams[0]);
    let dropped = initiator.handle_datagram(&answer, rig.now).unwrap_err();
    assert_eq!(dropped, DropReason::Malformed);
    let (replies, _) = rig.deliver_all(&datagrams);
    assert!(finish(&mut initiator, &replies, rig.now).is_some());
}

#[test]
fn a_byte_changed_anywhere_leads_to_no_session_without_ml_kem_either() {
    let mut rig = classical();
    let mut initiator = rig.start(Profile::Standard);
    let hello = drain(&mut initiator).remove(0);
    for at in 0..hello.len() - 16 {
        let mut forged = hello.clone();
        forged[at] ^= 1 << (at % 8);
        let outcome = rig.deliver(&forged);
        assert!(outcome.replies.is_empty() && outcome.established.is_none());
        if at < hello.len() - 32 {
            repair_mac1(&mut forged, &rig.server);
            let outcome = rig.deliver(&forged);
            assert!(outcome.established.is_none(), "byte {at}");
        }
    }
    let (replies, server) = rig.deliver_all(&[hello]);
    for at in 0..replies[0].len() {
        let mut forged = replies[0].clone();
        forged[at] ^= 1 << (at % 8);
        assert!(
            initiator.handle_datagram(&forged, rig.now).is_err(),
            "byte {at}"
        );
    }
    let client = finish(&mut initiator, &replies, rig.now).unwrap();
    assert_agree(&client, &server.unwrap());
}

#[test]
fn under_load_a_cookie_goes_first_without_ml_kem_too() {
    let mut rig = classical();
    rig.load = Load::Heavy;
    let mut initiator = rig.start(Profile::Standard);
    let outcome = rig.deliver(&drain(&mut initiator)[0]);
    assert_eq!(outcome.dropped, Some(DropReason::CookieRequired));
    initiator
        .handle_datagram(&outcome.replies[0], rig.now)
        .unwrap();
    let (replies, server) = rig.deliver_all(&drain(&mut initiator));
    let client = finish(&mut initiator, &replies, rig.now).unwrap();
    assert_agree(&client, &server.unwrap());
}
