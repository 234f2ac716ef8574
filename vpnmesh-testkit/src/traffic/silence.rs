//! How long a stream of heartbeats was silent.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vpnmesh_core::Timestamp;

use super::Window;
use super::window::nanos;
use crate::report::percentile_of;

/// Records heartbeats and finds the silences between their replies.
///
/// A silence lies between two replies that follow each other; the last one is open and ends now.
/// The first one starts with the first heartbeat.
#[derive(Debug)]
pub struct Silences {
    every: Duration,
    replies: VecDeque<Reply>,   // in time order; at most `bound`
    sends: VecDeque<Timestamp>, // in time order; at most `bound`
    bound: usize,
    first: Option<Timestamp>, // the first heartbeat, while nothing was forgotten
    totals: HeartbeatTotals,
}

/// What was counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct HeartbeatTotals {
    /// Heartbeats sent.
    pub sent: u64,
    /// Replies received, copies included.
    pub replies: u64,
    /// The longest silence between two replies.
    pub longest_ns: u64,
}

/// A time without a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Silence {
    /// The last reply before it.
    #[serde(rename = "from_ns")]
    pub from: Timestamp,
    /// The first reply after it, or now.
    #[serde(rename = "to_ns")]
    pub to: Timestamp,
    /// The longest time in it in which we sent no heartbeat ourselves. Much more than the
    /// interval: this process was starved, and the network is not to blame for that part.
    #[serde(rename = "unsent_ns")]
    pub unsent: u64,
    /// No reply has ended it yet.
    pub open: bool,
}

/// The heartbeats of a window (by arrival of the reply).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeartbeatWindow {
    /// The longest silence that overlaps the window, in full length.
    pub longest: Option<Silence>,
    /// All silences of at least the threshold that overlap the window, in full length.
    pub silences: Vec<Silence>,
    /// Replies received.
    pub replies: u64,
    /// Median round trip through the tunnel.
    pub rtt_p50_ns: Option<u64>,
    /// 99th percentile of the round trip.
    pub rtt_p99_ns: Option<u64>,
    /// Median one-way delay to the site.
    pub up_p50_ns: Option<u64>,
    /// Median one-way delay from the site.
    pub down_p50_ns: Option<u64>,
    /// Some of the window is older than all that is remembered.
    pub incomplete: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reply {
    at: Timestamp,
    up: Duration,
    down: Duration,
}

impl Silence {
    /// How long it lasted.
    #[must_use]
    pub const fn span(&self) -> Duration {
        self.to.since(self.from)
    }
}

impl Silences {
    /// A stream of one heartbeat per `every`; remembers the newest `bound` replies.
    #[must_use]
    pub fn new(every: Duration, bound: usize) -> Self {
        Self {
            every,
            replies: VecDeque::new(),
            sends: VecDeque::new(),
            bound: bound.max(2),
            first: None,
            totals: HeartbeatTotals::default(),
        }
    }

    /// A heartbeat was sent.
    pub fn handle_sent(&mut self, now: Timestamp) {
        if self.totals.sent == 0 {
            self.first = Some(now);
        }
        self.totals.sent += 1;
        if self.sends.len() == self.bound {
            self.sends.pop_front();
        }
        self.sends.push_back(now);
    }

    /// The reply to a heartbeat arrived that left at `sent` and passed the site at `echoed`.
    pub fn handle_reply(&mut self, sent: Timestamp, echoed: Timestamp, now: Timestamp) {
        let before = self.replies.back().map(|reply| reply.at).or(self.first);
        let now = before.map_or(now, |before| before.max(now));
        let pause = before.map_or(Duration::ZERO, |before| now.since(before));
        self.totals.longest_ns = self.totals.longest_ns.max(nanos(pause));
        self.totals.replies += 1;
        if self.replies.len() == self.bound {
            self.replies.pop_front();
            self.first = None;
        }
        self.replies.push_back(Reply {
            at: now,
            up: echoed.since(sent),
            down: now.since(echoed),
        });
    }

    /// What was counted since the start.
    #[must_use]
    pub fn totals(&self) -> HeartbeatTotals {
        self.totals
    }

    /// The silence that has not ended; `None` before the first heartbeat.
    #[must_use]
    pub fn open(&self, now: Timestamp) -> Option<Silence> {
        let last = self.replies.back().map(|reply| reply.at).or(self.first)?;
        Some(self.silence(last, now, true))
    }

    /// What is known of `window`; silences below `threshold` are not listed.
    #[must_use]
    pub fn window(&self, window: Window, threshold: Duration, now: Timestamp) -> HeartbeatWindow {
        let mut silences = self.overlapping(window, now);
        let longest = silences
            .iter()
            .copied()
            .max_by_key(|it| (it.span(), it.from));
        silences.retain(|silence| silence.span() >= threshold);
        let from = self.replies.partition_point(|it| it.at < window.from);
        let to = self.replies.partition_point(|it| it.at < window.to);
        let replies: Vec<Reply> = self.replies.range(from..to.max(from)).copied().collect();
        let all = |of: fn(&Reply) -> Duration| replies.iter().map(of).map(nanos).collect();
        let oldest = self.replies.front();
        HeartbeatWindow {
            longest,
            silences,
            replies: replies.len() as u64,
            rtt_p50_ns: percentile_of(all(|it| it.up + it.down), 50),
            rtt_p99_ns: percentile_of(all(|it| it.up + it.down), 99),
            up_p50_ns: percentile_of(all(|it| it.up), 50),
            down_p50_ns: percentile_of(all(|it| it.down), 50),
            incomplete: self.first.is_none() && oldest.is_some_and(|it| window.from < it.at),
        }
    }

    /// Every pause between replies that overlaps `window`, the open one included.
    fn overlapping(&self, window: Window, now: Timestamp) -> Vec<Silence> {
        let inside = self.replies.partition_point(|it| it.at <= window.from);
        let start = self.first.filter(|_| inside == 0).into_iter();
        let replies = self.replies.range(inside.saturating_sub(1)..);
        let edges = start.chain(replies.map(|reply| reply.at));
        let mut silences = Vec::new();
        let mut before: Option<Timestamp> = None;
        for edge in edges {
            if let Some(before) = before
                && window.overlaps(before, edge)
            {
                silences.push(self.silence(before, edge, false));
            }
            before = Some(edge);
        }
        if let Some(before) = before
            && window.overlaps(before, now)
        {
            silences.push(self.silence(before, now, true));
        }
        silences
    }

    fn silence(&self, from: Timestamp, to: Timestamp, open: bool) -> Silence {
        let long = to.since(from) > self.every * 2;
        let unsent = if long {
            self.unsent(from, to)
        } else {
            Duration::ZERO
        };
        Silence {
            from,
            to,
            unsent: nanos(unsent),
            open,
        }
    }

    /// The longest part of the span in which no heartbeat was sent.
    fn unsent(&self, from: Timestamp, to: Timestamp) -> Duration {
        let begin = self.sends.partition_point(|at| *at <= from);
        let end = self.sends.partition_point(|at| *at < to);
        let mut before = from;
        let mut longest = Duration::ZERO;
        let inside = self.sends.range(begin..end.max(begin)).copied();
        for at in inside.chain([to]) {
            longest = longest.max(at.since(before));
            before = at;
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVERY: Duration = Duration::from_millis(10);

    fn ms(ms: u64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }

    /// Heartbeats at each 10 ms until `end`; replies at the given times.
    fn stream(replies: &[u64], end: u64) -> Silences {
        let mut silences = Silences::new(EVERY, 10_000);
        let mut replies = replies.iter().copied().peekable();
        for now in 0..end {
            if now % 10 == 0 {
                silences.handle_sent(ms(now));
            }
            while replies.next_if_eq(&now).is_some() {
                silences.handle_reply(
                    ms(now.saturating_sub(8)),
                    ms(now.saturating_sub(3)),
                    ms(now),
                );
            }
        }
        silences
    }

    #[test]
    fn a_silence_lies_between_two_replies() {
        let silences = stream(&[8, 18, 28, 178, 188], 200);
        let window = silences.window(
            Window::new(ms(0), ms(190)),
            Duration::from_millis(50),
            ms(200),
        );
        let longest = window.longest.unwrap();
        assert_eq!((longest.from, longest.to), (ms(28), ms(178)));
        assert_eq!(window.silences, [longest]);
        assert_eq!(longest.unsent, 10_000_000);
        assert_eq!(window.rtt_p50_ns, Some(8_000_000));
        assert_eq!(
            (window.up_p50_ns, window.down_p50_ns),
            (Some(5_000_000), Some(3_000_000))
        );
    }

    #[test]
    fn a_silence_that_began_before_the_window_keeps_its_full_length() {
        let silences = stream(&[8, 18, 28, 178, 188], 200);
        let window = silences.window(Window::new(ms(100), ms(120)), EVERY, ms(200));
        assert_eq!(window.longest.unwrap().span(), Duration::from_millis(150));
        assert_eq!(window.replies, 0);
    }

    #[test]
    fn the_last_silence_is_open_and_grows() {
        let silences = stream(&[8], 300);
        let open = silences.open(ms(300)).unwrap();
        assert_eq!((open.span(), open.open), (Duration::from_millis(292), true));
    }

    #[test]
    fn without_any_reply_all_time_since_the_first_heartbeat_is_silence() {
        let silences = stream(&[], 300);
        let window = silences.window(Window::all(), EVERY, ms(300));
        assert_eq!(window.longest.unwrap().span(), Duration::from_millis(300));
    }

    #[test]
    fn a_starved_sender_shows_in_its_silence() {
        let mut silences = Silences::new(EVERY, 100);
        silences.handle_sent(ms(0));
        silences.handle_reply(ms(0), ms(4), ms(8));
        silences.handle_sent(ms(100));
        silences.handle_reply(ms(100), ms(104), ms(108));
        let longest = silences
            .window(Window::all(), EVERY, ms(108))
            .longest
            .unwrap();
        assert_eq!(longest.unsent, 92_000_000);
    }

    #[test]
    fn forgotten_replies_make_the_window_incomplete() {
        let mut silences = Silences::new(EVERY, 2);
        for at in [10, 20, 30] {
            silences.handle_sent(ms(at));
            silences.handle_reply(ms(at), ms(at), ms(at + 1));
        }
        assert!(
            silences
                .window(Window::new(ms(0), ms(40)), EVERY, ms(40))
                .incomplete
        );
        assert!(
            !silences
                .window(Window::new(ms(25), ms(40)), EVERY, ms(40))
                .incomplete
        );
    }

    proptest! {
        #[test]
        fn silences_tile_the_time_since_the_first_heartbeat(
            mut replies in proptest::collection::vec(1_u64..500, 0..40),
        ) {
            replies.sort_unstable();
            let silences = stream(&replies, 500);
            let window = silences.window(Window::all(), Duration::ZERO, ms(500));
            let mut at = ms(0);
            for silence in &window.silences {
                prop_assert_eq!(silence.from, at);
                at = silence.to;
            }
            prop_assert_eq!(at, ms(500));
        }

        #[test]
        fn the_longest_of_the_whole_is_the_longest_of_its_parts(
            mut replies in proptest::collection::vec(1_u64..500, 0..40), cut in 1_u64..499,
        ) {
            replies.sort_unstable();
            let silences = stream(&replies, 500);
            let longest = |from, to| {
                let window = silences.window(Window::new(ms(from), ms(to)), EVERY, ms(500));
                window.longest.map_or(Duration::ZERO, |it| it.span())
            };
            prop_assert_eq!(longest(0, 500), longest(0, cut).max(longest(cut, 500)));
        }
    }
}
