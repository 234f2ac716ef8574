//! Public Noise vectors on our resolver: what snow computes from our primitives is Noise.

use serde_json::Value;
use snow::{Builder, HandshakeState};
use vpnmesh_core::Secret;

use super::noise::Resolver;
use crate::suite::{self, Cipher, CryptoSuite};
use crate::vectors::{decode, hex, json, say};

#[test]
fn cacophony_agrees() {
    run("noise/cacophony.json", 77);
}

#[test]
fn snow_agrees() {
    run("noise/snow.json", 30);
}

/// Runs every handshake whose primitives our resolver has.
fn run(file: &str, expected: usize) {
    let Some(vectors) = json(file) else { return };
    for suite in suites() {
        let mut count = 0;
        for vector in vectors["vectors"].as_array().unwrap() {
            let name = vector["protocol_name"].as_str().unwrap();
            if name.ends_with("_25519_ChaChaPoly_BLAKE2s")
                || name.ends_with("_25519_ChaChaPoly_BLAKE2b")
            {
                handshake(suite, name, vector);
                count += 1;
            }
        }
        say(&format!("{file}: {count} handshakes with {}", suite.name));
        assert_eq!(count, expected);
    }
}

fn suites() -> Vec<CryptoSuite> {
    vec![
        #[cfg(feature = "aws-lc")]
        suite::aws_lc(),
        #[cfg(feature = "rustcrypto")]
        suite::rustcrypto(),
    ]
}

fn handshake(suite: CryptoSuite, name: &str, vector: &Value) {
    let mut ends = [
        build(suite, name, vector, true),
        build(suite, name, vector, false),
    ];
    let one_way = matches!(pattern(name).split("psk").next().unwrap(), "N" | "K" | "X");
    let mut keys = None;
    let mut counters = [0, 0];
    for (number, message) in vector["messages"].as_array().unwrap().iter().enumerate() {
        let sender = if one_way { 0 } else { number % 2 };
        let (payload, expected) = (hex(message, "payload"), hex(message, "ciphertext"));
        if let Some((first, second)) = &keys {
            let key = [first, second][sender];
            assert_eq!(
                seal(suite, key, counters[sender], &payload),
                expected,
                "{name} message {number}"
            );
            counters[sender] += 1;
            continue;
        }
        let mut buffer = [0; 4096];
        let len = ends[sender].write_message(&payload, &mut buffer).unwrap();
        assert_eq!(buffer[..len], expected, "{name} message {number}");
        let mut read = [0; 4096];
        let len = ends[1 - sender].read_message(&expected, &mut read).unwrap();
        assert_eq!(read[..len], payload, "{name} message {number}");
        if ends[0].is_handshake_finished() {
            let hash = hex(vector, "handshake_hash");
            assert!(
                hash.is_empty() || ends.iter().all(|end| end.get_handshake_hash() == hash),
                "{name}"
            );
            let split = ends[0].dangerously_get_raw_split();
            assert_eq!(split, ends[1].dangerously_get_raw_split(), "{name}");
            keys = Some(split);
        }
    }
    assert!(keys.is_some(), "{name} was not finished");
}

fn build(suite: CryptoSuite, name: &str, vector: &Value, initiator: bool) -> HandshakeState {
    let side = if initiator { "init" } else { "resp" };
    let bytes = |key: &str| hex(vector, &format!("{side}_{key}"));
    let (prologue, ephemeral) = (bytes("prologue"), bytes("ephemeral"));
    let (secret, remote) = (bytes("static"), bytes("remote_static"));
    let psks = vector[format!("{side}_psks")]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let psks: Vec<[u8; 32]> = psks
        .iter()
        .map(|psk| decode(psk.as_str().unwrap()).try_into().unwrap())
        .collect();
    let resolver = Resolver {
        suite,
        known: None,
        ephemeral: None,
    };
    let mut builder = Builder::with_resolver(name.parse().unwrap(), Box::new(resolver))
        .prologue(&prologue)
        .unwrap();
    if !ephemeral.is_empty() {
        builder = builder.fixed_ephemeral_key_for_testing_only(&ephemeral);
    }
    if !secret.is_empty() {
        builder = builder.local_private_key(&secret).unwrap();
    }
    if !remote.is_empty() {
        builder = builder.remote_public_key(&remote).unwrap();
    }
    for (place, psk) in psk_places(name).into_iter().zip(&psks) {
        builder = builder.psk(place, psk).unwrap();
    }
    if initiator {
        builder.build_initiator()
    } else {
        builder.build_responder()
    }
    .unwrap()
}

/// `IKpsk2` of `Noise_IKpsk2_25519_…`.
fn pattern(name: &str) -> &str {
    name.split('_').nth(1).unwrap()
}

/// 0 and 3 of `XXpsk0+psk3`.
fn psk_places(name: &str) -> Vec<u8> {
    pattern(name)
        .split("psk")
        .skip(1)
        .map(|rest| rest.as_bytes()[0] - b'0')
        .collect()
}

fn seal(suite: CryptoSuite, key: &[u8; 32], counter: u64, payload: &[u8]) -> Vec<u8> {
    let aead = (suite.aead)(Cipher::ChaCha20Poly1305, &Secret::take(&mut key.clone()));
    let mut text = payload.to_vec();
    let tag = aead.seal(counter, &[], &mut text);
    text.extend_from_slice(&tag);
    text
}
