//! Control messages: what travels reliably inside a session.
//!
//! Each message is the postcard encoding of one of these types, one message type per direction, so
//! that a client cannot say what only a node may say. Lengths are bounded by
//! [`MAX_MESSAGE`](crate::stream::MAX_MESSAGE).

use std::net::SocketAddr;

use postcard::ser_flavors::Size;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vpnmesh_core::{ClientId, NodeId, PublicKey, SessionId, SiteId, Tier, Version};
use zeroize::Zeroizing;

use crate::DropReason;
use crate::record::SessionRecord;
use crate::schedule::TookProof;

/// From a client to its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientMessage {
    /// What the client wants and sees; sent at the start and when it changes.
    Report {
        /// The tier asked for; `None` leaves it to the membership.
        tier: Option<Tier>,
        /// The newest membership the client holds.
        membership: Version,
        /// The greatest generation that the client ever began.
        generation: u32,
        /// Round-trip times to nodes, in microseconds; at most one per node.
        paths: Vec<(NodeId, u32)>,
    },
    /// The client's part of the next generation's root.
    RootReply {
        /// The generation that begins.
        generation: u32,
        /// Fresh random bytes.
        client_random: [u8; 32],
    },
    /// The roster of this generation is in force at the client.
    RosterAck {
        /// Its generation.
        generation: u32,
    },
    /// The order was taken.
    ShiftAck {
        /// The order's number.
        order: u32,
    },
    /// Bytes for a site: see [`receipt`](crate::receipt).
    ToSite {
        /// The site.
        site: SiteId,
        /// Opaque for the holder.
        body: Vec<u8>,
    },
    /// The client commits to another holder and leaves this one.
    Leave {
        /// The move that takes over.
        number: u32,
        /// The last counter that the client sealed for this holder.
        up_final: Option<u64>,
        /// The sites that still drain.
        sites: Vec<SiteId>,
    },
    /// This holder is the only one now: the planned move is over.
    Settled {
        /// The move.
        number: u32,
        /// For the holders before: see [`took_proof`](crate::schedule::took_proof).
        proofs: Vec<(NodeId, TookProof)>,
    },
    /// The holder that an order named did not take over.
    ShiftFailed {
        /// The order's number.
        order: u32,
    },
}

/// From a holder to its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HolderMessage {
    /// The holder's part of the next generation's root.
    RootOffer {
        /// The generation that begins.
        generation: u32,
        /// Fresh random bytes.
        primary_random: [u8; 32],
    },
    /// Who may be activated in this generation.
    Roster {
        /// The generation.
        generation: u32,
        /// The holders that acknowledged their branch; the primary is the first.
        entries: Vec<RosterEntry>,
    },
    /// Move traffic: the holder's own order, in its own authentic channel (rule S4b).
    Shift {
        /// The order's number.
        order: u32,
        /// The holder to move to; the sender itself turns a move back.
        to: NodeId,
        /// The share of traffic that the other holder shall carry, in 1/65535.
        share: u16,
    },
    /// Bytes from a site.
    FromSite {
        /// The site.
        site: SiteId,
        /// Opaque for the holder.
        body: Vec<u8>,
    },
    /// The end of a planned move at the holder that was left.
    Left {
        /// The move that took over.
        number: u32,
        /// The last counter that this holder sealed for the client.
        down_final: Option<u64>,
    },
    /// A newer signed membership; verified by whoever keeps the root key.
    Membership(Vec<u8>),
}

/// A holder in a roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Its place in the derivation.
    pub branch: u8,
    /// The holder.
    pub node: NodeId,
    /// Its static key.
    pub key: PublicKey,
    /// Where it listens for this session.
    pub address: SocketAddr,
    /// Its incarnation: counter and random part.
    pub incarnation: (u64, [u8; 16]),
    /// The first of its [`MOVE_SLOTS`] receiver indices for this branch.
    pub index: u32,
}

/// Between nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeMessage {
    /// A branch for a new shadow, with the state of its session.
    Install {
        /// The state.
        record: Box<SessionRecord>,
        /// The branch's number.
        branch: u8,
        /// The branch's secret.
        secret: BranchBytes,
    },
    /// The branch is in memory.
    Installed {
        /// The session.
        session: SessionId,
        /// The generation.
        generation: u32,
        /// The first receiver index.
        index: u32,
        /// The shadow's incarnation.
        incarnation: (u64, [u8; 16]),
    },
    /// New state of sessions that the receiver shadows; no secrets.
    Update(Vec<SessionRecord>),
    /// Sessions that ended or are shadowed elsewhere now.
    Ended(Vec<SessionId>),
    /// A digest over all sessions that the sender holds and the receiver shadows.
    Digest {
        /// How many there are.
        count: u32,
        /// The sum of their hashes.
        sum: u64,
    },
    /// The digest did not match: the receiver's own sums, bucket by bucket.
    Buckets(Vec<u64>),
    /// All sessions of a mismatching bucket, with their versions.
    Have {
        /// The bucket.
        bucket: u8,
        /// Session, generation and version.
        sessions: Vec<(SessionId, u32, u64)>,
    },
    /// The sender lacks the newest state of these sessions.
    Want(Vec<SessionId>),
    /// The sender has no branch of these sessions.
    Lost(Vec<SessionId>),
    /// The sender was activated for this session.
    Took {
        /// The session.
        session: SessionId,
        /// The generation.
        generation: u32,
        /// The move.
        number: u32,
        /// The client's proof of it for the receiver.
        proof: TookProof,
    },
    /// How the sender is, and how it finds others.
    Health {
        /// Its own load.
        load_permille: u16,
        /// Its own probability of failing soon.
        risk_permille: u16,
        /// Whether it takes sessions.
        accepts: bool,
        /// Loss towards nodes that it probes, in permille.
        losses: Vec<(NodeId, u16)>,
        /// The membership it has.
        membership: Version,
    },
    /// A newer signed membership.
    Membership(Vec<u8>),
}

/// A branch secret on its way to its holder; silent in `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, zeroize::ZeroizeOnDrop)]
pub struct BranchBytes(pub [u8; 32]);

impl std::fmt::Debug for BranchBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BranchBytes(..)")
    }
}

/// From a node to a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSite {
    /// Bytes from a client.
    FromClient {
        /// The client.
        client: ClientId,
        /// Opaque for the node.
        body: Vec<u8>,
    },
    /// The last counter that the node sealed for this site on behalf of a client that left it.
    FinalUp {
        /// The client.
        client: ClientId,
        /// The move that took over.
        number: u32,
        /// The counter; `None` if there was no packet.
        counter: Option<u64>,
    },
    /// A newer signed membership.
    Membership(Vec<u8>),
}

/// From a site to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSite {
    /// The newest membership the site holds.
    Report {
        /// Its version.
        membership: Version,
    },
    /// Bytes for a client.
    ToClient {
        /// The client.
        client: ClientId,
        /// Opaque for the node.
        body: Vec<u8>,
    },
    /// The site sends this client's packets elsewhere now.
    ClientLeft {
        /// The client.
        client: ClientId,
        /// The move that took over.
        number: u32,
        /// The last counter that the site sealed for the node.
        down_final: Option<u64>,
    },
}

/// A branch has this many receiver indices, used in turn by its moves.
pub const MOVE_SLOTS: u32 = 8;

/// Writes a message, which may hold secrets: into a buffer that never grows and is wiped.
#[must_use]
pub fn encode<M: Serialize>(message: &M) -> Zeroizing<Vec<u8>> {
    let size = postcard::serialize_with_flavor(message, Size::default()).expect(PLAIN);
    let mut bytes = Zeroizing::new(vec![0; size]);
    postcard::to_slice(message, &mut bytes).expect(PLAIN);
    bytes
}

const PLAIN: &str = "writing these plain types into memory cannot fail";

/// Reads a message.
///
/// # Errors
/// [`DropReason::Malformed`].
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, DropReason> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(DropReason::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_with_a_tail_is_refused() {
        let message = ClientMessage::RosterAck { generation: 7 };
        let mut bytes = encode(&message);
        assert_eq!(decode::<ClientMessage>(&bytes), Ok(message));
        bytes.push(0);
        assert_eq!(decode::<ClientMessage>(&bytes), Err(DropReason::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<ClientMessage>(&bytes);
            let _ = decode::<HolderMessage>(&bytes);
            let _ = decode::<NodeMessage>(&bytes);
            let _ = decode::<ToSite>(&bytes);
            let _ = decode::<FromSite>(&bytes);
        }
    }
}
