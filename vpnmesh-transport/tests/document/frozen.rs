//! Documents of version 1 stay readable: one is frozen in each form.

use vpnmesh_transport::record::SessionDocument;

use crate::rig::{self, HOLDER};
use crate::schema::Schema;

const JSON: &str = include_str!("../vectors/session-document-1.json");
const BINARY: &[u8] = include_bytes!("../vectors/session-document-1.bin");

#[test]
fn the_frozen_document_reads_in_both_forms() {
    let json = SessionDocument::from_json(JSON.as_bytes()).unwrap();
    let binary = SessionDocument::from_bytes(BINARY).unwrap();
    assert_eq!(json, binary);
    assert_eq!(json.record(), rig::record());
    assert_eq!(json.clone().without_secrets(), rig::document());
    let value = serde_json::from_str(JSON).unwrap();
    assert_eq!(Schema::published().validate(&value), Ok(()));
}

#[test]
fn the_frozen_document_is_written_as_it_was() {
    let document = SessionDocument::from_bytes(BINARY).unwrap();
    assert_eq!(document.to_json(), JSON.trim_end());
    assert_eq!(document.to_bytes(), BINARY);
}

#[test]
fn the_frozen_secrets_open() {
    let document = SessionDocument::from_bytes(BINARY).unwrap();
    let secrets = document.open(&rig::identity(HOLDER)).unwrap();
    assert_eq!(secrets.shared_secret, rig::branch());
}

/// Writes the vectors. Only for a new version of the form.
#[test]
#[ignore = "writes the frozen document anew"]
fn freeze() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let document = rig::sealed();
    let json = document.to_json() + "\n";
    std::fs::write(format!("{folder}/session-document-1.json"), json).unwrap();
    let bytes = document.to_bytes();
    std::fs::write(format!("{folder}/session-document-1.bin"), bytes).unwrap();
}
