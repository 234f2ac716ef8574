//! What the keys of a session have done since its last handshake.

use vpnmesh_core::{ByteCount, KeyUsage, Timestamp};

/// Inner packets and their bytes, each direction by itself, as each has keys of its own.
///
/// Moves between holders go on counting: their keys stand on the same handshake.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    since: Timestamp,
    sealed: (u64, u64),
    opened: (u64, u64),
}

impl Usage {
    pub(super) const fn since(now: Timestamp) -> Self {
        Self {
            since: now,
            sealed: (0, 0),
            opened: (0, 0),
        }
    }

    pub(super) fn note_sealed(&mut self, len: usize) {
        add(&mut self.sealed, len);
    }

    pub(super) fn note_opened(&mut self, len: usize) {
        add(&mut self.opened, len);
    }

    /// The direction that did more.
    pub(super) fn until(&self, now: Timestamp) -> KeyUsage {
        KeyUsage {
            age: now.since(self.since),
            volume: ByteCount(self.sealed.1.max(self.opened.1)),
            packets: self.sealed.0.max(self.opened.0),
        }
    }
}

fn add((packets, bytes): &mut (u64, u64), len: usize) {
    *packets = packets.saturating_add(1);
    *bytes = bytes.saturating_add(len as u64);
}
