//! Byte layouts of the handshake datagrams. All numbers are little endian.
//!
//! ```text
//! A        type 1 | version 1 | profile 1 | mode 1 | sender 4 | Noise 1 | mac1 16 | mac2 16
//! K        type 1 | version 1 | chunk 1 | of 1 | sender 4 | other leaves 32 × (of − 1) | chunk | mac1 16 | mac2 16
//! R        type 1 | version 1 | parts 1 | 0 | receiver 4 | ciphertext, last part | Noise 2 | mac 16
//! R-chunk  type 1 | version 1 | 0 | 0 | receiver 4 | ciphertext, first half | mac 16
//! cookie   type 1 | version 1 | 0 | 0 | receiver 4 | nonce 24 | sealed cookie 16 + 16
//! refusal  type 1 | version 1 | 0 | 0 | receiver 4 | Noise 2 of a refusal | mac 16
//!
//! Noise 1  e 32 | s 48 | payload (incarnation 8, random 16, counter 4, ciphers 1, commitment 32, options) + 16
//! Noise 2  e 32 | payload (sender 4, incarnation 8, random 16, cipher 1, options) + 16
//!          e 32 | payload (reason 1, value 8) + 16                                 in a refusal
//! ```
//!
//! `Standard` and `Light`: A has 197 bytes and the options, K 1 224, R 1 189 and the options.
//! `High`: the key is in two K of 856 bytes, the ciphertext in R-chunk and R. The mode is the code of
//! the [`Exchange`]. Without ML-KEM there is no K, R has no parts, and the commitment is zero.

use super::exchange::Exchange;
use super::identity::Incarnation;
use crate::DropReason;
use crate::suite::{Cipher, Ciphers, Kem, Profile};

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

/// For whom a datagram is, if it belongs to the handshake.
#[must_use]
pub fn direction(datagram: &[u8]) -> Option<Direction> {
    match *datagram.first()? {
        TYPE_A | TYPE_K => Some(Direction::ToResponder),
        TYPE_R | TYPE_R_CHUNK | TYPE_COOKIE | TYPE_REFUSAL => {
            let receiver = index(datagram).ok()?;
            Some(Direction::ToInitiator { receiver })
        }
        _ => None,
    }
}

/// The header of A, which is part of the prologue.
pub(super) type HeaderA = [u8; HEADER];

/// A as it arrived. `datagram` keeps the MACs.
#[derive(Debug)]
pub(super) struct HelloView<'a> {
    pub(super) header: HeaderA,
    pub(super) profile: Profile,
    pub(super) mode: u8,
    pub(super) sender: u32,
    pub(super) noise: &'a [u8],
}

impl<'a> HelloView<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, DropReason> {
        let header = header(datagram, TYPE_A)?;
        let body = datagram.get(HEADER..).ok_or(DropReason::Malformed)?;
        let noise_len = body.len().checked_sub(MACS).ok_or(DropReason::Malformed)?;
        let smallest = 32 + 48 + HelloPayload::FIXED + 16;
        if !(smallest..=smallest + MAX_OPTIONS).contains(&noise_len) {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            header,
            profile: Profile::from_code(header[2]).ok_or(DropReason::Malformed)?,
            mode: header[3],
            sender: index(datagram)?,
            noise: &body[..noise_len],
        })
    }
}

pub(super) fn header_a(profile: Profile, exchange: Exchange, sender: u32) -> HeaderA {
    header_of(TYPE_A, profile.code(), exchange.code(), sender)
}

/// The encrypted payload of A.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HelloPayload<'a> {
    pub(super) incarnation: Incarnation,
    pub(super) counter: u32,
    pub(super) ciphers: Ciphers,
    pub(super) commitment: [u8; 32],
    pub(super) options: &'a [u8],
}

impl<'a> HelloPayload<'a> {
    const FIXED: usize = 8 + 16 + 4 + 1 + 32;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::FIXED + self.options.len());
        bytes.extend_from_slice(&self.incarnation.counter.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.random);
        bytes.extend_from_slice(&self.counter.to_le_bytes());
        bytes.push(self.ciphers.bits());
        bytes.extend_from_slice(&self.commitment);
        bytes.extend_from_slice(self.options);
        bytes
    }

    pub(super) fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            incarnation: Incarnation {
                counter: u64::from_le_bytes(take(&mut bytes)?),
                random: take(&mut bytes)?,
            },
            counter: u32::from_le_bytes(take(&mut bytes)?),
            ciphers: Ciphers::from_bits(take::<1>(&mut bytes)?[0]),
            commitment: take(&mut bytes)?,
            options: bytes,
        })
    }
}

/// K as it arrived.
#[derive(Debug)]
pub(super) struct ChunkView<'a> {
    pub(super) number: u8,
    pub(super) count: u8,
    pub(super) sender: u32,
    /// The leaves of the other chunks, in order.
    pub(super) leaves: &'a [u8],
    pub(super) bytes: &'a [u8],
}

impl<'a> ChunkView<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, DropReason> {
        let header = header(datagram, TYPE_K)?;
        let (number, count) = (header[2], header[3]);
        if number >= count || count > MAX_CHUNKS || datagram.len() > MAX_DATAGRAM {
            return Err(DropReason::Malformed);
        }
        let body_len = datagram.len().checked_sub(HEADER + MACS);
        let body = datagram.get(HEADER..HEADER + body_len.ok_or(DropReason::Malformed)?);
        let leaves_len = 32 * usize::from(count - 1);
        let split = body.and_then(|body| body.split_at_checked(leaves_len));
        let (leaves, bytes) = split.ok_or(DropReason::Malformed)?;
        Ok(Self {
            number,
            count,
            sender: index(datagram)?,
            leaves,
            bytes,
        })
    }
}

/// K without its MACs.
pub(super) fn encode_chunk(
    number: u8,
    count: u8,
    sender: u32,
    leaves: &[u8],
    bytes: &[u8],
) -> Vec<u8> {
    let header = header_of(TYPE_K, number, count, sender);
    [&header, leaves, bytes].concat()
}

/// R as it arrived.
#[derive(Debug)]
pub(super) struct AnswerView<'a> {
    /// Whether an R-chunk carries the first half of the ciphertext.
    pub(super) halved: bool,
    /// The ciphertext, or its second half.
    pub(super) ciphertext: &'a [u8],
    pub(super) noise: &'a [u8],
}

impl<'a> AnswerView<'a> {
    /// Reads an answer of an exchange with this KEM.
    pub(super) fn parse(datagram: &'a [u8], kem: Option<Kem>) -> Result<Self, DropReason> {
        let header = header(datagram, TYPE_R)?;
        let (halved, ciphertext_len) = match (header[2], header[3], kem) {
            (0, 0, None) => (false, 0),
            (1, 0, Some(kem)) => (false, kem.ciphertext_len()),
            (2, 0, Some(kem)) => (true, second_half(kem)),
            _ => return Err(DropReason::Malformed),
        };
        let body = body(datagram)?;
        let split = body.split_at_checked(ciphertext_len);
        let (ciphertext, noise) = split.ok_or(DropReason::Malformed)?;
        let smallest = 32 + AnswerPayload::FIXED + 16;
        if !(smallest..=smallest + MAX_RESPONSE).contains(&noise.len()) {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            halved,
            ciphertext,
            noise,
        })
    }
}

/// The datagrams of an answer without their MACs: R alone, or R-chunk and R. Without ML-KEM the
/// ciphertext is empty.
pub(super) fn encode_answer(receiver: u32, ciphertext: &[u8], noise: &[u8]) -> Vec<Vec<u8>> {
    if HEADER + ciphertext.len() + noise.len() + MAC <= MAX_DATAGRAM {
        let parts = u8::from(!ciphertext.is_empty());
        let header = header_of(TYPE_R, parts, 0, receiver);
        return vec![[&header, ciphertext, noise].concat()];
    }
    let (first, second) = ciphertext.split_at(ciphertext.len() / 2);
    let chunk_header = header_of(TYPE_R_CHUNK, 0, 0, receiver);
    let header = header_of(TYPE_R, 2, 0, receiver);
    vec![
        [&chunk_header, first].concat(),
        [&header, second, noise].concat(),
    ]
}

/// The first half of the ciphertext in an R-chunk.
pub(super) fn parse_answer_chunk(datagram: &[u8], kem: Kem) -> Result<&[u8], DropReason> {
    reserved(header(datagram, TYPE_R_CHUNK)?)?;
    let body = body(datagram)?;
    let right = body.len() == kem.ciphertext_len() - second_half(kem);
    if right {
        Ok(body)
    } else {
        Err(DropReason::Malformed)
    }
}

/// The encrypted payload of R.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnswerPayload<'a> {
    pub(super) sender: u32,
    pub(super) incarnation: Incarnation,
    pub(super) cipher: Cipher,
    pub(super) options: &'a [u8],
}

impl<'a> AnswerPayload<'a> {
    const FIXED: usize = 4 + 8 + 16 + 1;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::FIXED + self.options.len());
        bytes.extend_from_slice(&self.sender.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.counter.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.random);
        bytes.push(self.cipher.code());
        bytes.extend_from_slice(self.options);
        bytes
    }

    pub(super) fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            sender: u32::from_le_bytes(take(&mut bytes)?),
            incarnation: Incarnation {
                counter: u64::from_le_bytes(take(&mut bytes)?),
                random: take(&mut bytes)?,
            },
            cipher: Cipher::from_code(take::<1>(&mut bytes)?[0])?,
            options: bytes,
        })
    }
}

/// A sealed cookie.
#[derive(Debug, Clone, Copy)]
pub(super) struct SealedCookie {
    pub(super) nonce: [u8; 24],
    pub(super) text: [u8; 16],
    pub(super) tag: [u8; 16],
}

pub(super) fn parse_cookie(datagram: &[u8]) -> Result<SealedCookie, DropReason> {
    reserved(header(datagram, TYPE_COOKIE)?)?;
    let mut rest = &datagram[HEADER..];
    let nonce = take(&mut rest).ok_or(DropReason::Malformed)?;
    let text = take(&mut rest).ok_or(DropReason::Malformed)?;
    let tag = rest.try_into().map_err(|_| DropReason::Malformed)?;
    Ok(SealedCookie { nonce, text, tag })
}

pub(super) fn encode_cookie(receiver: u32, cookie: &SealedCookie) -> Vec<u8> {
    let header = header_of(TYPE_COOKIE, 0, 0, receiver);
    [&header[..], &cookie.nonce, &cookie.text, &cookie.tag].concat()
}

/// The Noise message of a refusal.
pub(super) fn parse_refusal(datagram: &[u8]) -> Result<&[u8], DropReason> {
    reserved(header(datagram, TYPE_REFUSAL)?)?;
    body(datagram)
}

/// A refusal without its MAC.
pub(super) fn encode_refusal(receiver: u32, noise: &[u8]) -> Vec<u8> {
    [&header_of(TYPE_REFUSAL, 0, 0, receiver)[..], noise].concat()
}

/// The sender of A and K, the receiver of everything else.
pub(super) fn index(datagram: &[u8]) -> Result<u32, DropReason> {
    let bytes = datagram.get(4..HEADER).ok_or(DropReason::Malformed)?;
    let bytes = bytes.try_into().map_err(|_| DropReason::Malformed)?;
    Ok(u32::from_le_bytes(bytes))
}

fn header_of(kind: u8, third: u8, fourth: u8, index: u32) -> [u8; HEADER] {
    let index = index.to_le_bytes();
    [
        kind, VERSION, third, fourth, index[0], index[1], index[2], index[3],
    ]
}

fn header(datagram: &[u8], kind: u8) -> Result<[u8; HEADER], DropReason> {
    let header: [u8; HEADER] = datagram
        .get(..HEADER)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(DropReason::Malformed)?;
    if header[0] != kind || header[1] != VERSION || datagram.len() > MAX_DATAGRAM {
        return Err(DropReason::Malformed);
    }
    Ok(header)
}

fn reserved(header: [u8; HEADER]) -> Result<(), DropReason> {
    if header[2..4] == [0, 0] {
        Ok(())
    } else {
        Err(DropReason::Malformed)
    }
}

/// What stands between the header and the MAC of a datagram from the responder.
fn body(datagram: &[u8]) -> Result<&[u8], DropReason> {
    let end = datagram
        .len()
        .checked_sub(MAC)
        .ok_or(DropReason::Malformed)?;
    datagram.get(HEADER..end).ok_or(DropReason::Malformed)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

const fn second_half(kem: Kem) -> usize {
    kem.ciphertext_len() - kem.ciphertext_len() / 2
}

/// The largest datagram: fits an IPv6 path of 1 280 bytes.
pub const MAX_DATAGRAM: usize = 1232;
/// The longest options payload of an initiator.
pub const MAX_OPTIONS: usize = 200;
/// The longest options payload of a responder. With it two whole answers are still smaller than
/// one A and two times all its chunks, in every profile; without ML-KEM one is as long as the
/// shortest A.
pub const MAX_RESPONSE: usize = 96;
/// The longest options payload of a responder that costs no second datagram in `Standard`.
pub const SINGLE_RESPONSE: usize = 43;

pub(super) const TYPE_A: u8 = 0x01;
pub(super) const TYPE_K: u8 = 0x02;
pub(super) const TYPE_R: u8 = 0x03;
pub(super) const TYPE_R_CHUNK: u8 = 0x04;
pub(super) const TYPE_COOKIE: u8 = 0x05;
pub(super) const TYPE_REFUSAL: u8 = 0x06;

/// The commitment of an A without chunks.
pub(super) const NO_COMMITMENT: [u8; 32] = [0; 32];
pub(super) const MAC: usize = 16;
pub(super) const MACS: usize = 2 * MAC;
const HEADER: usize = 8;
const VERSION: u8 = 1;
const MAX_CHUNKS: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_parse_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..1400), kind in 0u8..8) {
            if let [first, second, ..] = bytes.as_mut_slice() {
                (*first, *second) = (kind, VERSION);
            }
            let _ = direction(&bytes);
            let _ = HelloView::parse(&bytes);
            let _ = ChunkView::parse(&bytes);
            let _ = parse_cookie(&bytes);
            let _ = parse_refusal(&bytes);
            let _ = AnswerView::parse(&bytes, None);
            for kem in [Kem::MlKem768, Kem::MlKem1024] {
                let _ = AnswerView::parse(&bytes, Some(kem));
                let _ = parse_answer_chunk(&bytes, kem);
            }
        }

        #[test]
        fn payloads_survive_a_round_trip(counter in any::<u64>(), random in any::<[u8; 16]>(), n in any::<u32>(),
                                         bits in any::<u8>(), commitment in any::<[u8; 32]>(),
                                         options in prop::collection::vec(any::<u8>(), 0..MAX_OPTIONS)) {
            let incarnation = Incarnation { counter, random };
            let hello = HelloPayload { incarnation, counter: n, ciphers: Ciphers::from_bits(bits), commitment, options: &options };
            let bytes = hello.encode();
            prop_assert_eq!(HelloPayload::decode(&bytes), Some(hello));
            let answer = AnswerPayload { sender: n, incarnation, cipher: Cipher::Aes256Gcm, options: &options };
            let bytes = answer.encode();
            prop_assert_eq!(AnswerPayload::decode(&bytes), Some(answer));
        }
    }
}
