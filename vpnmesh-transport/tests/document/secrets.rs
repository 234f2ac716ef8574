//! Secrets within a document: only its holder opens them, and only there.

use vpnmesh_core::{NodeId, Secret};
use vpnmesh_transport::record::{SealingIdentity, SessionDocument};
use vpnmesh_transport::schedule::{self, MoveContext};
use vpnmesh_transport::{Cipher, Error, Incarnation, OsEntropy, SeededEntropy};

use crate::rig::{self, HOLDER};

fn unsealing(field: &'static str) -> Error {
    let holder = HOLDER;
    Error::Unsealing { field, holder }
}

#[test]
fn the_holder_finds_its_branch_and_the_esp_key_in_both_forms() {
    let document = rig::sealed();
    let json = SessionDocument::from_json(document.to_json().as_bytes()).unwrap();
    let binary = SessionDocument::from_bytes(&document.to_bytes()).unwrap();
    for document in [json, binary] {
        let secrets = document.open(&rig::identity(HOLDER)).unwrap();
        assert_eq!(secrets.shared_secret, rig::branch());
        assert_eq!(secrets.esp_key, schedule::esp_key(&rig::branch()));
        assert_ne!(secrets.esp_key, secrets.shared_secret);
    }
}

#[test]
fn another_holder_is_refused() {
    let document = rig::sealed();
    let (named, holder) = (HOLDER, NodeId(4));
    let error = document.open(&rig::identity(holder)).unwrap_err();
    assert_eq!(error, Error::OtherHolder { named, holder });
    let error = rig::document().seal(
        &rig::branch(),
        &rig::identity(holder).public(),
        &mut SeededEntropy::new(2),
    );
    assert_eq!(error, Err(Error::OtherHolder { named, holder }));
}

#[test]
fn another_life_of_the_holder_is_refused() {
    let mut entropy = OsEntropy::new().unwrap();
    let later = SealingIdentity::generate(HOLDER, &mut entropy);
    let error = rig::sealed().open(&later).unwrap_err();
    assert_eq!(error, unsealing("shared_secret"));
}

#[test]
fn secrets_do_not_open_in_a_changed_document() {
    let changes: [fn(&mut SessionDocument); 5] = [
        |document| document.session_id.0[0] ^= 1,
        |document| document.vpnmesh.generation += 1,
        |document| document.vpnmesh.rank = 2,
        |document| document.vpnmesh.profile = vpnmesh_transport::Profile::High,
        |document| document.crypto_params.encryption_algorithm = Cipher::ChaCha20Poly1305,
    ];
    for change in changes {
        let mut document = rig::sealed();
        change(&mut document);
        let error = document.open(&rig::identity(HOLDER)).unwrap_err();
        assert_eq!(error, unsealing("shared_secret"));
    }
    let mut document = rig::sealed();
    document.esp_params.esp_algorithm = Cipher::ChaCha20Poly1305;
    let error = document.open(&rig::identity(HOLDER)).unwrap_err();
    assert_eq!(error, unsealing("esp_key"));
}

#[test]
fn secrets_do_not_open_in_each_others_fields() {
    let mut document = rig::sealed();
    std::mem::swap(
        &mut document.crypto_params.shared_secret,
        &mut document.esp_params.esp_key,
    );
    let error = document.open(&rig::identity(HOLDER)).unwrap_err();
    assert_eq!(error, unsealing("shared_secret"));
}

#[test]
fn secrets_of_two_branches_do_not_go_together() {
    let mut other = rig::document();
    let branch = Secret::take(&mut [0x11; 32]);
    let key = rig::identity(HOLDER).public();
    other
        .seal(&branch, &key, &mut SeededEntropy::new(3))
        .unwrap();
    let mut document = rig::sealed();
    document.esp_params.esp_key = other.esp_params.esp_key;
    let error = document.open(&rig::identity(HOLDER)).unwrap_err();
    assert_eq!(error, unsealing("esp_key"));
}

#[test]
fn what_may_change_within_a_generation_leaves_the_secrets_usable() {
    let mut document = rig::sealed();
    document.vpnmesh.revision += 1;
    document.vpnmesh.number += 1;
    document.client_ip = rig::ip("192.0.2.1");
    document.seq_number += 1;
    assert!(document.open(&rig::identity(HOLDER)).is_ok());
}

#[test]
fn a_document_that_is_sent_again_has_none() {
    let document = rig::sealed().without_secrets();
    assert_eq!(document, rig::document());
    let error = document.open(&rig::identity(HOLDER)).unwrap_err();
    let field = "shared_secret";
    assert_eq!(error, Error::NotSealed { field });
}

#[test]
fn sealing_twice_gives_different_values() {
    let mut document = rig::sealed();
    let key = rig::identity(HOLDER).public();
    document
        .seal(&rig::branch(), &key, &mut SeededEntropy::new(4))
        .unwrap();
    assert_ne!(document, rig::sealed());
    assert!(document.open(&rig::identity(HOLDER)).is_ok());
}

#[test]
fn nothing_secret_is_printed_or_written_in_clear() {
    let document = rig::sealed();
    let secrets = document.open(&rig::identity(HOLDER)).unwrap();
    let printed = format!("{document:?} {secrets:?}");
    assert!(printed.contains("Some(Sealed(..))") && printed.contains("Secret(..)"));
    let esp = schedule::esp_key(&rig::branch());
    let bytes = document.to_bytes();
    for secret in [rig::branch(), esp] {
        let clear = secret.expose();
        assert!(!bytes.windows(32).any(|window| window == clear));
        assert!(!printed.contains(&format!("{clear:?}")));
    }
}

#[test]
fn esp_keys_differ_by_direction_and_by_everything_that_makes_a_move() {
    let context = MoveContext {
        session: rig::record().session,
        generation: 3,
        branch: 1,
        number: 6,
        nonce: [9; 16],
        holder: Incarnation::default(),
    };
    let esp = schedule::esp_key(&rig::branch());
    let keys = schedule::esp_keys(&esp, &context);
    let ours = schedule::move_keys(&rig::branch(), &context);
    assert_ne!(keys.up, keys.down);
    assert_ne!(keys.up.expose()[..32], ours.up.expose()[..]);
    let changes: [fn(&mut MoveContext); 6] = [
        |context| context.session.0[0] ^= 1,
        |context| context.generation += 1,
        |context| context.branch += 1,
        |context| context.number += 1,
        |context| context.nonce[0] ^= 1,
        |context| context.holder.counter += 1,
    ];
    for change in changes {
        let mut other = context.clone();
        change(&mut other);
        let other = schedule::esp_keys(&esp, &other);
        assert!(other.up != keys.up && other.down != keys.down);
    }
}
