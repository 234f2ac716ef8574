//! What arrives from the network, and what lies on a disk.

use std::fmt::Debug;
use std::sync::OnceLock;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use vpnmesh::control::{LogEntry, MeshState};
use vpnmesh::keys::{SignedMembership, SignedOrder, SigningKey, VerifyingKey};
use vpnmesh::predict::parse;
use vpnmesh_core::{ClientId, Membership, NodeId, Secret};
use vpnmesh_transport::message::{
    self, ClientMessage, FromSite, HolderMessage, NodeMessage, ToSite,
};
use vpnmesh_transport::outbox::Outbox;
use vpnmesh_transport::probe::{self, Prober};
use vpnmesh_transport::receipt::{Fence, Phase, RECEIPT, Receipt, Way};
use vpnmesh_transport::station::Hello;
use vpnmesh_transport::wire::{ACTIVATE_HEAD, ActivateHead, HEADER, Header};
use vpnmesh_transport::{frame, handshake};

use super::handshake::mac;
use super::members::{self, START};
use super::script::Script;

/// The outer layout of session datagrams: what is read is written the same way.
pub fn wire(data: &[u8]) {
    if let Ok(header) = Header::decode(data) {
        assert_eq!(header.encode(), data[..HEADER]);
    }
    if let Ok(head) = ActivateHead::decode(data) {
        assert_eq!(head.encode(), data[..ACTIVATE_HEAD]);
    }
    let _ = handshake::direction(data);
    let _ = Way::of(data);
    let _ = probe::is_probe(data);
}

/// The frames of a control datagram.
pub fn frames(data: &[u8]) {
    let Ok(frames) = frame::decode(data) else {
        return;
    };
    let mut bytes = Vec::new();
    for frame in &frames {
        let before = bytes.len();
        frame.encode(&mut bytes);
        assert_eq!(bytes.len() - before, frame.encoded_len());
    }
    assert_eq!(frame::decode(&bytes), Ok(frames));
}

/// Control messages; the first byte says of which kind.
pub fn messages(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    match kind % 6 {
        0 => read::<ClientMessage>(body),
        1 => read::<HolderMessage>(body),
        2 => read::<NodeMessage>(body),
        3 => read::<ToSite>(body),
        4 => read::<FromSite>(body),
        _ => read::<Hello>(body),
    }
}

fn read<M: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    if let Ok(message) = message::decode::<M>(body) {
        let bytes = message::encode(&message);
        assert_eq!(message::decode::<M>(&bytes), Ok(message));
    }
}

/// Receipts: as they come, with a MAC made right, and built from any fields.
pub fn receipts(data: &[u8]) {
    let key = Secret::take(&mut [7; 32]);
    let way = match data.first() {
        Some(&0x31) => Way::Answer,
        _ => Way::Statement,
    };
    let _ = Receipt::open(way, &key, data);
    if let Some(text) = data.first_chunk::<{ RECEIPT - 16 }>() {
        let bytes = [&text[..], &mac(key.expose(), text)].concat();
        if let Ok(receipt) = Receipt::open(way, &key, &bytes) {
            assert_eq!(receipt.seal(way, &key), bytes);
        }
    }
    let mut script = Script::new(data);
    let (client, holder, drained) = (script.long(), script.long(), script.long());
    let receipt = Receipt {
        client: ClientId(client),
        fence: Fence {
            incarnation: script.long(),
            generation: script.short().into(),
            number: script.short().into(),
        },
        phase: if script.byte() & 1 == 0 {
            Phase::Shared
        } else {
            Phase::Alone
        },
        holder: NodeId(holder),
        drained: (drained != 0).then_some(NodeId(drained)),
    };
    let bytes = receipt.seal(way, &key);
    assert_eq!(Receipt::open(way, &key, &bytes), Ok(receipt));
}

/// Probes and their replies.
pub fn probes(data: &[u8]) {
    let key = members::identity(1).public();
    if let Ok(reply) = probe::answer(&key, data) {
        assert!(reply.len() <= data.len(), "a reply is never the longer one");
    }
    let mut prober = Prober::new(Duration::from_secs(1), START);
    if let Ok(membership) = postcard::from_bytes::<Membership>(members::membership()) {
        prober.follow(&membership);
    }
    let mut out = Outbox::default();
    prober.flush(&mut out, START);
    let _ = prober.handle_reply(members::address(1), data, START + Duration::from_millis(9));
    let request = out.poll_transmit().map(|sent| sent.payload);
    if let Some(reply) = request.and_then(|request| probe::answer(&key, &request).ok()) {
        let at = START + Duration::from_millis(10);
        let heard = prober.handle_reply(members::address(1), &reply, at);
        assert_eq!(heard, Ok(NodeId(1)), "junk before a reply does no harm");
    }
}

/// Memberships and orders, bare and signed; the root key is the one of seed 9, 9, 9, ...
pub fn membership(data: &[u8]) {
    if let Ok(list) = postcard::from_bytes::<Membership>(data) {
        let sound = list.check().is_ok();
        for node in list.nodes.iter().filter(|_| sound) {
            assert_eq!(list.node(node.id), Some(node));
            assert_eq!(list.node_by_key(&node.key), Some(node));
        }
        let bytes = postcard::to_stdvec(&list).expect("plain types can be written");
        assert_eq!(postcard::from_bytes(&bytes), Ok(list));
    }
    static ROOT: OnceLock<SigningKey> = OnceLock::new();
    let root = ROOT.get_or_init(|| SigningKey::from_seed(Secret::take(&mut [9; 32])));
    if let Ok(signed) = SignedMembership::from_bytes(data) {
        let again = SignedMembership::from_bytes(&signed.to_bytes());
        assert_eq!(again.ok().as_ref(), Some(&signed));
        if let Ok(list) = signed.verify(root.verifying_key()) {
            assert!(list.check().is_ok());
        }
    }
    if let Ok(order) = SignedOrder::from_bytes(data) {
        let again = SignedOrder::from_bytes(&order.to_bytes());
        assert_eq!(again.ok().as_ref(), Some(&order));
        let _ = order.verify(root.verifying_key());
    }
}

/// Verifying keys, as text and as bytes.
pub fn keys(data: &[u8]) {
    let text = std::str::from_utf8(data).ok();
    let of_text = text.and_then(|text| VerifyingKey::from_text(text).ok());
    for key in of_text
        .into_iter()
        .chain(VerifyingKey::from_bytes(data).ok())
    {
        let again = VerifyingKey::from_text(&key.to_text());
        assert_eq!(again.ok().map(|key| key.to_bytes()), Some(key.to_bytes()));
    }
}

/// Lines of the controller's log, one after the other, and what they make of its state.
pub fn log(mut data: &[u8]) {
    let mut state = MeshState::default();
    while let Ok((entry, rest)) = postcard::take_from_bytes::<LogEntry>(data) {
        let bytes = postcard::to_stdvec(&entry).expect("plain types can be written");
        assert_eq!(
            postcard::from_bytes::<LogEntry>(&bytes).as_ref(),
            Ok(&entry)
        );
        let before = state.clone();
        if state.apply(&entry).is_err() {
            assert_eq!(state, before, "a refused line changes nothing");
        }
        let _ = state.membership().check();
        data = rest;
    }
}

/// Files of `/proc`.
pub fn proc_files(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (one, two) = text.split_once('\0').unwrap_or((&text, ""));
    if let (Some(before), Some(after)) = (parse::cpu_ticks(one), parse::cpu_ticks(two)) {
        let _ = before.busy_until(after);
    }
    if let (Some(before), Some(after)) = (parse::run_delay(one), parse::run_delay(two)) {
        let _ = before.mean_until(after);
    }
    let _ = parse::process_ticks(one);
    let _ = parse::memory_used(one);
    let _ = parse::load(one);
    let _ = parse::stalled(one);
}
