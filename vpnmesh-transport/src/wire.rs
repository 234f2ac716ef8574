//! The outer layout of session datagrams.
//!
//! ```text
//!  0        1                 4                8                       16
//! | kind 1 | reserved 3 = 0  | receiver index 4 | counter 8, little endian | sealed … | tag 16 |
//! ```
//!
//! The header is the associated data of the AEAD; the counter is its nonce. The index names
//! session, generation, branch and move at the receiver. An activation carries the clear text that
//! its keys depend on between header and sealed part:
//!
//! ```text
//! | header 16 | generation 4 | move 4 | client nonce 16 | sealed … | tag 16 |
//! ```

use std::net::SocketAddr;
use std::ops::Range;

use crate::DropReason;

/// What a session datagram carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One inner IP packet.
    Data,
    /// Frames: see [`frame`](crate::frame).
    Control,
    /// Half of an inner IP packet: see [`split`](crate::split).
    Split,
    /// The client activates a branch.
    Activate,
}

/// The header of a session datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// The receiver's name for the keys.
    pub index: u32,
    /// The packet's number under its key.
    pub counter: u64,
}

/// The clear part of an activation, behind the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivateHead {
    /// Generation of the branch.
    pub generation: u32,
    /// Number of the move.
    pub number: u32,
    /// Fresh random bytes of the client.
    pub nonce: [u8; 16],
}

/// Length of a [`Header`].
pub const HEADER: usize = 16;
/// Length of an AEAD tag.
pub const TAG: usize = 16;
/// What sealing adds to an inner packet.
pub const OVERHEAD: usize = HEADER + TAG;
/// Where the sealed text of a session datagram of `len` bytes lies.
#[must_use]
pub const fn text_of(len: usize) -> Range<usize> {
    HEADER..len - TAG
}

/// Length of an [`ActivateHead`].
pub const ACTIVATE_HEAD: usize = 24;
/// The longest UDP payload that every IPv6 path carries: 1280 − 40 − 8.
pub const SAFE_PAYLOAD: usize = 1232;
/// The longest UDP payload over an Ethernet path, whatever the IP version: 1500 − 40 − 8.
pub const ETHERNET_PAYLOAD: usize = 1452;
/// The longest UDP payload over an Ethernet path to that address.
#[must_use]
pub fn ethernet_payload(to: SocketAddr) -> usize {
    if to.ip().to_canonical().is_ipv4() {
        ETHERNET_PAYLOAD + 20 // its header is so much shorter than that of IPv6
    } else {
        ETHERNET_PAYLOAD
    }
}

impl Header {
    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = match self.kind {
            Kind::Data => DATA,
            Kind::Control => CONTROL,
            Kind::Split => SPLIT,
            Kind::Activate => ACTIVATE,
        };
        bytes[4..8].copy_from_slice(&self.index.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.counter.to_le_bytes());
        bytes
    }

    /// Reads the header of a datagram that is long enough to be sealed.
    ///
    /// # Errors
    /// [`DropReason::Malformed`].
    pub fn decode(datagram: &[u8]) -> Result<Self, DropReason> {
        let (Some(head), true) = (datagram.first_chunk::<HEADER>(), datagram.len() >= OVERHEAD)
        else {
            return Err(DropReason::Malformed);
        };
        let kind = match head[0] {
            DATA => Kind::Data,
            CONTROL => Kind::Control,
            SPLIT => Kind::Split,
            ACTIVATE => Kind::Activate,
            _ => return Err(DropReason::Malformed),
        };
        if head[1..4] != [0; 3] {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            kind,
            index: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
            counter: u64::from_le_bytes([
                head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15],
            ]),
        })
    }
}

impl ActivateHead {
    /// Writes the clear part.
    #[must_use]
    pub fn encode(&self) -> [u8; ACTIVATE_HEAD] {
        let mut bytes = [0; ACTIVATE_HEAD];
        bytes[..4].copy_from_slice(&self.generation.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.nonce);
        bytes
    }

    /// Reads the clear part from what follows the header.
    ///
    /// # Errors
    /// [`DropReason::Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, DropReason> {
        let head = body
            .first_chunk::<ACTIVATE_HEAD>()
            .ok_or(DropReason::Malformed)?;
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&head[8..]);
        Ok(Self {
            generation: u32::from_le_bytes([head[0], head[1], head[2], head[3]]),
            number: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
            nonce,
        })
    }
}

const DATA: u8 = 0x10;
const CONTROL: u8 = 0x11;
const SPLIT: u8 = 0x12;
const ACTIVATE: u8 = 0x13;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_survive_the_round_trip(index in any::<u32>(), counter in any::<u64>(), pick in 0usize..4) {
            let kind = [Kind::Data, Kind::Control, Kind::Split, Kind::Activate][pick];
            let header = Header { kind, index, counter };
            let mut datagram = header.encode().to_vec();
            prop_assert_eq!(Header::decode(&datagram), Err(DropReason::Malformed));
            datagram.extend([0; TAG]);
            prop_assert_eq!(Header::decode(&datagram), Ok(header));
        }

        #[test]
        fn activations_survive_the_round_trip(generation in any::<u32>(), number in any::<u32>(), nonce in any::<[u8; 16]>()) {
            let head = ActivateHead { generation, number, nonce };
            prop_assert_eq!(ActivateHead::decode(&head.encode()), Ok(head));
            prop_assert!(ActivateHead::decode(&head.encode()[1..]).is_err());
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Header::decode(&bytes);
            let _ = ActivateHead::decode(&bytes);
        }
    }
}
