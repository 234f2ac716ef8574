//! What a peer has of the membership: it is sent what it lacks, and not again and again.

use std::time::Duration;

use vpnmesh_core::{Timestamp, Version};

/// One peer's memory of memberships.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// The version that the peer named, or sent.
    has: Version,
    /// The version that it was sent last.
    sent: Version,
    /// When the same version may be sent again.
    again_at: Timestamp,
    tries: u32,
}

impl Told {
    /// The peer has this version.
    pub(super) const fn note(&mut self, version: Version) {
        self.has = version;
    }

    /// Whether `version` is to be sent now; it counts as sent then.
    pub(super) fn take(&mut self, version: Version, now: Timestamp) -> bool {
        let waits = self.sent == version && now < self.again_at;
        if self.has >= version || waits {
            return false;
        }
        if self.sent != version {
            self.tries = 0;
        }
        self.sent = version;
        self.again_at = now + (AGAIN * (1 << self.tries)).min(LONGEST);
        self.tries = (self.tries + 1).min(16);
        true
    }
}

/// The stream is reliable: who names an older version after this time lost it at its own end.
const AGAIN: Duration = Duration::from_secs(5);
/// A membership may have 256 kB. At this rate a peer that never takes it costs under 10 kbit/s.
const LONGEST: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const fn version(index: u64) -> Version {
        Version { term: 1, index }
    }

    #[test]
    fn a_peer_that_never_takes_it_is_asked_ever_more_rarely() {
        let mut told = Told::default();
        let sent = (0..3600u32).filter(|second| {
            told.note(version(1)); // it says so every second
            told.take(
                version(2),
                Timestamp::ZERO + Duration::from_secs(1) * *second,
            )
        });
        let sent: Vec<u32> = sent.collect();
        assert_eq!(sent[..5], [0, 5, 15, 35, 75]);
        assert!(sent.len() < 20, "{} times in an hour", sent.len());
    }

    #[test]
    fn a_newer_version_is_sent_at_once_and_a_known_one_never() {
        let mut told = Told::default();
        assert!(told.take(version(2), Timestamp::ZERO));
        assert!(!told.take(version(2), Timestamp::ZERO));
        assert!(told.take(version(3), Timestamp::ZERO));
        told.note(version(4));
        assert!(!told.take(version(4), Timestamp::MAX));
    }
}
