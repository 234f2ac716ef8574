//! What holds for every document, and for any bytes.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use vpnmesh_core::{ClientId, NodeId, PublicKey, SessionId, Tier};
use vpnmesh_transport::Profile;
use vpnmesh_transport::record::{
    MAX_HOLDERS, MAX_JSON, MAX_SOURCES, Placement, SessionDocument, SessionRecord,
};

use crate::rig;
use crate::schema::Schema;

fn profile() -> impl Strategy<Value = (u8, u8)> {
    let cipher = |profile: Profile| {
        let ciphers = profile.ciphers();
        (0..ciphers.len()).prop_map(move |at| (profile.code(), ciphers[at].code()))
    };
    prop_oneof![
        Just(Profile::Light),
        Just(Profile::Standard),
        Just(Profile::High)
    ]
    .prop_flat_map(cipher)
}

fn holders() -> impl Strategy<Value = (Vec<NodeId>, NodeId)> {
    btree_set(any::<u64>(), 1..=MAX_HOLDERS)
        .prop_map(|ids| ids.into_iter().map(NodeId).collect::<Vec<_>>())
        .prop_shuffle()
        .prop_flat_map(|all| (0..all.len()).prop_map(move |at| (all.clone(), all[at])))
}

prop_compose! {
    fn described()(
        (session, client_key, handshake_hash) in any::<([u8; 16], [u8; 32], [u8; 32])>(),
        (version, client, client_incarnation) in any::<(u64, u64, u64)>(),
        (client_ip, client_port, source_ips) in
            (any::<IpAddr>(), any::<u16>(), vec(any::<IpAddr>(), 0..=MAX_SOURCES)),
        (generation, number) in any::<(u32, u32)>(),
        (holders, holder) in holders(),
        (profile, cipher) in profile(),
        tier in prop_oneof![Just(Tier::Basic), Just(Tier::Standard), Just(Tier::Premium)],
        rank in 0..MAX_HOLDERS as u8,
        (client_internal_ip, server_port, seq_number) in any::<(IpAddr, u16, u64)>(),
    ) -> (SessionRecord, Placement) {
        let record = SessionRecord {
            session: SessionId(session),
            version,
            client: ClientId(client),
            client_key: PublicKey(client_key),
            client_incarnation,
            client_address: SocketAddr::new(client_ip, client_port),
            source_ips,
            generation,
            number,
            holders,
            tier,
            profile,
            cipher,
            handshake_hash,
        };
        (record, Placement { holder, rank, client_internal_ip, server_port, seq_number })
    }
}

proptest! {
    #[test]
    fn record_json_and_binary_say_the_same((record, place) in described(), with in any::<bool>()) {
        let mut document = SessionDocument::describe(&record, &place).unwrap();
        if with {
            document.crypto_params.shared_secret = rig::sealed().crypto_params.shared_secret;
            document.esp_params.esp_key = rig::sealed().esp_params.esp_key;
        }
        prop_assert_eq!(document.record(), record);
        let json = document.to_json();
        let bytes = document.to_bytes();
        prop_assert_eq!(&SessionDocument::from_json(json.as_bytes()).unwrap(), &document);
        prop_assert_eq!(&SessionDocument::from_bytes(&bytes).unwrap(), &document);
        prop_assert_eq!(&serde_json::from_str::<SessionDocument>(&json).unwrap(), &document);
        prop_assert_eq!(Schema::published().validate(&rig::json(&document)), Ok(()));
        prop_assert!(json.len() <= MAX_JSON / 3, "{}", json.len());
    }

    #[test]
    fn any_bytes_are_a_document_or_an_error(bytes in vec(any::<u8>(), 0..600)) {
        let _ = SessionDocument::from_json(&bytes);
        let _ = SessionDocument::from_bytes(&bytes);
    }

    #[test]
    fn a_damaged_document_is_another_one_or_an_error(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (json, binary) = (rig::sealed().to_json().into_bytes(), rig::sealed().to_bytes());
        for (mut bytes, is_json) in [(json, true), (binary, false)] {
            for (at, byte) in &damage {
                *at.get_mut(&mut bytes) = *byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let read = if is_json {
                SessionDocument::from_json(&bytes)
            } else {
                SessionDocument::from_bytes(&bytes)
            };
            if let Ok(read) = read {
                prop_assert_eq!(SessionDocument::from_json(read.to_json().as_bytes()), Ok(read));
            }
        }
    }
}
