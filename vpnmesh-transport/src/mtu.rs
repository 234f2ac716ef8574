//! How large a datagram the path carries, found by padded probes.
//!
//! Nothing larger than [`SAFE_PAYLOAD`] leaves before a probe of that size was answered. The search
//! begins with the first packet that needs more: the first probe asks for all that is wanted; where
//! it stays unanswered, the size between is searched. While packets flow, what was found is
//! confirmed, so that a path that shrank is noticed though no router says so. An idle path costs
//! nothing. Source: RFC 8899, sections 4 and 5; routers' messages are not believed, as they are not
//! authentic.

use std::time::Duration;

use vpnmesh_core::Timestamp;

use crate::wire::SAFE_PAYLOAD;

/// Searches for the greatest UDP payload of one path. Sends nothing itself.
#[derive(Debug)]
pub struct MtuSearch {
    /// A probe of this size was answered last; at the start, what every path carries.
    found: usize,
    /// All that is wanted now: `first`, then `most`.
    wanted: usize,
    first: usize,
    most: usize,
    /// No probe of this size was answered; one above `wanted` while none was refused.
    refused: usize,
    /// When that was found; after [`RAISE`] it may be otherwise.
    refused_at: Timestamp,
    probe: Option<Probe>,
    /// Never, unless packets need it.
    next_at: Timestamp,
    number: u32,
}

/// A probe under way.
#[derive(Debug)]
struct Probe {
    size: usize,
    /// Of the last repetition.
    number: u32,
    tries: u32,
}

impl MtuSearch {
    /// A search up to `first` bytes of UDP payload, then up to `most` if that is found and packets
    /// need more: what most packets need is never missed by a search for more.
    #[must_use]
    pub const fn new(first: usize, most: usize) -> Self {
        Self {
            found: SAFE_PAYLOAD,
            wanted: first,
            first,
            most,
            refused: first + 1,
            refused_at: Timestamp::ZERO,
            probe: None,
            next_at: Timestamp::MAX,
            number: 0,
        }
    }

    /// The greatest UDP payload that the path is known to carry, in bytes.
    #[must_use]
    pub const fn found(&self) -> usize {
        self.found
    }

    /// The path may be another one, of which nothing is known but that it may carry `most`.
    pub const fn restart(&mut self, most: usize) {
        let number = self.number;
        *self = Self::new(self.first, most);
        self.number = number;
    }

    /// A packet is sent that needs a datagram of `len` bytes.
    pub fn handle_used(&mut self, len: usize, now: Timestamp) {
        if self.next_at < Timestamp::MAX {
            return;
        }
        if self.refused <= self.wanted && now.since(self.refused_at) >= RAISE {
            self.refused = self.wanted + 1;
        }
        if len > self.found && self.found >= self.wanted && self.wanted < self.most {
            self.wanted = self.most;
            self.refused = self.most + 1;
        }
        if len > self.found && !self.is_done() {
            self.next_at = now;
        } else if self.found > SAFE_PAYLOAD {
            self.next_at = now + CONFIRM;
        }
    }

    /// The probe to send, if one is due: its number and the size of the whole datagram.
    pub fn poll_probe(&mut self, patience: Duration, now: Timestamp) -> Option<(u32, usize)> {
        if now < self.next_at {
            return None;
        }
        self.next_at = Timestamp::MAX;
        if self
            .probe
            .as_ref()
            .is_some_and(|probe| probe.tries >= TRIES)
        {
            self.handle_refused(now);
            if self.is_done() {
                return None;
            }
        }
        let size = self
            .probe
            .as_ref()
            .map_or(self.next_size(), |probe| probe.size);
        self.number = self.number.wrapping_add(1);
        let tries = self.probe.as_ref().map_or(0, |probe| probe.tries) + 1;
        self.probe = Some(Probe {
            size,
            number: self.number,
            tries,
        });
        self.next_at = now + patience;
        Some((self.number, size))
    }

    /// The peer answered probe `number`.
    pub fn handle_reply(&mut self, number: u32, now: Timestamp) {
        let Some(probe) = self.probe.take_if(|probe| {
            probe.number.wrapping_sub(number) < probe.tries // an earlier repetition counts too
        }) else {
            return;
        };
        self.found = probe.size;
        self.next_at = if self.is_done() { Timestamp::MAX } else { now };
    }

    /// When [`Self::poll_probe`] has something to do again.
    #[must_use]
    pub const fn poll_timeout(&self) -> Timestamp {
        self.next_at
    }

    fn is_done(&self) -> bool {
        self.found >= self.wanted || self.refused - self.found <= STEP
    }

    fn next_size(&self) -> usize {
        if self.is_done() {
            return self.found; // is it still so?
        }
        if self.refused > self.wanted {
            self.wanted
        } else {
            self.found + (self.refused - self.found) / 2
        }
    }

    /// A size got no answer, however often it was asked for.
    fn handle_refused(&mut self, now: Timestamp) {
        let Some(probe) = self.probe.take() else {
            return;
        };
        self.refused_at = now;
        if probe.size > self.found {
            self.refused = probe.size;
        } else if self.found > SAFE_PAYLOAD {
            self.refused = self.found;
            self.found = SAFE_PAYLOAD; // the path shrank
            self.wanted = self.first;
        }
    }
}

/// A size is given up after so many unanswered probes (RFC 8899, section 5.1.2: MAX_PROBES).
const TRIES: u32 = 3;
/// The search ends when it is this close, in bytes: less is not worth a probe.
const STEP: usize = 16;
/// What was found is asked for again after this time. RFC 8899 allows 600 s; a path that shrank
/// swallows full packets until then.
const CONFIRM: Duration = Duration::from_secs(5);
/// A greater size is tried again after this time (RFC 8899, section 5.1.1: PMTU_RAISE_TIMER).
const RAISE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn started(now: Timestamp) -> MtuSearch {
        let mut search = MtuSearch::new(1452, 1452);
        search.handle_used(1452, now);
        search
    }

    /// Sends and answers probes on a path that carries `carries` bytes, while packets flow.
    fn probe_for(
        search: &mut MtuSearch,
        carries: usize,
        from: Timestamp,
        span: Duration,
    ) -> Timestamp {
        let (mut now, end) = (from, from + span);
        while now < end {
            if let Some((number, size)) = search.poll_probe(PATIENCE, now)
                && size <= carries
            {
                search.handle_reply(number, now + Duration::from_millis(10));
            }
            let wake = search.poll_timeout().min(now + Duration::from_secs(1));
            now = wake.max(now + PATIENCE / 4).min(end);
            search.handle_used(1452, now);
        }
        end
    }

    #[test]
    fn a_path_that_carries_all_is_known_after_one_probe() {
        let now = Timestamp(1_000_000_000);
        let mut search = MtuSearch::new(1452, 1452);
        search.handle_used(SAFE_PAYLOAD, now);
        assert_eq!(
            search.poll_timeout(),
            Timestamp::MAX,
            "every path carries it"
        );
        search.handle_used(1300, now);
        assert_eq!(search.found(), SAFE_PAYLOAD);
        let (number, size) = search.poll_probe(PATIENCE, now).unwrap();
        assert_eq!(size, 1452);
        assert_eq!(search.found(), SAFE_PAYLOAD, "not before the answer");
        search.handle_reply(number.wrapping_add(1), now);
        assert_eq!(
            search.found(),
            SAFE_PAYLOAD,
            "nobody answers what was not asked"
        );
        search.handle_reply(number, now);
        assert_eq!(search.found(), 1452);
        assert_eq!(search.poll_timeout(), Timestamp::MAX);
        search.handle_used(100, now);
        assert_eq!(search.poll_timeout(), now + CONFIRM);
    }

    #[test]
    fn what_is_longer_is_asked_for_after_the_usual() {
        let now = Timestamp(1_000_000_000);
        for (carries, found) in [(1472, 1472), (1460, 1452), (1452, 1452)] {
            let mut search = MtuSearch::new(1452, 1472);
            search.handle_used(1460, now);
            let (number, size) = search.poll_probe(PATIENCE, now).unwrap();
            assert_eq!(size, 1452);
            search.handle_reply(number, now);
            search.handle_used(1452, now);
            assert!(search.poll_timeout() > now, "nobody needs more");
            let mut now = now + CONFIRM;
            for _ in 0..20 {
                search.handle_used(1460, now);
                if let Some((number, size)) = search.poll_probe(PATIENCE, now)
                    && size <= carries
                {
                    search.handle_reply(number, now);
                }
                now = search.poll_timeout().max(now).min(now + CONFIRM);
            }
            assert_eq!(search.found(), found, "of {carries}");
        }
    }

    #[test]
    fn an_answer_to_an_earlier_repetition_counts() {
        let now = Timestamp(1_000_000_000);
        let mut search = started(now);
        let (first, _) = search.poll_probe(PATIENCE, now).unwrap();
        let later = now + PATIENCE;
        search.poll_probe(PATIENCE, later).unwrap();
        search.handle_reply(first, later);
        assert_eq!(search.found(), 1452);
    }

    #[test]
    fn a_path_that_shrinks_is_noticed_at_once_and_one_that_grows_in_the_end() {
        let now = Timestamp(1_000_000_000);
        let mut search = started(now);
        let now = probe_for(&mut search, 1452, now, Duration::from_secs(1));
        assert_eq!(search.found(), 1452);
        let now = probe_for(&mut search, 1300, now, CONFIRM + PATIENCE * 40);
        assert!(
            (1300 - STEP..=1300).contains(&search.found()),
            "{}",
            search.found()
        );
        let now = probe_for(&mut search, 1452, now, RAISE / 2);
        assert!(search.found() <= 1300);
        probe_for(&mut search, 1452, now, RAISE);
        assert_eq!(search.found(), 1452);
    }

    proptest! {
        #[test]
        fn the_search_ends_close_below_what_the_path_carries(carries in 1200usize..1600, wanted in 1232usize..1500) {
            let now = Timestamp(1_000_000_000);
            let mut search = MtuSearch::new(wanted, wanted);
            search.handle_used(wanted, now);
            probe_for(&mut search, carries, now, PATIENCE * 60);
            let most = carries.min(wanted).max(SAFE_PAYLOAD);
            prop_assert!(search.found() <= most && search.found() + STEP >= most, "{} of {most}", search.found());
        }
    }
}
