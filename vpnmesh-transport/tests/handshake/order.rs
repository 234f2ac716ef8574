//! Loss, repetition, replay and reordering.

use std::time::Duration;

use vpnmesh_transport::DropReason;
use vpnmesh_transport::handshake::{Initiator, Refusal};
use vpnmesh_transport::suite::Profile;

use crate::rig::{RETRY, Rig, assert_agree, drain, finish};

#[test]
fn chunks_that_overtake_their_hello_are_kept() {
    for profile in Profile::ALL {
        let mut rig = Rig::new();
        let mut initiator = rig.start(profile);
        let mut datagrams = drain(&mut initiator);
        datagrams.reverse();
        let (replies, server) = rig.deliver_all(&datagrams);
        let client = finish(&mut initiator, &replies, rig.now).unwrap();
        assert_agree(&client, &server.unwrap());
    }
}

#[test]
fn any_single_loss_is_repaired_by_the_one_repetition() {
    for profile in Profile::ALL {
        let mut rig = Rig::new();
        let count = drain(&mut rig.start(profile)).len();
        for lost in 0..=count {
            let mut initiator = rig.start(profile);
            let mut datagrams = drain(&mut initiator);
            if lost < count {
                datagrams.remove(lost);
            }
            let (replies, first) = rig.deliver_all(&datagrams);
            assert_eq!(first.is_some(), lost == count, "{profile:?} without {lost}");
            drop(replies); // lost as well
            rig.now += RETRY;
            initiator.handle_timeout(rig.now);
            let (replies, second) = rig.deliver_all(&drain(&mut initiator));
            let client = finish(&mut initiator, &replies, rig.now).unwrap();
            assert_agree(&client, &first.or(second).unwrap());
        }
    }
}

#[test]
fn the_answer_is_repeated_once_and_no_more() {
    for profile in Profile::ALL {
        let mut rig = Rig::new();
        let datagrams = drain(&mut rig.start(profile));
        let (first, _) = rig.deliver_all(&datagrams);
        let (second, again) = rig.deliver_all(&datagrams);
        let (third, _) = rig.deliver_all(&datagrams);
        assert_eq!(first, second);
        assert!(again.is_none() && third.is_empty());
        assert_eq!(rig.book.asked.len(), 1);
    }
}

#[test]
fn chunks_alone_never_draw_more_bytes_than_they_brought() {
    for profile in Profile::ALL {
        let mut rig = Rig::new();
        rig.options = Vec::new();
        rig.book.payload = vec![0; vpnmesh_transport::handshake::MAX_RESPONSE];
        let datagrams = drain(&mut rig.start(profile));
        rig.deliver_all(&datagrams);
        let (repeated, _) = rig.deliver_all(&datagrams[1..]); // the rig compares the bytes
        assert!(!repeated.is_empty(), "{profile:?}");
    }
}

#[test]
fn a_replayed_hello_is_neither_answered_nor_refused() {
    let mut rig = Rig::new();
    let datagrams = drain(&mut rig.start(Profile::Standard));
    rig.deliver_all(&datagrams);
    let same = rig.deliver(&datagrams[0]);
    assert_eq!(
        (same.dropped, same.replies.len()),
        (Some(DropReason::Duplicate), 0)
    );
    let elsewhere = rig.deliver_from("198.51.100.1:1".parse().unwrap(), &datagrams[0]);
    assert_eq!(
        (elsewhere.dropped, elsewhere.replies.len()),
        (Some(DropReason::Replayed), 0)
    );
    rig.handshake(Profile::Standard);
    let old = rig.deliver(&datagrams[0]);
    assert_eq!(old.dropped, Some(DropReason::Replayed));
    rig.now += Duration::from_secs(60);
    rig.responder.handle_timeout(rig.now);
    let (replies, session) = rig.deliver_all(&datagrams);
    assert!(replies.is_empty() && session.is_none());
}

#[test]
fn an_older_hello_that_arrives_late_does_not_replace_a_newer_one() {
    let mut rig = Rig::new();
    let mut older = rig.start(Profile::Standard);
    let mut newer = rig.start(Profile::Standard);
    let (older, newer_datagrams) = (drain(&mut older), drain(&mut newer));
    assert_eq!(rig.deliver(&newer_datagrams[0]).dropped, None);
    assert_eq!(rig.deliver(&older[0]).dropped, Some(DropReason::Replayed));
    let (replies, _) = rig.deliver_all(&newer_datagrams[1..]);
    assert!(finish(&mut newer, &replies, rig.now).is_some());
}

#[test]
fn chunks_from_another_address_lead_nowhere() {
    let mut rig = Rig::new();
    let datagrams = drain(&mut rig.start(Profile::Standard));
    assert_eq!(rig.deliver(&datagrams[0]).dropped, None);
    let outcome = rig.deliver_from("198.51.100.1:1".parse().unwrap(), &datagrams[1]);
    assert!(outcome.replies.is_empty() && outcome.established.is_none());
}

#[test]
fn a_rolled_back_life_is_told_what_was_seen() {
    let mut rig = Rig::new();
    rig.handshake(Profile::Standard);
    rig.life.random = [0; 16]; // a clone, or a disk that was rolled back
    let mut initiator = rig.start(Profile::Standard);
    let outcome = rig.deliver(&drain(&mut initiator)[0]);
    assert_eq!(outcome.dropped, Some(DropReason::Refused));
    assert_eq!(
        refusal(&mut initiator, &outcome.replies[0], &rig),
        Refusal::Stale { seen: 3 }
    );
    let mut at_once = rig.start(Profile::Standard);
    assert_eq!(
        rig.deliver(&drain(&mut at_once)[0]).dropped,
        Some(DropReason::Stale)
    );
    rig.life.counter = 4;
    rig.handshake(Profile::Standard);
}

#[test]
fn a_slot_is_gone_after_five_seconds() {
    let mut rig = Rig::new();
    let datagrams = drain(&mut rig.start(Profile::Standard));
    assert_eq!(rig.deliver(&datagrams[0]).dropped, None);
    assert!(rig.responder.poll_timeout() <= rig.now + Duration::from_secs(5));
    rig.now += Duration::from_secs(5);
    rig.responder.handle_timeout(rig.now);
    let (replies, session) = rig.deliver_all(&datagrams[1..]);
    assert!(replies.is_empty() && session.is_none());
}

#[test]
fn an_attempt_repeats_the_same_bytes_once_and_then_expires() {
    let mut rig = Rig::new();
    let mut initiator = rig.start(Profile::High);
    let first = drain(&mut initiator);
    assert_eq!(initiator.poll_timeout(), rig.now + RETRY);
    rig.now += RETRY;
    initiator.handle_timeout(rig.now);
    assert_eq!(drain(&mut initiator), first);
    rig.now += RETRY;
    initiator.handle_timeout(rig.now);
    assert!(drain(&mut initiator).is_empty());
    assert!(!initiator.is_expired(rig.now));
    rig.now = initiator.poll_timeout();
    assert!(initiator.is_expired(rig.now));
    assert_eq!(
        initiator.handle_datagram(&[0x03; 64], rig.now).unwrap_err(),
        DropReason::Stale
    );
}

pub(crate) fn refusal(initiator: &mut Initiator, reply: &[u8], rig: &Rig) -> Refusal {
    match initiator.handle_datagram(reply, rig.now) {
        Ok(vpnmesh_transport::handshake::Progress::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}
