//! Ends that do not want each other.

use vpnmesh_transport::DropReason;
use vpnmesh_transport::handshake::{MAX_RESPONSE, Refusal};
use vpnmesh_transport::suite::{Cipher, Ciphers, Profile, Profiles};

use crate::order::refusal;
use crate::rig::{Rig, drain, finish};

#[test]
fn a_profile_below_the_floor_is_refused_under_authentication() {
    let mut rig = Rig::new();
    rig.responder
        .set_profiles(Profiles::from_floor(Profile::High));
    for profile in [Profile::Light, Profile::Standard] {
        let mut initiator = rig.start(profile);
        let outcome = rig.deliver(&drain(&mut initiator)[0]);
        assert_eq!(
            (outcome.dropped, outcome.replies.len()),
            (Some(DropReason::Refused), 1)
        );
        assert_eq!(
            refusal(&mut initiator, &outcome.replies[0], &rig),
            Refusal::Profile
        );
        assert!(initiator.is_expired(rig.now));
    }
    rig.handshake(Profile::High);
}

#[test]
fn a_stated_profile_that_was_changed_on_the_way_authenticates_nothing() {
    let mut rig = Rig::new();
    let mut datagrams = drain(&mut rig.start(Profile::Standard));
    datagrams[0][2] = Profile::Light.code();
    assert_eq!(
        rig.deliver(&datagrams[0]).dropped,
        Some(DropReason::BadMac1)
    );
}

#[test]
fn no_common_cipher_is_refused() {
    let mut rig = Rig::new();
    rig.ciphers = Ciphers::of(&[Cipher::ChaCha20Poly1305]);
    rig.handshake(Profile::Standard);
    rig.ciphers = Ciphers::of(&[Cipher::Aes256Gcm, Cipher::Aes128Gcm]);
    let (client, _) = rig.handshake(Profile::Light);
    assert_eq!(client.cipher, Cipher::Aes128Gcm);
}

#[test]
fn the_endpoint_may_refuse_a_complete_request() {
    for reason in [Refusal::Busy, Refusal::NotAllowed] {
        let mut rig = Rig::new();
        rig.book.refuse = Some(reason);
        let mut initiator = rig.start(Profile::Standard);
        let (replies, session) = rig.deliver_all(&drain(&mut initiator));
        assert!(session.is_none());
        assert_eq!(refusal(&mut initiator, &replies[0], &rig), reason);
    }
}

#[test]
fn a_response_payload_that_is_too_long_becomes_a_refusal() {
    let mut rig = Rig::new();
    rig.book.payload = vec![0; MAX_RESPONSE + 1];
    let mut initiator = rig.start(Profile::Standard);
    let (replies, _) = rig.deliver_all(&drain(&mut initiator));
    assert_eq!(
        refusal(&mut initiator, &replies[0], &rig),
        Refusal::NotAllowed
    );
}

#[test]
fn a_forged_refusal_does_not_end_the_attempt() {
    let mut rig = Rig::new();
    rig.responder
        .set_profiles(Profiles::from_floor(Profile::High));
    let mut initiator = rig.start(Profile::Standard);
    let reply = rig.deliver(&drain(&mut initiator)[0]).replies.remove(0);
    for at in 0..reply.len() {
        let mut forged = reply.clone();
        forged[at] ^= 0x40;
        assert!(
            initiator.handle_datagram(&forged, rig.now).is_err(),
            "byte {at}"
        );
    }
    assert_eq!(refusal(&mut initiator, &reply, &rig), Refusal::Profile);
}

#[test]
fn a_stranger_gets_no_answer() {
    let mut rig = Rig::new();
    rig.book.known.clear();
    let datagrams = drain(&mut rig.start(Profile::Standard));
    let outcome = rig.deliver(&datagrams[0]);
    assert_eq!(
        (outcome.dropped, outcome.replies.len()),
        (Some(DropReason::UnknownPeer), 0)
    );
    let (replies, session) = rig.deliver_all(&datagrams);
    assert!(replies.is_empty() && session.is_none() && rig.book.asked.is_empty());
}

#[test]
fn a_hello_for_another_key_is_dropped_before_any_expensive_work() {
    let mut rig = Rig::new();
    let mut initiator = Rig::with_other_server(&mut rig);
    assert_eq!(
        rig.deliver(&drain(&mut initiator)[0]).dropped,
        Some(DropReason::BadMac1)
    );
}

#[test]
fn different_site_secrets_never_agree() {
    let suite = vpnmesh_transport::suite::rustcrypto();
    for (mine, other) in [
        (Some([1; 32]), Some([2; 32])),
        (None, Some([1; 32])),
        (Some([1; 32]), None),
    ] {
        let mut rig = Rig::with(suite, suite, mine, other);
        let mut initiator = rig.start(Profile::Standard);
        let (replies, _) = rig.deliver_all(&drain(&mut initiator));
        assert!(finish(&mut initiator, &replies, rig.now).is_none());
    }
}

impl Rig {
    fn with_other_server(rig: &mut Rig) -> vpnmesh_transport::handshake::Initiator {
        let other =
            vpnmesh_transport::handshake::Identity::generate(&rig.client_suite, &mut rig.entropy);
        let server = std::mem::replace(&mut rig.server, other.public());
        let initiator = rig.start(Profile::Standard);
        rig.server = server;
        initiator
    }
}
