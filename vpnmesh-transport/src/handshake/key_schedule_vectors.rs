//! Our own frozen vectors of the key schedule. `docs/key-schedule.py` derived them a second time, from
//! the text of `docs/protocol.md` alone.

use std::process::Command;

use serde_json::Value;
use vpnmesh_core::{ClientId, NodeId, PublicKey, Secret, SessionId};

use super::chunk;
use super::exchange::Exchange;
use super::mac::MacKey;
use super::noise::{self, Mixed};
use crate::left_out::leave_out;
use crate::receipt::{Fence, Phase, Receipt, Way};
use crate::schedule::{self, BranchContext, MoveContext};
use crate::vectors::{decode, hex};
use crate::{Cipher, Incarnation, Profile};

const VECTORS: &str = include_str!("../../tests/vectors/key-schedule-1.json");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/key-schedule.py");

fn cases(name: &str, count: usize) -> Vec<Value> {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let cases = all[name].as_array().unwrap().clone();
    assert_eq!(cases.len(), count);
    cases
}

fn array<const N: usize>(case: &Value, key: &str) -> [u8; N] {
    hex(case, key).try_into().unwrap()
}

fn secret(case: &Value, key: &str) -> Secret<32> {
    Secret::take(&mut array(case, key))
}

fn number(case: &Value, key: &str) -> u64 {
    case[key].as_u64().unwrap()
}

fn profile(case: &Value) -> Profile {
    let named = |profile: &Profile| case["profile"] == profile.name();
    Profile::ALL.into_iter().find(named).unwrap()
}

fn cipher(case: &Value) -> Cipher {
    let named = |cipher: &Cipher| case["cipher"] == cipher.name();
    Cipher::ALL.into_iter().find(named).unwrap()
}

#[test]
fn psk2_root_and_binding_of_a_handshake() {
    for case in cases("handshakes", 4) {
        let (kem, ciphertext) = (secret(&case, "kem_secret"), hex(&case, "kem_ciphertext"));
        let mixed = Mixed::Answer {
            secret: &kem,
            ciphertext: &ciphertext,
        };
        check_handshake(&case, Exchange::Hybrid, mixed);
    }
    for case in cases("classical_handshakes", 2) {
        check_handshake(&case, Exchange::Classical, Mixed::Classical);
    }
}

fn check_handshake(case: &Value, exchange: Exchange, answer: Mixed<'_>) {
    let (profile, cipher, mode) = (profile(case), cipher(case), exchange.code());
    let site = case["site_secret"].is_string();
    let site = site.then(|| secret(case, "site_secret"));
    let hash = hex(case, "hash_after_message_1");
    for (mixed, key) in [(answer, "psk2"), (Mixed::Refusal, "psk2_refusal")] {
        let psk2 = noise::psk2(site.as_ref(), profile, mode, &hash, mixed);
        assert_eq!(psk2, secret(case, key));
    }
    let raw = |at: usize| -> [u8; 32] {
        let text = case["raw_split"][at].as_str().unwrap();
        decode(text).try_into().unwrap()
    };
    let hash = hex(case, "final_hash");
    let split = noise::split(profile, cipher, &hash, &raw(0), &raw(1));
    assert_eq!(split.root, secret(case, "root"));
    assert_eq!(split.handshake_hash, array(case, "binding"));
}

#[test]
fn commitment_and_macs_of_the_opening() {
    for case in cases("openings", 2) {
        let (chunks, commitment) = chunk::cut(profile(&case), 7, &hex(&case, "kem_key"));
        assert_eq!(chunks.len() as u64, number(&case, "chunks"));
        assert_eq!(commitment, array(&case, "commitment"));
        let (text, mac1) = (hex(&case, "datagram"), array(&case, "mac1"));
        let (responder, initiator) = (array(&case, "responder"), array(&case, "initiator"));
        let mut datagram = text.clone();
        MacKey::towards(&PublicKey(responder)).append(&mut datagram);
        assert_eq!(datagram[text.len()..], mac1);
        let mut datagram = text.clone();
        MacKey::back(&PublicKey(initiator), &mac1).append(&mut datagram);
        assert_eq!(datagram[text.len()..], array::<16>(&case, "mac_back"));
    }
}

#[test]
fn branches_moves_and_generations_of_a_session() {
    for case in cases("sessions", 4) {
        let (profile, cipher) = (profile(&case), cipher(&case));
        let (session, root) = (SessionId(array(&case, "session")), secret(&case, "root"));
        let generation = number(&case, "generation") as u32;
        let branch = number(&case, "branch") as u8;
        let context = BranchContext {
            session,
            generation,
            branch,
            holder: NodeId(number(&case, "holder")),
            holder_key: PublicKey(array(&case, "holder_key")),
            profile,
            cipher,
            handshake_hash: array(&case, "handshake_hash"),
        };
        let own = schedule::branch_secret(&root, &context);
        assert_eq!(own, secret(&case, "branch_secret"));
        let bound = schedule::bound_branch(&own, &secret(&case, "static_secret"));
        assert_eq!(bound, secret(&case, "bound_branch"));
        let of_move = MoveContext {
            session,
            generation,
            branch,
            number: number(&case, "number") as u32,
            nonce: array(&case, "nonce"),
            holder: Incarnation {
                counter: number(&case, "incarnation_counter"),
                random: array(&case, "incarnation_random"),
            },
        };
        let keys = schedule::move_keys(&bound, &of_move);
        assert_eq!(keys.up, secret(&case, "up"));
        assert_eq!(keys.down, secret(&case, "down"));
        assert_eq!(schedule::first_nonce(&root), array(&case, "first_nonce"));
        let esp = schedule::esp_key(&own);
        assert_eq!(esp, secret(&case, "esp"));
        let keys = schedule::esp_keys(&esp, &of_move);
        assert_eq!(*keys.up.expose(), array(&case, "esp_up"));
        assert_eq!(*keys.down.expose(), array(&case, "esp_down"));
        let (client, primary) = (
            array(&case, "client_random"),
            array(&case, "primary_random"),
        );
        let next = schedule::next_root(&own, &client, &primary);
        assert_eq!(next, secret(&case, "next_root"));
    }
}

#[test]
fn receipts_and_their_key() {
    for case in cases("receipts", 3) {
        let key = schedule::receipt_key(&secret(&case, "root"));
        assert_eq!(key, secret(&case, "key"));
        let flag = |key: &str| case[key].as_bool().unwrap();
        let drained = number(&case, "drained");
        let receipt = Receipt {
            client: ClientId(number(&case, "client")),
            fence: Fence {
                incarnation: number(&case, "incarnation"),
                generation: number(&case, "generation") as u32,
                number: number(&case, "number") as u32,
            },
            phase: if flag("alone") {
                Phase::Alone
            } else {
                Phase::Shared
            },
            holder: NodeId(number(&case, "holder")),
            drained: (drained != 0).then_some(NodeId(drained)),
        };
        let way = if flag("answer") {
            Way::Answer
        } else {
            Way::Statement
        };
        assert_eq!(receipt.seal(way, &key), hex(&case, "bytes"));
        assert_eq!(Receipt::open(way, &key, &hex(&case, "bytes")), Ok(receipt));
    }
}

#[test]
fn the_second_derivation_still_gives_the_frozen_vectors() {
    match Command::new("python3").arg(SCRIPT).output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            assert_eq!(String::from_utf8(output.stdout).unwrap(), VECTORS);
        }
        Err(error) => {
            let why = format!("python3: {error}");
            assert!(!leave_out("docs/key-schedule.py", &why, None), "{why}");
        }
    }
}
