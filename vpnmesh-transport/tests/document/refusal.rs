//! Malformed documents are errors that name the field.

use serde_json::{Value, json};
use vpnmesh_core::NodeId;
use vpnmesh_transport::Error;
use vpnmesh_transport::record::{MAX_JSON, SessionDocument};

use crate::rig;
use crate::schema::Schema;

/// The pointer of a field as errors write it.
fn name(pointer: &str) -> String {
    let mut name = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            name += &format!("[{part}]");
        } else {
            name += if name.is_empty() { "" } else { "." };
            name += part;
        }
    }
    name
}

/// The field that is named when `pointer` holds `value`; such a document is not valid.
fn refused(pointer: &str, value: Value) -> String {
    let mut document = rig::json(&rig::sealed());
    *document.pointer_mut(pointer).unwrap() = value;
    rig::field(rig::parse(&document).unwrap_err())
}

#[test]
fn a_value_of_another_type_is_named() {
    let document = rig::json(&rig::sealed());
    for pointer in rig::pointers(&document).iter().skip(1) {
        let wrong = if document.pointer(pointer).unwrap().is_number() {
            json!("1")
        } else {
            json!(1)
        };
        assert_eq!(refused(pointer, wrong), name(pointer));
    }
}

#[test]
fn the_values_of_an_object_in_an_array_are_no_object() {
    assert_eq!(refused("/port_data", json!([40_112, 51_820])), "port_data");
    let document = rig::json(&rig::sealed());
    let values: Vec<_> = document.as_object().unwrap().values().collect();
    let error = rig::parse(&json!(values)).unwrap_err();
    assert_eq!(rig::field(error), "document");
}

#[test]
fn a_missing_field_is_named_even_where_null_is_allowed() {
    let document = rig::json(&rig::sealed());
    for pointer in rig::pointers(&document).iter().skip(1) {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let mut document = document.clone();
        let parent = document.pointer_mut(parent).unwrap();
        let Some(fields) = parent.as_object_mut() else {
            continue;
        };
        fields.remove(last).unwrap();
        let error = rig::parse(&document).unwrap_err();
        assert_eq!(rig::field(error), name(pointer));
        assert!(Schema::published().validate(&document).is_err());
    }
}

#[test]
fn unknown_fields_are_refused_outside_the_extension_and_ignored_within() {
    for (parent, field) in [
        ("", "colour"),
        ("/crypto_params", "crypto_params.colour"),
        ("/esp_params", "esp_params.colour"),
        ("/port_data", "port_data.colour"),
    ] {
        let mut document = rig::json(&rig::sealed());
        document.pointer_mut(parent).unwrap()["colour"] = json!("blue");
        let error = rig::parse(&document).unwrap_err();
        assert_eq!(rig::field(error), field);
        assert!(Schema::published().validate(&document).is_err());
    }
    let mut document = rig::json(&rig::sealed());
    document["vpnmesh"]["colour"] = json!({"blue": [1, null]});
    assert_eq!(rig::parse(&document).unwrap(), rig::sealed());
    assert_eq!(Schema::published().validate(&document), Ok(()));
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    let text = rig::document().to_json();
    let twice = text.replacen('{', r#"{"seq_number":1,"#, 1);
    let error = SessionDocument::from_json(twice.as_bytes()).unwrap_err();
    assert_eq!(rig::field(error), "seq_number");
}

#[test]
fn values_of_another_form_are_named() {
    let upper = rig::record().session.to_string().to_uppercase();
    let sealed = rig::json(&rig::sealed())["crypto_params"]["shared_secret"].clone();
    let sealed = sealed.as_str().unwrap();
    let cases = [
        ("/session_id", json!(upper)),
        ("/session_id", json!("8f1c02d477aa4e0b93615de01f38c9")),
        ("/client_ip", json!("203.0.113.7:40112")),
        ("/client_ip", json!("203.0.113.007")),
        ("/source_ips/1", json!("2001:db8::g")),
        ("/crypto_params/encryption_algorithm", json!("AES-256-GCM")),
        ("/crypto_params/key_exchange", json!("x25519")),
        ("/crypto_params/shared_secret", json!(&sealed[4..])),
        (
            "/crypto_params/shared_secret",
            json!(format!("B{}", &sealed[1..])),
        ),
        (
            "/crypto_params/shared_secret",
            json!(sealed.replace('=', "")),
        ),
        ("/esp_params/esp_algorithm", json!("des")),
        (
            "/esp_params/esp_key",
            json!("WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo="),
        ),
        ("/seq_number", json!(-1)),
        ("/seq_number", json!(1.5)),
        ("/port_data/client_port", json!(65_536)),
        ("/vpnmesh/generation", json!(1_u64 << 32)),
        ("/vpnmesh/tier", json!("gold")),
        ("/vpnmesh/profile", json!("none")),
        ("/vpnmesh/client_key", json!("MzMz")),
        ("/vpnmesh/handshake_hash", json!("44")),
    ];
    for (pointer, value) in cases {
        let mut document = rig::json(&rig::sealed());
        *document.pointer_mut(pointer).unwrap() = value.clone();
        assert!(Schema::published().validate(&document).is_err(), "{value}");
        assert_eq!(refused(pointer, value), name(pointer));
    }
}

#[test]
fn fields_at_odds_are_named() {
    let many: Vec<_> = (0..9).map(|last| format!("10.0.0.{last}")).collect();
    let cases = [
        ("/vpnmesh/version", json!(2)),
        ("/vpnmesh/holders", json!([])),
        ("/vpnmesh/holders", json!([2, 1, 2])),
        ("/vpnmesh/holders", json!([1, 2, 3, 4, 5, 6, 7, 8, 9])),
        ("/vpnmesh/holder", json!(9)),
        ("/vpnmesh/rank", json!(8)),
        ("/source_ips", json!(many)),
        ("/crypto_params/key_exchange", json!("x25519+ml-kem-1024")),
        ("/crypto_params/encryption_algorithm", json!("aes-128-gcm")),
        ("/esp_params/esp_algorithm", json!("aes-128-gcm")),
    ];
    for (pointer, value) in cases {
        assert_eq!(refused(pointer, value), name(pointer));
    }
}

#[test]
fn what_is_no_document_is_named_so() {
    let long = vec![b' '; MAX_JSON + 1];
    let more = format!("{}x", rig::document().to_json());
    let deep = "[".repeat(MAX_JSON);
    for text in [
        b"",
        b"null".as_slice(),
        b"{",
        b"\xff",
        &long,
        more.as_bytes(),
        deep.as_bytes(),
    ] {
        let error = SessionDocument::from_json(text).unwrap_err();
        assert_eq!(rig::field(error), "document");
    }
}

#[test]
fn a_cut_binary_form_names_the_field_where_it_ends() {
    let bytes = rig::document().to_bytes();
    let mut named = Vec::new();
    for end in 0..bytes.len() {
        named.push(rig::field(
            SessionDocument::from_bytes(&bytes[..end]).unwrap_err(),
        ));
    }
    named.dedup();
    let fields = "document session_id client_ip client_internal_ip crypto_params esp_params \
                  seq_number port_data source_ips vpnmesh";
    assert_eq!(named.join(" "), fields);
}

#[test]
fn a_binary_form_with_more_or_of_another_format_is_refused() {
    let mut bytes = rig::document().to_bytes();
    bytes.push(0);
    let error = SessionDocument::from_bytes(&bytes).unwrap_err();
    assert_eq!(rig::field(error), "document");
    bytes.pop();
    bytes[0] = 2;
    let error = SessionDocument::from_bytes(&bytes).unwrap_err();
    assert_eq!(rig::field(error), "document");
    let mut document = rig::document();
    document.vpnmesh.holder = NodeId(9);
    let error = SessionDocument::from_bytes(&document.to_bytes()).unwrap_err();
    assert_eq!(rig::field(error), "vpnmesh.holder");
}

#[test]
fn any_reader_of_serde_checks_too() {
    let mut document = rig::document();
    document.vpnmesh.version = 2;
    let error = serde_json::from_str::<SessionDocument>(&document.to_json()).unwrap_err();
    assert!(error.to_string().contains("vpnmesh.version"), "{error}");
}

#[test]
fn a_record_with_unknown_codes_is_not_described() {
    let (mut profile, mut cipher) = (rig::record(), rig::record());
    profile.profile = 9;
    cipher.cipher = 0;
    let describe = |record| SessionDocument::describe(record, &rig::placement());
    let error = describe(&profile).unwrap_err();
    assert_eq!(rig::field(error), "vpnmesh.profile");
    let error = describe(&cipher).unwrap_err();
    assert_eq!(rig::field(error), "crypto_params.encryption_algorithm");
}

#[test]
fn an_error_is_one_line_that_names_field_and_reason() {
    let error = Error::Document {
        field: "vpnmesh.rank".to_owned(),
        reason: "8, ranks end at 7".to_owned(),
    };
    let line = "session document: vpnmesh.rank: 8, ranks end at 7";
    assert_eq!(error.to_string(), line);
}
