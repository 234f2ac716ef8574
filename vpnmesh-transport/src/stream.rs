//! Reliable, ordered messages inside a session: the control stream of a leg.
//!
//! A message is cut into fragments of at most [`FRAGMENT`] bytes. Fragments are numbered,
//! acknowledged with a bitmap and sent again after the path's time-out. Nothing here encrypts, and
//! messages hold secrets: every buffer is wiped when it is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vpnmesh_core::{Membership, Timestamp};
use zeroize::Zeroizing;

use crate::DropReason;

/// One end of a control stream.
#[derive(Debug, Default)]
pub struct ControlStream {
    next_number: u32,
    /// Fragments never sent yet; at most [`MAX_QUEUED`].
    queued: VecDeque<Fragment>,
    /// Sent and not acknowledged; at most [`WINDOW`].
    flying: BTreeMap<u32, Flight>,
    /// The next fragment number wanted from the peer.
    wanted: u32,
    /// Arrived ahead of order; at most [`WINDOW`].
    ahead: BTreeMap<u32, Fragment>,
    /// The message being put together; at most [`MAX_MESSAGE`] bytes.
    partial: Zeroizing<Vec<u8>>,
    ack_wanted: bool,
    /// Whole messages for the owner; at most [`MAX_READY`].
    ready: VecDeque<Zeroizing<Vec<u8>>>,
}

/// A piece of a message. `Debug` does not show what it says.
#[derive(Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Its number in the stream.
    pub number: u32,
    /// Whether a message ends with it.
    pub last: bool,
    /// At most [`FRAGMENT`] bytes; wiped when dropped.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Fragment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fragment")
            .field("number", &self.number)
            .field("last", &self.last)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// What one end has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamAck {
    /// All fragments below this number arrived.
    pub wanted: u32,
    /// Bit `i`: fragment `wanted + 1 + i` arrived.
    pub ahead: u64,
}

#[derive(Debug)]
struct Flight {
    fragment: Fragment,
    due: Timestamp,
    tries: u32,
}

impl ControlStream {
    /// Queues a message.
    ///
    /// # Errors
    /// [`DropReason::QueueFull`] or [`DropReason::TooLarge`]; nothing is queued then.
    pub fn send(&mut self, message: &[u8]) -> Result<(), DropReason> {
        if message.len() > MAX_MESSAGE {
            return Err(DropReason::TooLarge);
        }
        let pieces = message.len().div_ceil(FRAGMENT).max(1);
        if self.queued.len() + pieces > MAX_QUEUED {
            return Err(DropReason::QueueFull);
        }
        for piece in 0..pieces {
            let end = ((piece + 1) * FRAGMENT).min(message.len());
            self.queued.push_back(Fragment {
                number: self.next_number,
                last: piece + 1 == pieces,
                bytes: Zeroizing::new(message[piece * FRAGMENT..end].to_vec()),
            });
            self.next_number = self.next_number.wrapping_add(1);
        }
        Ok(())
    }

    /// A fragment arrived.
    ///
    /// # Errors
    /// Why it was dropped; the stream goes on.
    pub fn handle_fragment(&mut self, fragment: Fragment) -> Result<(), DropReason> {
        self.ack_wanted = true;
        let distance = fragment.number.wrapping_sub(self.wanted);
        if distance >= u32::MAX / 2 {
            return Ok(()); // an old one again: the acknowledgement was lost
        }
        if distance as usize >= WINDOW || fragment.bytes.len() > FRAGMENT {
            return Err(DropReason::Malformed);
        }
        if distance == 0 && self.ready.len() >= MAX_READY {
            return Err(DropReason::QueueFull); // comes again
        }
        self.ahead.insert(fragment.number, fragment);
        while let Some(next) = self.ahead.remove(&self.wanted) {
            self.wanted = self.wanted.wrapping_add(1);
            self.append(next)?;
        }
        Ok(())
    }

    /// The peer says what it has.
    pub fn handle_ack(&mut self, ack: StreamAck) {
        self.flying.retain(|number, _| {
            let distance = number.wrapping_sub(ack.wanted);
            let behind = distance >= u32::MAX / 2;
            let marked = (1..=64).contains(&distance) && ack.ahead & (1 << (distance - 1)) != 0;
            !behind && !marked
        });
    }

    /// The next fragment to put on the wire.
    pub fn poll_fragment(&mut self, retry: Duration, now: Timestamp) -> Option<Fragment> {
        let due = self.flying.values_mut().find(|flight| flight.due <= now);
        if let Some(flight) = due {
            flight.tries += 1;
            flight.due = now + (retry * (1 << flight.tries.min(5))).min(MAX_RETRY);
            return Some(flight.fragment.clone());
        }
        if self.flying.len() >= WINDOW {
            return None;
        }
        let fragment = self.queued.pop_front()?;
        let flight = Flight {
            fragment: fragment.clone(),
            due: now + retry,
            tries: 0,
        };
        self.flying.insert(fragment.number, flight);
        Some(fragment)
    }

    /// The acknowledgement to send, if one is owed.
    pub fn poll_ack(&mut self) -> Option<StreamAck> {
        if !std::mem::take(&mut self.ack_wanted) {
            return None;
        }
        let bit = |number: &u32| 1 << number.wrapping_sub(self.wanted).saturating_sub(1).min(63);
        Some(StreamAck {
            wanted: self.wanted,
            ahead: self
                .ahead
                .keys()
                .map(bit)
                .fold(0, |all, one: u64| all | one),
        })
    }

    /// A whole message from the peer.
    pub fn poll_message(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.ready.pop_front()
    }

    /// When a fragment is due again; now, if one can be sent at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        if self.ack_wanted || (!self.queued.is_empty() && self.flying.len() < WINDOW) {
            return Timestamp::ZERO;
        }
        let dues = self.flying.values().map(|flight| flight.due);
        dues.min().unwrap_or(Timestamp::MAX)
    }

    /// Whether everything sent was acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.flying.is_empty()
    }

    fn append(&mut self, fragment: Fragment) -> Result<(), DropReason> {
        if self.partial.len() + fragment.bytes.len() > MAX_MESSAGE {
            self.partial = Zeroizing::default();
            return Err(DropReason::TooLarge);
        }
        extend(&mut self.partial, &fragment.bytes);
        if fragment.last {
            self.ready.push_back(std::mem::take(&mut self.partial));
        }
        Ok(())
    }
}

/// Appends as a vector does, but wipes what a growing buffer leaves behind.
fn extend(buffer: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    let len = buffer.len() + bytes.len();
    if len > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(len.max(buffer.capacity() * 2)));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(bytes);
}

/// Fits a control datagram of 1 232 bytes with all headers and an acknowledgement beside it.
pub const FRAGMENT: usize = 1100;
/// The longest message: the largest membership with its signatures.
pub const MAX_MESSAGE: usize = 256 * 1024;
const _: () = assert!(Membership::MAX_ENCODED + (8 << 10) <= MAX_MESSAGE);
const MAX_QUEUED: usize = 4096;
const WINDOW: usize = 64;
const MAX_READY: usize = 1024;
const MAX_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRY: Duration = Duration::from_millis(30);

    /// Moves everything from `a` to `b` and back once, losing what `lose` says.
    fn exchange(
        a: &mut ControlStream,
        b: &mut ControlStream,
        now: Timestamp,
        lose: &mut dyn FnMut() -> bool,
    ) {
        let mut sent = Vec::new();
        while let Some(fragment) = a.poll_fragment(RETRY, now) {
            sent.push(fragment);
        }
        for fragment in sent.into_iter().rev() {
            if !lose() {
                b.handle_fragment(fragment).unwrap();
            }
        }
        if let Some(ack) = b.poll_ack()
            && !lose()
        {
            a.handle_ack(ack);
        }
    }

    #[test]
    fn a_lost_fragment_comes_again_after_the_time_out() {
        let (mut a, mut b) = (ControlStream::default(), ControlStream::default());
        a.send(b"hello").unwrap();
        let first = a.poll_fragment(RETRY, Timestamp::ZERO).unwrap();
        assert!(a.poll_fragment(RETRY, Timestamp::ZERO).is_none());
        let again = a.poll_fragment(RETRY, Timestamp::ZERO + RETRY).unwrap();
        assert_eq!(first, again);
        b.handle_fragment(again).unwrap();
        b.handle_fragment(first).unwrap();
        assert_eq!(b.poll_message().unwrap().as_slice(), b"hello");
        assert_eq!(b.poll_message(), None);
        a.handle_ack(b.poll_ack().unwrap());
        assert!(a.is_idle());
    }

    #[test]
    fn a_growing_buffer_is_replaced_by_one_that_has_room() {
        let mut buffer = Zeroizing::new(Vec::new());
        for piece in 0..100u8 {
            let (before, had) = (buffer.as_ptr(), buffer.capacity());
            extend(&mut buffer, &[piece; 70]);
            let moved = buffer.as_ptr() != before;
            assert!(!moved || buffer.len() > had, "moved only where it had to");
        }
        assert_eq!((buffer.len(), buffer[6999]), (7000, 99));
    }

    #[test]
    fn every_buffer_of_the_stream_wipes_itself() {
        fn wipes<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let (mut a, mut b) = (ControlStream::default(), ControlStream::default());
        a.send(b"secret").unwrap();
        wipes(&a.queued[0].bytes);
        let fragment = a.poll_fragment(RETRY, Timestamp::ZERO).unwrap();
        wipes(&a.flying[&0].fragment.bytes);
        wipes(&b.partial);
        b.handle_fragment(fragment).unwrap();
        wipes(&b.poll_message().unwrap());
    }

    #[test]
    fn a_full_queue_and_a_giant_are_refused_whole() {
        let mut stream = ControlStream::default();
        assert_eq!(
            stream.send(&vec![0; MAX_MESSAGE + 1]),
            Err(DropReason::TooLarge)
        );
        while stream.send(&[0; FRAGMENT]).is_ok() {}
        assert_eq!(stream.queued.len(), MAX_QUEUED);
    }

    proptest! {
        #[test]
        fn messages_arrive_once_in_order_whatever_is_lost(
            sizes in prop::collection::vec(0usize..5000, 1..20),
            losses in prop::collection::vec(any::<bool>(), 1..64),
        ) {
            let (mut a, mut b) = (ControlStream::default(), ControlStream::default());
            let sent: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, n)| vec![i as u8; *n]).collect();
            for message in &sent {
                a.send(message).unwrap();
            }
            let mut got = Vec::new();
            let mut now = Timestamp::ZERO;
            let mut losses = losses.into_iter();
            for _ in 0..200 {
                exchange(&mut a, &mut b, now, &mut || losses.next().unwrap_or(false));
                while let Some(message) = b.poll_message() {
                    got.push(message.to_vec());
                }
                now += Duration::from_secs(2);
            }
            prop_assert_eq!(got, sent);
            prop_assert!(a.is_idle());
        }
    }
}
