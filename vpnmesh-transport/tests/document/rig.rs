//! Documents to test with.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use vpnmesh_core::{ClientId, NodeId, PublicKey, Secret, SessionId, Tier};
use vpnmesh_transport::record::{Placement, SealingIdentity, SessionDocument, SessionRecord};
use vpnmesh_transport::{Cipher, Error, Profile, SeededEntropy};

/// The holder of the sample.
pub(crate) const HOLDER: NodeId = NodeId(2);

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn record() -> SessionRecord {
    SessionRecord {
        session: SessionId(*b"\x8f\x1c\x02\xd4\x77\xaa\x4e\x0b\x93\x61\x5d\xe0\x1f\x38\xc9\x26"),
        version: 41,
        client: ClientId(7),
        client_key: PublicKey([0x33; 32]),
        client_incarnation: 5,
        client_address: SocketAddr::new(ip("203.0.113.7"), 40_112),
        source_ips: vec![ip("198.51.100.20"), ip("2001:db8::9")],
        generation: 3,
        number: 6,
        holders: vec![NodeId(1), HOLDER, NodeId(4)],
        tier: Tier::Standard,
        profile: Profile::Standard.code(),
        cipher: Cipher::Aes256Gcm.code(),
        handshake_hash: [0x44; 32],
    }
}

pub(crate) fn placement() -> Placement {
    Placement {
        holder: HOLDER,
        rank: 1,
        client_internal_ip: ip("10.7.0.1"),
        server_port: 51_820,
        seq_number: 18_233,
    }
}

/// The sample without secrets.
pub(crate) fn document() -> SessionDocument {
    SessionDocument::describe(&record(), &placement()).unwrap()
}

pub(crate) fn branch() -> Secret<32> {
    Secret::take(&mut [0x5a; 32])
}

pub(crate) fn identity(holder: NodeId) -> SealingIdentity {
    SealingIdentity::from_seed(holder, &Secret::take(&mut [0xa5; 32]))
}

/// The sample with secrets for its holder.
pub(crate) fn sealed() -> SessionDocument {
    let mut document = document();
    let key = identity(HOLDER).public();
    document
        .seal(&branch(), &key, &mut SeededEntropy::new(1))
        .unwrap();
    document
}

pub(crate) fn json(document: &SessionDocument) -> Value {
    serde_json::from_str(&document.to_json()).unwrap()
}

pub(crate) fn parse(value: &Value) -> Result<SessionDocument, Error> {
    SessionDocument::from_json(value.to_string().as_bytes())
}

/// The field that the error names.
pub(crate) fn field(error: Error) -> String {
    match error {
        Error::Document { field, .. } => field,
        other => panic!("{other}"),
    }
}

/// The paths of all values within, as JSON pointers, the outermost first.
pub(crate) fn pointers(value: &Value) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut within = |name: String, value: &Value| {
        let inner = pointers(value).into_iter();
        all.extend(inner.map(|rest| format!("/{name}{rest}")));
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| within(name.clone(), value)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, value)| within(index.to_string(), value)),
        _ => {}
    }
    all
}
