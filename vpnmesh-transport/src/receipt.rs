//! Receipts: how a client tells a site through which holder its packets come (design rule S5).
//!
//! ```text
//! | 0x30 | phase 1 | reserved 2 | client 8 | client incarnation 8 | generation 4 | move 4
//! | holder 8 | drained holder 8, 0 if none | mac 16 |                                = 60 bytes
//! ```
//!
//! The MAC is keyed BLAKE2s under a key that client and site agreed in a hybrid handshake of their
//! own, which the holder only relays. The site answers with the same bytes under 0x31.

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use vpnmesh_core::{ClientId, NodeId, Secret};

use crate::DropReason;

/// Orders the receipts of a client: a site and a client accept nothing below the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Fence {
    /// The client's incarnation counter.
    pub incarnation: u64,
    /// The session's generation.
    pub generation: u32,
    /// The move within the session.
    pub number: u32,
}

/// Which holders a receipt makes valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// A planned move has begun: the drained holder is valid beside the new one.
    Shared,
    /// The holder is valid alone; a drained holder may deliver what it had sealed before.
    Alone,
}

/// A client's statement to a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The client.
    pub client: ClientId,
    /// The order of the statement.
    pub fence: Fence,
    /// Which holders are valid.
    pub phase: Phase,
    /// The holder that the move activated.
    pub holder: NodeId,
    /// The holder that is left by a planned move.
    pub drained: Option<NodeId>,
}

/// Whether bytes on the way between client and site are a receipt or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Statement,
    /// From the site: it is in force.
    Answer,
}

/// Length of a receipt.
pub const RECEIPT: usize = 60;
/// The site does not know the client's key, after a restart for example: hand-shake again.
pub const UNKNOWN_KEY: u8 = 0x32;

/// A holder's own word: the site was away, it may have missed or forgotten the statement.
pub const STATE_AGAIN: u8 = 0x33;

impl Receipt {
    /// Writes and authenticates the receipt.
    #[must_use]
    pub fn seal(&self, way: Way, key: &Secret<32>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECEIPT);
        let (kind, phase) = (way.code(), u8::from(self.phase == Phase::Alone));
        bytes.extend_from_slice(&[kind, phase, 0, 0]);
        bytes.extend_from_slice(&self.client.0.to_le_bytes());
        bytes.extend_from_slice(&self.fence.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.fence.generation.to_le_bytes());
        bytes.extend_from_slice(&self.fence.number.to_le_bytes());
        bytes.extend_from_slice(&self.holder.0.to_le_bytes());
        bytes.extend_from_slice(&self.drained.map_or(0, |node| node.0).to_le_bytes());
        let tag = mac(key, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag);
        bytes
    }

    /// Reads a receipt and checks its MAC.
    ///
    /// # Errors
    /// [`DropReason::Malformed`] or [`DropReason::Forged`].
    pub fn open(way: Way, key: &Secret<32>, bytes: &[u8]) -> Result<Self, DropReason> {
        let bytes: &[u8; RECEIPT] = bytes.try_into().map_err(|_| DropReason::Malformed)?;
        let (text, tag) = bytes.split_at(RECEIPT - 16);
        mac(key, text)
            .verify_slice(tag)
            .map_err(|_| DropReason::Forged)?;
        let phase = match text[..4] {
            [kind, 0, 0, 0] if kind == way.code() => Phase::Shared,
            [kind, 1, 0, 0] if kind == way.code() => Phase::Alone,
            _ => return Err(DropReason::Malformed),
        };
        let word = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&text[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        let pair = word(20);
        Ok(Self {
            client: ClientId(word(4)),
            fence: Fence {
                incarnation: word(12),
                generation: pair as u32,
                number: (pair >> 32) as u32,
            },
            phase,
            holder: NodeId(word(28)),
            drained: (word(36) != 0).then(|| NodeId(word(36))),
        })
    }
}

impl Way {
    const fn code(self) -> u8 {
        match self {
            Self::Statement => 0x30,
            Self::Answer => 0x31,
        }
    }

    /// What the bytes claim to be; `None` for anything else, such as a handshake.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.first() {
            Some(0x30) => Some(Self::Statement),
            Some(0x31) => Some(Self::Answer),
            _ => None,
        }
    }
}

fn mac(key: &Secret<32>, text: &[u8]) -> Blake2sMac<U16> {
    let mut mac =
        Blake2sMac::<U16>::new_from_slice(key.expose()).expect("BLAKE2s takes keys of 32 bytes");
    Mac::update(&mut mac, text);
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(fill: u8) -> Secret<32> {
        Secret::take(&mut [fill; 32])
    }

    proptest! {
        #[test]
        fn receipts_survive_the_round_trip_and_nothing_else_does(
            client in any::<u64>(), incarnation in any::<u64>(), generation in any::<u32>(),
            number in any::<u32>(), alone in any::<bool>(), holder in any::<u64>(), drained in any::<u64>(),
            flip in 0usize..RECEIPT * 8,
        ) {
            let receipt = Receipt {
                client: ClientId(client),
                fence: Fence { incarnation, generation, number },
                phase: if alone { Phase::Alone } else { Phase::Shared },
                holder: NodeId(holder),
                drained: (drained != 0).then_some(NodeId(drained)),
            };
            let mut bytes = receipt.seal(Way::Statement, &key(1));
            prop_assert_eq!(Receipt::open(Way::Statement, &key(1), &bytes), Ok(receipt));
            prop_assert_eq!(Receipt::open(Way::Statement, &key(2), &bytes), Err(DropReason::Forged));
            prop_assert_eq!(Receipt::open(Way::Answer, &key(1), &bytes), Err(DropReason::Malformed));
            bytes[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(Receipt::open(Way::Statement, &key(1), &bytes).is_err());
        }
    }
}
