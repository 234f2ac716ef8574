//! An inner packet that does not fit the path travels as two sealed datagrams.
//!
//! Each half starts with four bytes: `packet number 2 | half 1 | reserved 1`. The halves are put
//! together again inside the tunnel; nothing is dropped for its size alone (design rule S11).

use std::collections::BTreeMap;

use crate::wire::OVERHEAD;
use crate::{DropReason, Ecn};

/// Cuts packets in two.
#[derive(Debug, Default)]
pub struct Splitter {
    next: u16,
}

/// Puts halves together. Holds at most 16 packets; the oldest gives way.
#[derive(Debug, Default)]
pub struct Joiner {
    pending: BTreeMap<u64, Half>,
    arrivals: u64,
}

#[derive(Debug)]
struct Half {
    number: u16,
    second: bool,
    ecn: Ecn,
    bytes: Vec<u8>,
}

impl Splitter {
    /// The two halves of `packet`, each for one datagram of at most `max_payload` bytes.
    ///
    /// # Errors
    /// [`DropReason::TooLarge`] if two datagrams are not enough.
    pub fn split(&mut self, packet: &[u8], max_payload: usize) -> Result<[Vec<u8>; 2], DropReason> {
        let room = max_payload.saturating_sub(OVERHEAD + HEAD);
        let middle = packet.len().div_ceil(2);
        if middle > room {
            return Err(DropReason::TooLarge);
        }
        let number = self.next.to_le_bytes();
        self.next = self.next.wrapping_add(1);
        let half = |which: u8, bytes: &[u8]| [&number[..], &[which, 0], bytes].concat();
        Ok([half(0, &packet[..middle]), half(1, &packet[middle..])])
    }
}

impl Joiner {
    /// A half arrived under `ecn`; the packet and what it came under, if it was the second half to
    /// arrive.
    ///
    /// # Errors
    /// [`DropReason::Malformed`].
    pub fn join(&mut self, body: &[u8], ecn: Ecn) -> Result<Option<(Vec<u8>, Ecn)>, DropReason> {
        let [low, high, which @ (0 | 1), 0, bytes @ ..] = body else {
            return Err(DropReason::Malformed);
        };
        let number = u16::from_le_bytes([*low, *high]);
        let second = *which == 1;
        let partner = self
            .pending
            .iter()
            .find(|(_, half)| half.number == number && half.second != second);
        if let Some((&arrival, _)) = partner
            && let Some(other) = self.pending.remove(&arrival)
        {
            let (first, last) = if second {
                (&other.bytes[..], bytes)
            } else {
                (bytes, &other.bytes[..])
            };
            return Ok(Some(([first, last].concat(), ecn.and(other.ecn))));
        }
        if self.pending.len() >= PENDING {
            self.pending.pop_first();
        }
        let half = Half {
            number,
            second,
            ecn,
            bytes: bytes.to_vec(),
        };
        self.pending.insert(self.arrivals, half);
        self.arrivals += 1;
        Ok(None)
    }
}

const HEAD: usize = 4;
/// Halves travel next to each other; more than these are lost ones.
const PENDING: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lost_halves_are_forgotten() {
        let (mut splitter, mut joiner) = (Splitter::default(), Joiner::default());
        for _ in 0..100 {
            let [first, _] = splitter.split(&[1; 100], 1232).unwrap();
            assert_eq!(joiner.join(&first, Ecn::NotEct), Ok(None));
        }
        assert_eq!(joiner.pending.len(), PENDING);
    }

    proptest! {
        #[test]
        fn a_packet_is_whole_again_in_either_order(
            packet in prop::collection::vec(any::<u8>(), 1..2000),
            swapped in any::<bool>(),
        ) {
            let (mut splitter, mut joiner) = (Splitter::default(), Joiner::default());
            let mut halves = splitter.split(&packet, 1232).unwrap();
            if swapped {
                halves.reverse();
            }
            prop_assert_eq!(joiner.join(&halves[0], Ecn::Ce), Ok(None));
            prop_assert_eq!(joiner.join(&halves[1], Ecn::Ect0), Ok(Some((packet, Ecn::Ce))));
        }

        #[test]
        fn any_bytes_join_without_a_panic(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..40)) {
            let mut joiner = Joiner::default();
            for body in bodies {
                let _ = joiner.join(&body, Ecn::Ect1);
            }
        }
    }
}
