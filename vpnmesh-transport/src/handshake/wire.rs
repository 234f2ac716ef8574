//! Byte layouts of the handshake datagrams.

/// The largest datagram: fits an IPv6 path of 1 280 bytes.
pub const MAX_DATAGRAM: usize = 1232;
/// The longest options payload of an initiator.
pub const MAX_OPTIONS: usize = 200;
/// The longest options payload of a responder, so that its bytes never exceed the initiator's.
pub const MAX_RESPONSE: usize = 96;
/// The longest options payload of a responder that needs no second datagram in `Standard`.
pub const SINGLE_RESPONSE: usize = 43;

/// Whether a datagram belongs to the handshake, and for whom.
#[must_use]
pub fn is_handshake(datagram: &[u8]) -> Option<Direction> {
    match datagram.first()? {
        0x01 | 0x02 => Some(Direction::ToResponder),
        0x03..=0x06 => {
            let index = datagram.get(4..8)?.try_into().ok()?;
            Some(Direction::ToInitiator {
                receiver: u32::from_le_bytes(index),
            })
        }
        _ => None,
    }
}

/// Whom a handshake datagram is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// For the [`Responder`](super::Responder).
    ToResponder,
    /// For the [`Initiator`](super::Initiator) with this local index.
    ToInitiator {
        /// The local index.
        receiver: u32,
    },
}
