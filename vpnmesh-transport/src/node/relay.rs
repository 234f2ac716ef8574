//! What a client may send to the sites through its node: small pieces, and not too many at once, so
//! that all clients' statements share one stream in peace.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{SiteId, Timestamp};

use crate::DropReason;
use crate::wire::SAFE_PAYLOAD;

/// The budget of one client, one bucket for each site.
#[derive(Debug, Default)]
pub(super) struct RelayBudget {
    /// When each bucket will be empty. As many as there are sites.
    empty_at: BTreeMap<SiteId, Timestamp>,
}

impl RelayBudget {
    /// Whether `body` may go to `site` now. The caller knows that the site exists.
    ///
    /// # Errors
    /// [`DropReason::TooLarge`] or [`DropReason::QueueFull`].
    pub(super) fn take(
        &mut self,
        site: SiteId,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        if body.len() > SAFE_PAYLOAD {
            return Err(DropReason::TooLarge);
        }
        let empty_at = self.empty_at.entry(site).or_default();
        let filled = (*empty_at).max(now) + PER_MESSAGE;
        if filled.since(now) > PER_MESSAGE * BURST {
            return Err(DropReason::QueueFull);
        }
        *empty_at = filled;
        Ok(())
    }
}

/// A client says a thing to each site every 500 ms until it is answered, and three times in a
/// planned move; a handshake is three datagrams, twice. Ten times a second is ample.
const PER_MESSAGE: Duration = Duration::from_millis(100);
/// What a handshake and a move may say at once.
const BURST: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_to_one_site_leaves_the_others_and_later_messages_alone() {
        let mut budget = RelayBudget::default();
        let now = Timestamp::ZERO + Duration::from_secs(9);
        let sent = (0..100).filter(|_| budget.take(SiteId(1), &[0; 68], now).is_ok());
        assert_eq!(sent.count(), BURST as usize);
        assert_eq!(budget.take(SiteId(2), &[0; 68], now), Ok(()));
        assert_eq!(budget.take(SiteId(1), &[0; 68], now + PER_MESSAGE), Ok(()));
    }

    #[test]
    fn nothing_longer_than_a_handshake_datagram_is_relayed() {
        let mut budget = RelayBudget::default();
        let long = [0; SAFE_PAYLOAD + 1];
        let taken = budget.take(SiteId(1), &long, Timestamp::ZERO);
        assert_eq!(taken, Err(DropReason::TooLarge));
    }
}
