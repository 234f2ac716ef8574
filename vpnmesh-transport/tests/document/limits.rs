//! How long the forms are.

use std::net::SocketAddr;

use vpnmesh_core::{ClientId, NodeId};
use vpnmesh_transport::record::{MAX_HOLDERS, MAX_SOURCES, Sealed, SessionDocument};

use crate::rig;

#[test]
fn a_usual_document_takes_142_bytes() {
    assert_eq!(rig::document().to_bytes().len(), 142);
}

#[test]
fn the_binary_form_without_secrets_fits_300_bytes() {
    let mut record = rig::record();
    record.client_address = SocketAddr::new(rig::ip("2001:db8::7"), 40_112);
    record.source_ips = vec![rig::ip("2001:db8::1"); MAX_SOURCES / 2];
    record.holders = (0..4).map(|node| NodeId(1 << (20 + node))).collect();
    record.client = ClientId(1 << 32);
    record.version = 1 << 28;
    record.generation = 1 << 14;
    let mut place = rig::placement();
    place.holder = record.holders[3];
    place.client_internal_ip = rig::ip("fd00::7");
    place.seq_number = 1 << 40;
    let document = SessionDocument::describe(&record, &place).unwrap();
    let len = document.to_bytes().len();
    assert!(len <= 300, "{len}");
}

#[test]
fn no_document_without_secrets_is_longer_than_470_bytes() {
    let mut record = rig::record();
    record.client_address = SocketAddr::new(rig::ip("2001:db8::7"), u16::MAX);
    record.source_ips = vec![rig::ip("2001:db8::1"); MAX_SOURCES];
    record.holders = (0..MAX_HOLDERS as u64)
        .map(|n| NodeId(u64::MAX - n))
        .collect();
    record.client = ClientId(u64::MAX);
    (record.version, record.client_incarnation) = (u64::MAX, u64::MAX);
    (record.generation, record.number) = (u32::MAX, u32::MAX);
    let mut place = rig::placement();
    place.holder = NodeId(u64::MAX);
    place.client_internal_ip = rig::ip("fd00::7");
    (place.server_port, place.seq_number) = (u16::MAX, u64::MAX);
    let document = SessionDocument::describe(&record, &place).unwrap();
    let len = document.to_bytes().len();
    assert!((400..=470).contains(&len), "{len}");
}

#[test]
fn each_secret_adds_its_sealed_length() {
    let (with, without) = (rig::sealed(), rig::document());
    let added = with.to_bytes().len() - without.to_bytes().len();
    assert_eq!(added, 2 * (Sealed::LEN + 2)); // two bytes say the length
    assert_eq!(Sealed::LEN, 1169);
}
