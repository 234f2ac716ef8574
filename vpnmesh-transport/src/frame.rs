//! Frames: what a control datagram carries inside the seal.
//!
//! Each frame is `kind 1 | length 2 | body`, numbers in little endian. An unknown kind is skipped,
//! so that later versions may add some.

use vpnmesh_core::Timestamp;
use zeroize::Zeroizing;

use crate::DropReason;
use crate::stream::{Fragment, StreamAck};

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// "I live": the answer to data when there is no data to send.
    Ack,
    /// Asks for a [`Frame::Pong`] at once; the token is the sender's clock.
    Ping(Timestamp),
    /// The answer to a ping.
    Pong(Timestamp),
    /// A piece of a control message.
    Fragment(Fragment),
    /// What arrived of the control stream.
    StreamAck(StreamAck),
    /// The sender of an activation may go on: this holder opened it.
    Activated,
    /// This end has closed the session and forgets it.
    Close,
    /// Asks for a [`Frame::MtuReply`] with the same number; `padding` bytes make the datagram as
    /// long as the path may carry. It never tells whether the peer lives.
    MtuProbe {
        /// Its number.
        number: u32,
        /// How many zero bytes follow.
        padding: u16,
    },
    /// A padded probe arrived whole.
    MtuReply(u32),
}

impl Frame {
    /// Whether a living peer answers it.
    #[must_use]
    pub const fn asks(&self) -> bool {
        match self {
            Self::Ping(_) | Self::Fragment(_) => true,
            Self::Ack
            | Self::Pong(_)
            | Self::StreamAck(_)
            | Self::Activated
            | Self::Close
            | Self::MtuProbe { .. }
            | Self::MtuReply(_) => false,
        }
    }

    /// The length of the frame on the wire.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        FRAME_HEAD
            + match self {
                Self::Ack | Self::Activated | Self::Close => 0,
                Self::Ping(_) | Self::Pong(_) => 8,
                Self::Fragment(fragment) => 5 + fragment.bytes.len(),
                Self::StreamAck(_) => 12,
                Self::MtuProbe { padding, .. } => 4 + *padding as usize,
                Self::MtuReply(_) => 4,
            }
    }

    /// Writes the frame behind what `out` holds.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, len) = (self.kind(), self.encoded_len() - FRAME_HEAD);
        out.push(kind);
        out.extend_from_slice(&(len as u16).to_le_bytes());
        match self {
            Self::Ack | Self::Activated | Self::Close => {}
            Self::Ping(token) | Self::Pong(token) => out.extend_from_slice(&token.0.to_le_bytes()),
            Self::Fragment(fragment) => {
                out.extend_from_slice(&fragment.number.to_le_bytes());
                out.push(fragment.last.into());
                out.extend_from_slice(&fragment.bytes);
            }
            Self::StreamAck(ack) => {
                out.extend_from_slice(&ack.wanted.to_le_bytes());
                out.extend_from_slice(&ack.ahead.to_le_bytes());
            }
            Self::MtuProbe { number, padding } => {
                out.extend_from_slice(&number.to_le_bytes());
                out.resize(out.len() + usize::from(*padding), 0);
            }
            Self::MtuReply(number) => out.extend_from_slice(&number.to_le_bytes()),
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Ack => 1,
            Self::Ping(_) => 2,
            Self::Pong(_) => 3,
            Self::Fragment(_) => 4,
            Self::StreamAck(_) => 5,
            Self::Activated => 6,
            Self::Close => 7,
            Self::MtuProbe { .. } => 8,
            Self::MtuReply(_) => 9,
        }
    }
}

/// Reads all frames of a control datagram.
///
/// # Errors
/// [`DropReason::Malformed`] where the lengths do not add up; frames before that are lost too.
pub fn decode(mut rest: &[u8]) -> Result<Vec<Frame>, DropReason> {
    let mut frames = Vec::new();
    while let [kind, low, high, tail @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let (body, next) = tail.split_at_checked(len).ok_or(DropReason::Malformed)?;
        frames.extend(decode_one(*kind, body)?);
        rest = next;
    }
    if rest.is_empty() {
        Ok(frames)
    } else {
        Err(DropReason::Malformed)
    }
}

fn decode_one(kind: u8, body: &[u8]) -> Result<Option<Frame>, DropReason> {
    let token = || match body.try_into() {
        Ok(bytes) => Ok(Timestamp(u64::from_le_bytes(bytes))),
        Err(_) => Err(DropReason::Malformed),
    };
    Ok(Some(match kind {
        1 => Frame::Ack,
        2 => Frame::Ping(token()?),
        3 => Frame::Pong(token()?),
        4 => match body {
            [a, b, c, d, last @ (0 | 1), bytes @ ..] => Frame::Fragment(Fragment {
                number: u32::from_le_bytes([*a, *b, *c, *d]),
                last: *last == 1,
                bytes: Zeroizing::new(bytes.to_vec()),
            }),
            _ => return Err(DropReason::Malformed),
        },
        5 => {
            let body: [u8; 12] = body.try_into().map_err(|_| DropReason::Malformed)?;
            let [a, b, c, d, ahead @ ..] = body;
            Frame::StreamAck(StreamAck {
                wanted: u32::from_le_bytes([a, b, c, d]),
                ahead: u64::from_le_bytes(ahead),
            })
        }
        6 => Frame::Activated,
        7 => Frame::Close,
        8 => match body {
            [a, b, c, d, padding @ ..] => Frame::MtuProbe {
                number: u32::from_le_bytes([*a, *b, *c, *d]),
                padding: padding.len() as u16,
            },
            _ => return Err(DropReason::Malformed),
        },
        9 => {
            let number: [u8; 4] = body.try_into().map_err(|_| DropReason::Malformed)?;
            Frame::MtuReply(u32::from_le_bytes(number))
        }
        _ => return Ok(None),
    }))
}

/// Kind and length.
const FRAME_HEAD: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            Just(Frame::Ack),
            Just(Frame::Activated),
            Just(Frame::Close),
            any::<u32>().prop_map(Frame::MtuReply),
            (any::<u32>(), 0u16..300)
                .prop_map(|(number, padding)| Frame::MtuProbe { number, padding }),
            any::<u64>().prop_map(|token| Frame::Ping(Timestamp(token))),
            any::<u64>().prop_map(|token| Frame::Pong(Timestamp(token))),
            any::<(u32, u64)>()
                .prop_map(|(wanted, ahead)| Frame::StreamAck(StreamAck { wanted, ahead })),
            (
                any::<u32>(),
                any::<bool>(),
                prop::collection::vec(any::<u8>(), 0..50)
            )
                .prop_map(|(number, last, bytes)| Frame::Fragment(Fragment {
                    number,
                    last,
                    bytes: bytes.into(),
                })),
        ]
    }

    #[test]
    fn frames_of_the_future_are_skipped() {
        let mut bytes = vec![200, 2, 0, 7, 7];
        Frame::Ack.encode(&mut bytes);
        assert_eq!(decode(&bytes), Ok(vec![Frame::Ack]));
    }

    proptest! {
        #[test]
        fn frames_survive_the_round_trip(frames in prop::collection::vec(any_frame(), 0..8)) {
            let mut bytes = Vec::new();
            for frame in &frames {
                let before = bytes.len();
                frame.encode(&mut bytes);
                prop_assert_eq!(bytes.len() - before, frame.encoded_len());
            }
            prop_assert_eq!(decode(&bytes), Ok(frames));
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
