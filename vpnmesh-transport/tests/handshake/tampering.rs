//! Wrong bytes: at every position of every datagram, cut at every length, and random ones.

use proptest::prelude::*;
use vpnmesh_transport::DropReason;
use vpnmesh_transport::handshake::Progress;
use vpnmesh_transport::suite::Profile;

use crate::rig::{Rig, assert_agree, drain, finish, repair_answer, repair_mac1, suite_pairs};

#[test]
fn a_byte_changed_anywhere_in_a_request_never_leads_to_a_session_from_it() {
    for profile in [Profile::Standard, Profile::High] {
        let mut rig = Rig::new();
        let mut initiator = rig.start(profile);
        let datagrams = drain(&mut initiator);
        for (which, datagram) in datagrams.iter().enumerate() {
            let mac2_at = datagram.len() - 16; // mac2 counts only under load
            for at in 0..mac2_at {
                let mut forged = datagram.clone();
                forged[at] ^= 1 << (at % 8);
                let outcome = rig.deliver(&forged);
                assert!(
                    outcome.established.is_none(),
                    "{profile:?} datagram {which} byte {at}"
                );
                assert!(outcome.replies.is_empty() && outcome.dropped.is_some());
            }
            if which + 1 < datagrams.len() {
                assert!(rig.deliver(datagram).replies.is_empty());
            }
        }
        let (replies, server) = rig.deliver_all(&datagrams[datagrams.len() - 1..]);
        let client = finish(&mut initiator, &replies, rig.now).expect("forgeries did not spoil it");
        assert_agree(&client, &server.unwrap());
    }
}

#[test]
fn a_byte_changed_anywhere_in_an_answer_is_never_accepted() {
    for profile in [Profile::Standard, Profile::High] {
        let mut rig = Rig::new();
        let mut initiator = rig.start(profile);
        let datagrams = drain(&mut initiator);
        let (replies, server) = rig.deliver_all(&datagrams);
        for reply in &replies {
            for at in 0..reply.len() {
                let mut forged = reply.clone();
                forged[at] ^= 1 << (at % 8);
                let progress = initiator.handle_datagram(&forged, rig.now);
                assert!(progress.is_err(), "{profile:?} byte {at}");
                if at % 4 == 0 && at < reply.len() - 16 {
                    repair_answer(&mut forged, &rig.client.public(), &datagrams[0]);
                    let progress = initiator.handle_datagram(&forged, rig.now);
                    assert!(
                        matches!(progress, Ok(Progress::Waiting) | Err(_)),
                        "{profile:?} byte {at}"
                    );
                }
            }
        }
        let client = finish(&mut initiator, &replies, rig.now).expect("forgeries did not spoil it");
        assert_agree(&client, &server.unwrap());
    }
}

#[test]
fn datagrams_cut_at_any_length_or_made_longer_are_dropped() {
    for profile in [Profile::Standard, Profile::High] {
        let mut rig = Rig::new();
        let mut initiator = rig.start(profile);
        let datagrams = drain(&mut initiator);
        for datagram in &datagrams {
            for len in 0..datagram.len() {
                assert!(rig.deliver(&datagram[..len]).dropped.is_some());
            }
            assert!(
                rig.deliver(&[datagram, &[0; 8][..]].concat())
                    .dropped
                    .is_some()
            );
        }
        let (replies, _) = rig.deliver_all(&datagrams);
        for reply in &replies {
            for len in 0..reply.len() {
                assert!(initiator.handle_datagram(&reply[..len], rig.now).is_err());
            }
        }
        assert!(finish(&mut initiator, &replies, rig.now).is_some());
    }
}

#[test]
fn an_answer_to_another_attempt_is_not_taken() {
    let mut rig = Rig::new();
    let mut first = rig.start(Profile::Standard);
    let (replies, _) = rig.deliver_all(&drain(&mut first));
    let mut second = rig.start(Profile::Standard);
    let mut redirected = replies[0].clone();
    redirected[4..8].copy_from_slice(&second.local_index().to_le_bytes());
    assert!(second.handle_datagram(&replies[0], rig.now).is_err());
    assert!(second.handle_datagram(&redirected, rig.now).is_err());
}

#[test]
fn ephemeral_keys_of_low_order_are_refused_on_both_sides() {
    let mut order_eight = [0; 32];
    order_eight[..8].copy_from_slice(&[0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae]);
    order_eight[8..16].copy_from_slice(&[0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a]);
    order_eight[16..24].copy_from_slice(&[0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd]);
    order_eight[24..].copy_from_slice(&[0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00]);
    for (suite, _) in suite_pairs() {
        let key = (suite.x25519_key)(&vpnmesh_core::Secret::take(&mut [9; 32]));
        assert!(key.agree(&order_eight).is_none());
        for low in [[0; 32], order_eight] {
            let mut rig = Rig::with(suite, suite, None, None);
            let mut initiator = rig.start(Profile::Standard);
            let datagrams = drain(&mut initiator);
            let mut hello = datagrams[0].clone();
            hello[8..40].copy_from_slice(&low);
            repair_mac1(&mut hello, &rig.server.clone());
            assert_eq!(rig.deliver(&hello).dropped, Some(DropReason::Forged));
            let (replies, _) = rig.deliver_all(&datagrams);
            let mut answer = replies[0].clone();
            answer[8 + 1088..8 + 1088 + 32].copy_from_slice(&low);
            repair_answer(&mut answer, &rig.client.public(), &datagrams[0]);
            assert_eq!(
                initiator.handle_datagram(&answer, rig.now).unwrap_err(),
                DropReason::Forged
            );
            assert!(finish(&mut initiator, &replies, rig.now).is_some());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_never_panic_and_never_establish(
        junk in prop::collection::vec((1u8..8, prop::collection::vec(any::<u8>(), 0..1300)), 1..40),
    ) {
        let mut rig = Rig::new();
        let mut initiator = rig.start(Profile::Standard);
        let index = initiator.local_index().to_le_bytes();
        for (kind, mut bytes) in junk {
            bytes.truncate(1224);
            let datagram = [&[kind, 1, 2, 0], &index[..], &bytes].concat();
            prop_assert!(rig.deliver(&datagram).established.is_none());
            let progress = initiator.handle_datagram(&datagram, rig.now);
            prop_assert!(!matches!(progress, Ok(Progress::Established(_))));
        }
        let datagrams = drain(&mut initiator);
        let (replies, _) = rig.deliver_all(&datagrams);
        prop_assert!(finish(&mut initiator, &replies, rig.now).is_some());
    }
}
