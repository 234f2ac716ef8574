//! One pair of packet keys: what a move installs.
//!
//! A sealing key cannot be copied or written out; its counter advances before a packet leaves and
//! never wraps (design rule S9).

use vpnmesh_core::{Secret, SessionId, Timestamp};

use crate::replay::{Refusal, ReplayWindow};
use crate::schedule::MoveKeys;
use crate::wire::{HEADER, Header, Kind, OVERHEAD, TAG};
use crate::{Cipher, CryptoSuite, DropReason, PacketAead};

/// Seals packets under one key, each with a counter of its own.
///
/// It cannot be copied:
/// ```compile_fail,E0277
/// fn copied<T: Clone>() {}
/// copied::<vpnmesh_transport::channel::SealingKey>();
/// ```
/// It cannot be written out:
/// ```compile_fail,E0277
/// fn written<T: serde::Serialize>() {}
/// written::<vpnmesh_transport::channel::SealingKey>();
/// ```
pub struct SealingKey {
    aead: Box<dyn PacketAead>,
    next: u64,
    limit: u64,
}

/// Opens packets under one key, each once.
pub struct OpeningKey {
    aead: Box<dyn PacketAead>,
    window: ReplayWindow,
    /// Inner packets above are refused: the other side said that it stopped there.
    last: u64,
    failed: u64,
}

/// Names the keys of a channel. Greater (generation, number) fences lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// The session.
    pub session: SessionId,
    /// Its generation.
    pub generation: u32,
    /// The move.
    pub number: u32,
    /// The branch.
    pub branch: u8,
}

/// Both directions of one move at one end.
pub struct Channel {
    /// Which keys these are.
    pub id: ChannelId,
    /// Our name for the keys: the peer writes it into its headers.
    pub local_index: u32,
    /// The peer's name for them.
    pub remote_index: u32,
    /// Whether the peer has shown that it has the keys.
    pub confirmed: bool,
    /// When the keys were made.
    pub created: Timestamp,
    /// When the keys are erased; `None` while they are in use.
    pub retire_at: Option<Timestamp>,
    sealing: SealingKey,
    opening: OpeningKey,
}

/// Which end of a session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Seals "up".
    Client,
    /// Seals "down".
    Holder,
}

impl SealingKey {
    fn new(suite: &CryptoSuite, cipher: Cipher, key: &Secret<32>) -> Self {
        Self {
            aead: (suite.aead)(cipher, key),
            next: 0,
            limit: packet_limit(cipher),
        }
    }

    /// Seals what stands in `buffer` behind `start` and a header's room, writes that header and
    /// appends the tag.
    ///
    /// # Errors
    /// [`DropReason::KeyExhausted`] at the suite's limit; nothing leaves then.
    pub fn seal(
        &mut self,
        kind: Kind,
        index: u32,
        start: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, DropReason> {
        self.seal_behind(kind, index, HEADER, &mut buffer[start..])
            .map(|(counter, tag)| {
                buffer.extend_from_slice(&tag);
                counter
            })
    }

    /// As [`SealingKey::seal`], with clear text of the caller between header and sealed part; the
    /// counter and the tag.
    ///
    /// # Errors
    /// [`DropReason::KeyExhausted`].
    pub fn seal_behind(
        &mut self,
        kind: Kind,
        index: u32,
        clear: usize,
        datagram: &mut [u8],
    ) -> Result<(u64, [u8; TAG]), DropReason> {
        let counter = self.next;
        if counter >= self.limit {
            return Err(DropReason::KeyExhausted);
        }
        self.next += 1;
        datagram[..HEADER].copy_from_slice(
            &Header {
                kind,
                index,
                counter,
            }
            .encode(),
        );
        let (head, text) = datagram.split_at_mut(clear);
        Ok((counter, self.aead.seal(counter, head, text)))
    }

    /// The counter of the next packet: so many were sealed.
    #[must_use]
    pub const fn sealed(&self) -> u64 {
        self.next
    }
}

impl OpeningKey {
    fn new(suite: &CryptoSuite, cipher: Cipher, key: &Secret<32>) -> Self {
        Self {
            aead: (suite.aead)(cipher, key),
            window: ReplayWindow::new(),
            last: u64::MAX,
            failed: 0,
        }
    }

    /// Opens a datagram in place; the text lies between `clear` and the tag.
    ///
    /// # Errors
    /// Why the datagram is dropped.
    pub fn open<'d>(
        &mut self,
        header: &Header,
        clear: usize,
        datagram: &'d mut [u8],
    ) -> Result<&'d mut [u8], DropReason> {
        if datagram.len() < clear + TAG {
            return Err(DropReason::Malformed);
        }
        if header.counter > self.last && matches!(header.kind, Kind::Data | Kind::Split) {
            return Err(DropReason::Fenced);
        }
        self.window
            .check(header.counter)
            .map_err(|refusal| match refusal {
                Refusal::Seen => DropReason::Replayed,
                Refusal::TooOld => DropReason::Stale,
            })?;
        let (head, body) = datagram.split_at_mut(clear);
        let (text, tail) = body.split_at_mut(body.len() - TAG);
        let mut tag = [0; TAG];
        tag.copy_from_slice(tail);
        if !self.aead.open(header.counter, head, text, &tag) {
            self.failed += 1;
            return Err(DropReason::Forged);
        }
        self.window
            .accept(header.counter)
            .map_err(|_| DropReason::Replayed)?;
        Ok(text)
    }
}

impl Channel {
    /// The channel of a move at `end`.
    #[must_use]
    pub fn new(
        suite: &CryptoSuite,
        cipher: Cipher,
        end: End,
        id: ChannelId,
        keys: &MoveKeys,
        (local_index, remote_index): (u32, u32),
        now: Timestamp,
    ) -> Self {
        let (out, back) = match end {
            End::Client => (&keys.up, &keys.down),
            End::Holder => (&keys.down, &keys.up),
        };
        Self {
            id,
            local_index,
            remote_index,
            confirmed: false,
            created: now,
            retire_at: None,
            sealing: SealingKey::new(suite, cipher, out),
            opening: OpeningKey::new(suite, cipher, back),
        }
    }

    /// Seals for the peer what stands in `buffer` behind `start` and a header's room.
    ///
    /// # Errors
    /// [`DropReason::KeyExhausted`].
    pub fn seal(
        &mut self,
        kind: Kind,
        start: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, DropReason> {
        self.sealing.seal(kind, self.remote_index, start, buffer)
    }

    /// Seals an activation whose clear part ends at `clear`.
    ///
    /// # Errors
    /// [`DropReason::KeyExhausted`].
    pub fn seal_activation(
        &mut self,
        clear: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, DropReason> {
        let index = self.remote_index;
        let (counter, tag) = self
            .sealing
            .seal_behind(Kind::Activate, index, clear, buffer)?;
        buffer.extend_from_slice(&tag);
        Ok(counter)
    }

    /// Opens a datagram of the peer.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn open<'d>(
        &mut self,
        header: &Header,
        clear: usize,
        datagram: &'d mut [u8],
    ) -> Result<&'d mut [u8], DropReason> {
        let text = self.opening.open(header, clear, datagram)?;
        self.confirmed = true;
        Ok(text)
    }

    /// How many packets were sealed; the last one had the counter below.
    #[must_use]
    pub const fn sealed(&self) -> u64 {
        self.sealing.sealed()
    }

    /// Whether nothing can be sealed any more.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.sealing.next >= self.sealing.limit
    }

    /// Whether new keys are due: one direction has sealed three quarters of what its key may. At a
    /// million packets a second the last quarter of GCM's limit lasts for a minute.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        let opened = self.opening.window.greatest().unwrap_or(0);
        self.sealing.next.max(opened) >= self.sealing.limit / 4 * 3
    }

    /// As if so many packets were sealed.
    #[cfg(test)]
    pub(crate) fn wear(&mut self, sealed: u64) {
        self.sealing.next = sealed;
    }

    /// Refuses inner packets above `last`: the peer said that it sealed none.
    pub fn close_above(&mut self, last: u64) {
        self.opening.last = self.opening.last.min(last);
    }

    /// Whether no packet above `counter` has arrived.
    #[must_use]
    pub fn is_greatest(&self, counter: u64) -> bool {
        self.opening
            .window
            .greatest()
            .is_none_or(|greatest| greatest <= counter)
    }

    /// Whether all packets from `first` to `last` have arrived.
    #[must_use]
    pub fn complete(&self, first: u64, last: u64) -> bool {
        self.opening.window.complete(first, last)
    }

    /// How many packets did not open.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.opening.failed
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id)
            .field("sealed", &self.sealing.next)
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}

/// How many packets one key may seal. For GCM with packets of up to 2 KiB: RFC 9001, appendix B.1
/// (2^28); ChaCha20-Poly1305 has no limit in reach, and stays below the counter's end.
#[must_use]
pub const fn packet_limit(cipher: Cipher) -> u64 {
    match cipher {
        Cipher::Aes128Gcm | Cipher::Aes256Gcm => 1 << 28,
        Cipher::ChaCha20Poly1305 => 1 << 60,
    }
}

const _: () = assert!(OVERHEAD == HEADER + TAG);
