//! The layout of the numbered datagrams.
//!
//! ```text
//!  0      4    5         8       12        16       24       32         40
//!  | vmtk | kind | zeros | stream | zeros   | number | sent   | echoed   | pattern of number .. |
//! ```
//!
//! Big endian; times are nanoseconds of the clock that all processes share.

use vpnmesh_core::Timestamp;

use super::Pattern;

/// One numbered datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Datagram {
    /// What it is for.
    pub(crate) kind: Kind,
    /// Whose it is: one stream per client.
    pub(crate) stream: u32,
    /// Its number within kind and stream, from zero on.
    pub(crate) number: u64,
    /// When its sender sent it.
    pub(crate) sent: Timestamp,
    /// When the echo turned it back; zero before.
    pub(crate) echoed: Timestamp,
}

/// What a datagram is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Client to site, to be echoed.
    Heartbeat,
    /// Site to client: the echo.
    Reply,
    /// Client to site.
    Up,
    /// Site to client.
    Down,
}

impl Datagram {
    /// Writes it into all of `out`, which is at least [`HEADER`] long.
    pub(crate) fn encode(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(MAGIC);
        out[4..HEADER].fill(0);
        out[4] = self.kind.code();
        out[8..12].copy_from_slice(&self.stream.to_be_bytes());
        out[16..24].copy_from_slice(&self.number.to_be_bytes());
        out[24..32].copy_from_slice(&self.sent.0.to_be_bytes());
        out[32..40].copy_from_slice(&self.echoed.0.to_be_bytes());
        Pattern::new(self.number).fill(0, &mut out[HEADER..]);
    }

    /// Reads it; `None` if it is none of ours or has a wrong byte.
    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = data.first_chunk()?;
        let zeros = header[5..8].iter().chain(&header[12..16]);
        if &header[..4] != MAGIC || zeros.copied().any(|byte| byte != 0) {
            return None;
        }
        let word = |at: usize| header[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let number = word(16)?;
        if Pattern::new(number).wrong(0, &data[HEADER..]) > 0 {
            return None;
        }
        Some(Self {
            kind: Kind::of(header[4])?,
            stream: u32::from_be_bytes(header[8..12].try_into().ok()?),
            number,
            sent: Timestamp(word(24)?),
            echoed: Timestamp(word(32)?),
        })
    }
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Heartbeat => 1,
            Self::Reply => 2,
            Self::Up => 3,
            Self::Down => 4,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Heartbeat),
            2 => Some(Self::Reply),
            3 => Some(Self::Up),
            4 => Some(Self::Down),
            _ => None,
        }
    }
}

/// Bytes before the pattern.
pub(crate) const HEADER: usize = 40;

/// No datagram is longer.
pub(crate) const MOST: usize = 1400;

const MAGIC: &[u8; 4] = b"vmtk";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            code in 1_u8..=4, stream: u32, number: u64, sent: u64, echoed: u64, len in HEADER..300,
        ) {
            let datagram = Datagram {
                kind: Kind::of(code).unwrap(),
                stream,
                number,
                sent: Timestamp(sent),
                echoed: Timestamp(echoed),
            };
            let mut data = vec![0xff; len];
            datagram.encode(&mut data);
            prop_assert_eq!(Datagram::decode(&data), Some(datagram));
        }

        #[test]
        fn a_changed_filler_byte_or_a_cut_header_is_refused(at in HEADER..200, cut in 0..HEADER) {
            let datagram = Datagram {
                kind: Kind::Up,
                stream: 1,
                number: 2,
                sent: Timestamp(3),
                echoed: Timestamp::ZERO,
            };
            let mut data = vec![0; 200];
            datagram.encode(&mut data);
            prop_assert_eq!(Datagram::decode(&data[..cut]), None);
            data[at] ^= 1;
            prop_assert_eq!(Datagram::decode(&data), None);
        }

        #[test]
        fn any_bytes_are_refused_or_read(data in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Datagram::decode(&data);
        }
    }
}
