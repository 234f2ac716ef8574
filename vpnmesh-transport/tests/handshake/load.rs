//! A responder under load: cookies first, nothing for strangers.

use std::time::Duration;

use vpnmesh_transport::DropReason;
use vpnmesh_transport::handshake::{Load, Progress};
use vpnmesh_transport::suite::Profile;

use crate::rig::{Rig, assert_agree, drain, finish, repair_mac1, suite_pairs};

#[test]
fn under_load_a_cookie_goes_first_and_then_the_handshake() {
    for (client_suite, server_suite) in suite_pairs() {
        for profile in Profile::ALL {
            let mut rig = Rig::with(client_suite, server_suite, None, None);
            rig.load = Load::Heavy;
            let mut initiator = rig.start(profile);
            let datagrams = drain(&mut initiator);
            let outcome = rig.deliver(&datagrams[0]);
            assert_eq!(outcome.dropped, Some(DropReason::CookieRequired));
            assert_eq!(outcome.replies[0].len(), 64);
            assert_eq!(
                rig.deliver(&datagrams[1]).dropped,
                Some(DropReason::UnknownChunk)
            );
            let progress = initiator
                .handle_datagram(&outcome.replies[0], rig.now)
                .unwrap();
            assert!(matches!(progress, Progress::Waiting));
            let (replies, server) = rig.deliver_all(&drain(&mut initiator));
            let client = finish(&mut initiator, &replies, rig.now).unwrap();
            assert_agree(&client, &server.unwrap());
        }
    }
}

#[test]
fn a_chunk_without_a_cookie_draws_one_when_the_load_came_after_the_hello() {
    let mut rig = Rig::new();
    let mut initiator = rig.start(Profile::Standard);
    let datagrams = drain(&mut initiator);
    assert_eq!(rig.deliver(&datagrams[0]).dropped, None);
    rig.load = Load::Heavy;
    let outcome = rig.deliver(&datagrams[1]);
    assert_eq!(outcome.dropped, Some(DropReason::CookieRequired));
    initiator
        .handle_datagram(&outcome.replies[0], rig.now)
        .unwrap();
    let (replies, _) = rig.deliver_all(&drain(&mut initiator));
    assert!(finish(&mut initiator, &replies, rig.now).is_some());
}

#[test]
fn a_cookie_serves_the_next_attempt_and_grows_old() {
    let mut rig = Rig::new();
    rig.load = Load::Heavy;
    let mut initiator = rig.start(Profile::Standard);
    let cookie = rig.deliver(&drain(&mut initiator)[0]).replies.remove(0);
    initiator.handle_datagram(&cookie, rig.now).unwrap();
    for (age, works) in [(0, true), (119, true), (400, false)] {
        rig.now += Duration::from_secs(age);
        let mut next = rig
            .try_start(Profile::Standard, initiator.cookie())
            .unwrap();
        let (replies, session) = rig.deliver_all(&drain(&mut next));
        assert_eq!(session.is_some(), works, "after {age} s");
        assert_eq!(finish(&mut next, &replies, rig.now).is_some(), works);
    }
}

#[test]
fn a_cookie_buys_few_handshakes_at_once() {
    let mut rig = Rig::new();
    rig.load = Load::Heavy;
    let mut initiator = rig.start(Profile::Standard);
    let cookie = rig.deliver(&drain(&mut initiator)[0]).replies.remove(0);
    initiator.handle_datagram(&cookie, rig.now).unwrap();
    let mut opened = 0;
    for _ in 0..50 {
        let next = rig.try_start(Profile::Standard, initiator.cookie());
        let outcome = rig.deliver(&drain(&mut next.unwrap())[0]);
        opened += usize::from(outcome.dropped != Some(DropReason::QueueFull));
    }
    assert_eq!(opened, 5);
    rig.now += Duration::from_secs(1);
    let mut later = rig
        .try_start(Profile::Standard, initiator.cookie())
        .unwrap();
    assert!(rig.deliver_all(&drain(&mut later)).1.is_some());
}

#[test]
fn a_cookie_is_worth_nothing_from_another_address_or_port() {
    let mut rig = Rig::new();
    rig.load = Load::Heavy;
    let mut initiator = rig.start(Profile::Standard);
    let cookie = rig.deliver(&drain(&mut initiator)[0]).replies.remove(0);
    initiator.handle_datagram(&cookie, rig.now).unwrap();
    let hello = drain(&mut initiator).remove(0);
    for other in ["192.0.2.7:4243", "192.0.2.8:4242", "[2001:db8::1]:4242"] {
        let outcome = rig.deliver_from(other.parse().unwrap(), &hello);
        assert_eq!(outcome.dropped, Some(DropReason::CookieRequired), "{other}");
    }
    assert_eq!(rig.deliver(&hello).dropped, None);
}

#[test]
fn a_tampered_cookie_is_not_taken() {
    let mut rig = Rig::new();
    rig.load = Load::Heavy;
    let mut initiator = rig.start(Profile::Standard);
    let cookie = rig.deliver(&drain(&mut initiator)[0]).replies.remove(0);
    for at in 0..cookie.len() {
        let mut forged = cookie.clone();
        forged[at] ^= 1;
        assert!(
            initiator.handle_datagram(&forged, rig.now).is_err(),
            "byte {at}"
        );
    }
    assert!(drain(&mut initiator).is_empty());
    assert!(initiator.handle_datagram(&cookie, rig.now).is_ok());
}

#[test]
fn junk_costs_no_state() {
    let mut rig = Rig::new();
    let datagrams = drain(&mut rig.start(Profile::Standard));
    for port in 1..2000 {
        let from = format!("203.0.113.9:{port}").parse().unwrap();
        let outcome = rig.deliver_from(from, &datagrams[1]);
        assert!(outcome.replies.is_empty());
    }
    rig.load = Load::Heavy;
    for port in 1..200 {
        let from = format!("203.0.113.9:{port}").parse().unwrap();
        assert_eq!(
            rig.deliver_from(from, &datagrams[1]).dropped,
            Some(DropReason::UnknownChunk)
        );
    }
    rig.load = Load::Normal;
    rig.handshake(Profile::Standard);
}

#[test]
fn a_flood_of_forged_hellos_turns_cookies_on_and_quiet_turns_them_off() {
    let mut rig = Rig::new();
    let mut forged = drain(&mut rig.start(Profile::Standard)).remove(0);
    let mut cookies = 0;
    for number in 0..1500_u32 {
        forged[100..104].copy_from_slice(&number.to_le_bytes());
        repair_mac1(&mut forged, &rig.server.clone());
        let outcome = rig.deliver(&forged);
        cookies += usize::from(outcome.dropped == Some(DropReason::CookieRequired));
    }
    assert_eq!(cookies, 499);
    let mut initiator = rig.start(Profile::Standard);
    let (replies, _) = rig.deliver_all(&drain(&mut initiator));
    assert!(finish(&mut initiator, &replies, rig.now).is_none());
    let (replies, session) = rig.deliver_all(&drain(&mut initiator));
    assert!(session.is_some() && finish(&mut initiator, &replies, rig.now).is_some());
    rig.now += Duration::from_secs(1);
    rig.handshake(Profile::Standard);
}
