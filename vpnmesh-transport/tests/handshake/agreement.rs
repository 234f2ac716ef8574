//! What both ends agree on when nothing goes wrong.

use vpnmesh_core::Secret;
use vpnmesh_transport::handshake::{MAX_OPTIONS, MAX_RESPONSE, SINGLE_RESPONSE};
use vpnmesh_transport::suite::{Cipher, Ciphers, Profile};
use vpnmesh_transport::{Error, SeededEntropy};

use crate::rig::{Rig, assert_agree, drain, finish, suite_pairs};

#[test]
fn every_profile_works_between_all_providers_in_both_directions() {
    let pairs = suite_pairs();
    println!("{} pairs of providers", pairs.len());
    for (client_suite, server_suite) in pairs {
        for profile in Profile::ALL {
            let mut rig = Rig::with(client_suite, server_suite, Some([1; 32]), Some([1; 32]));
            rig.book.payload = b"welcome".to_vec();
            let (client, server) = rig.handshake(profile);
            assert_agree(&client, &server);
            assert_eq!(
                (client.peer, server.peer),
                (rig.server, rig.client.public())
            );
            assert_eq!(
                (client.payload, server.payload),
                (b"welcome".to_vec(), b"hello".to_vec())
            );
            assert_eq!(server.peer_incarnation, rig.life);
            assert_eq!(client.peer_incarnation.counter, 9);
            assert_eq!(client.profile, profile);
        }
    }
}

#[test]
fn one_seed_gives_one_session_and_another_seed_another() {
    let (first, _) = Rig::new().handshake(Profile::Standard);
    let (second, _) = Rig::new().handshake(Profile::Standard);
    assert_eq!(first.root, second.root);
    let mut rig = Rig::new();
    rig.entropy = SeededEntropy::new(2);
    let (third, _) = rig.handshake(Profile::Standard);
    assert_ne!(first.root, third.root);
}

#[test]
fn a_peer_may_handshake_again_and_gets_other_keys() {
    let mut rig = Rig::new();
    let (first, _) = rig.handshake(Profile::Standard);
    let (second, server) = rig.handshake(Profile::High);
    assert_agree(&second, &server);
    assert_ne!(first.root, second.root);
}

#[test]
fn the_longest_payloads_fit_in_every_profile() {
    for profile in Profile::ALL {
        let mut rig = Rig::new();
        rig.options = vec![1; MAX_OPTIONS];
        rig.book.payload = vec![2; MAX_RESPONSE];
        let (client, server) = rig.handshake(profile);
        assert_eq!(
            (client.payload.len(), server.payload.len()),
            (MAX_RESPONSE, MAX_OPTIONS)
        );
    }
}

#[test]
fn a_short_response_takes_one_datagram_in_standard_and_two_in_high() {
    for (profile, len, datagrams) in [
        (Profile::Standard, SINGLE_RESPONSE, 1),
        (Profile::Standard, SINGLE_RESPONSE + 1, 2),
        (Profile::Light, SINGLE_RESPONSE, 1),
        (Profile::High, 0, 2),
    ] {
        let mut rig = Rig::new();
        rig.book.payload = vec![3; len];
        let mut initiator = rig.start(profile);
        let (mut replies, _) = rig.deliver_all(&drain(&mut initiator));
        assert_eq!(replies.len(), datagrams, "{profile:?} with {len} bytes");
        replies.reverse(); // the parts may arrive in any order
        assert!(finish(&mut initiator, &replies, rig.now).is_some());
    }
}

#[test]
fn the_cipher_is_the_best_that_both_sides_want() {
    let cases = [
        (
            Profile::Standard,
            Ciphers::of(&Cipher::ALL),
            Cipher::Aes256Gcm,
        ),
        (
            Profile::Standard,
            Ciphers::of(&[Cipher::ChaCha20Poly1305]),
            Cipher::ChaCha20Poly1305,
        ),
        (Profile::Light, Ciphers::of(&Cipher::ALL), Cipher::Aes128Gcm),
    ];
    for (profile, ciphers, expected) in cases {
        let mut rig = Rig::new();
        rig.ciphers = ciphers;
        let (client, server) = rig.handshake(profile);
        assert_eq!((client.cipher, server.cipher), (expected, expected));
    }
}

#[test]
fn a_payload_that_does_not_fit_is_an_error_before_anything_is_sent() {
    let mut rig = Rig::new();
    rig.options = vec![0; MAX_OPTIONS + 1];
    let error = rig.try_start(Profile::Standard, None).unwrap_err();
    assert_eq!(error, Error::PayloadTooLong { len: 201, max: 200 });
    rig.options.clear();
    rig.ciphers = Ciphers::of(&[Cipher::Aes128Gcm]);
    let error = rig.try_start(Profile::High, None).unwrap_err();
    assert_eq!(error, Error::NoCipher { profile: "high" });
}

#[test]
fn a_peer_key_of_low_order_is_an_error_before_anything_is_sent() {
    for (suite, _) in suite_pairs() {
        for low in [[0; 32], one()] {
            let mut rig = Rig::with(suite, suite, None, None);
            rig.server = vpnmesh_core::PublicKey(low);
            let error = rig.try_start(Profile::Standard, None).unwrap_err();
            assert!(matches!(error, Error::UnusableKey { .. }), "{}", suite.name);
        }
    }
}

#[test]
fn a_low_order_point_gives_no_shared_secret() {
    for (suite, _) in suite_pairs() {
        let key = (suite.x25519_key)(&Secret::take(&mut [9; 32]));
        assert!(key.agree(&[0; 32]).is_none());
        assert!(key.agree(&one()).is_none());
        assert!(key.agree(&key.public()).is_some());
    }
}

fn one() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
}
