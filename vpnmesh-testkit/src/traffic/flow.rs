//! One direction of numbered datagrams, seen from both of its ends.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vpnmesh_core::Timestamp;

use super::window::nanos;
use super::{ArrivedWindow, SentWindow};
use crate::report::percentile;

/// What became of the datagrams that were sent in a window.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct FlowWindow {
    /// How many were sent.
    pub sent: u64,
    /// How many arrived within the grace.
    pub received: u64,
    /// How many did not arrive within the grace of their own send time.
    pub lost: u64,
    /// The first of the lost numbers, at most [`FlowWindow::LOST_SHOWN`].
    pub lost_numbers: Vec<u64>,
    /// Copies beyond the first.
    pub duplicated: u64,
    /// Arrived after a greater number (RFC 4737, section 3).
    pub reordered: u64,
    /// Arrived with a number that the sender did not send in the window. Zero, or a process lies.
    pub strange: u64,
    /// One-way delays of the received ones, ascending.
    pub delays_ns: Vec<u64>,
    /// The longest time between two arrivals, ordered by arrival.
    pub silence_ns: u64,
    /// Both ends remember the whole window, and were asked after the grace was over.
    pub complete: bool,
}

/// How long after its sending a datagram may still arrive: far more than any path delay.
pub const GRACE: Duration = Duration::from_secs(2);

impl FlowWindow {
    /// How many lost numbers are named.
    pub const LOST_SHOWN: usize = 64;

    /// Joins what the sender and the receiver of one stream know of the same window.
    ///
    /// Ask the receiver no earlier than `grace` after the end of the window; else
    /// [`complete`](Self::complete) is false and datagrams still under way count as lost.
    #[must_use]
    pub fn join(sent: &SentWindow, arrived: &ArrivedWindow, grace: Duration) -> Self {
        let numbers = sent.first..sent.first.saturating_add(sent.count);
        let mut flow = Self {
            sent: sent.count,
            complete: !sent.incomplete
                && !arrived.incomplete
                && sent.window.to + grace <= arrived.asked,
            ..Self::default()
        };
        let mut in_time = BTreeMap::new();
        for arrival in &arrived.arrivals {
            if !numbers.contains(&arrival.number) {
                flow.strange += 1;
                continue;
            }
            flow.duplicated += u64::from(arrival.copies.saturating_sub(1));
            flow.reordered += u64::from(arrival.reordered);
            if arrival.arrived.since(arrival.sent) <= grace {
                in_time.insert(arrival.number, arrival);
            }
        }
        let arrivals: Vec<Timestamp> = in_time.values().map(|it| it.arrived).collect();
        flow.silence_ns = longest_pause(arrivals);
        flow.delays_ns = in_time
            .values()
            .map(|it| nanos(it.arrived.since(it.sent)))
            .collect();
        flow.delays_ns.sort_unstable();
        flow.received = in_time.len() as u64;
        flow.lost = sent.count - flow.received;
        flow.lost_numbers = numbers
            .filter(|number| !in_time.contains_key(number))
            .take(Self::LOST_SHOWN)
            .collect();
        flow
    }

    /// The one-way delay of that percentile, by nearest rank; `None` if nothing arrived.
    #[must_use]
    pub fn delay(&self, percent: u8) -> Option<Duration> {
        percentile(&self.delays_ns, percent).map(Duration::from_nanos)
    }

    /// How far the delay of that percentile lies over `steady`; zero if below.
    #[must_use]
    pub fn excess(&self, percent: u8, steady: Duration) -> Option<Duration> {
        Some(self.delay(percent)?.saturating_sub(steady))
    }
}

fn longest_pause(mut arrivals: Vec<Timestamp>) -> u64 {
    arrivals.sort_unstable();
    let pauses = arrivals.windows(2).map(|pair| pair[1].since(pair[0]));
    pauses.max().map_or(0, nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Arrivals, Departures, Window};
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }

    /// Sends one datagram per 5 ms; `fate` gives the delays of the copies of each, in ms.
    fn run(fate: &[Vec<u64>]) -> (Departures, Arrivals) {
        let mut departures = Departures::new(10_000);
        let mut arrivals = Arrivals::new(10_000);
        let mut under_way = Vec::new();
        for (index, delays) in fate.iter().enumerate() {
            let sent = ms(index as u64 * 5);
            let number = departures.next_number();
            departures.handle_sent(sent, true);
            under_way.extend(
                delays
                    .iter()
                    .map(|d| (sent + Duration::from_millis(*d), number, sent)),
            );
        }
        under_way.sort_unstable();
        for (at, number, sent) in under_way {
            arrivals.handle_datagram(number, sent, at);
        }
        (departures, arrivals)
    }

    fn join(run: &(Departures, Arrivals), window: Window, asked: Timestamp) -> FlowWindow {
        FlowWindow::join(&run.0.window(window), &run.1.window(window, asked), GRACE)
    }

    #[test]
    fn a_missing_number_is_lost_and_named() {
        let run = run(&[vec![10], vec![], vec![10], vec![10, 12]]);
        let flow = join(&run, Window::new(ms(0), ms(20)), ms(5000));
        assert_eq!((flow.sent, flow.received, flow.lost), (4, 3, 1));
        assert_eq!(flow.lost_numbers, [1]);
        assert_eq!((flow.duplicated, flow.reordered, flow.strange), (1, 0, 0));
        assert_eq!(flow.delay(99), Some(Duration::from_millis(10)));
        assert_eq!(flow.silence_ns, 10_000_000);
        assert!(flow.complete);
    }

    #[test]
    fn asking_before_the_grace_is_over_leaves_the_window_incomplete() {
        let run = run(&[vec![10]]);
        assert!(!join(&run, Window::new(ms(0), ms(20)), ms(2019)).complete);
        assert!(join(&run, Window::new(ms(0), ms(20)), ms(2020)).complete);
    }

    #[test]
    fn a_datagram_later_than_the_grace_is_lost_whenever_one_asks() {
        let run = run(&[vec![2001], vec![2000]]);
        let flow = join(&run, Window::new(ms(0), ms(20)), ms(60_000));
        assert_eq!((flow.lost, flow.received), (1, 1));
    }

    #[test]
    fn excess_is_measured_over_the_steady_delay() {
        let run = run(&[vec![10], vec![13], vec![14]]);
        let flow = join(&run, Window::new(ms(0), ms(20)), ms(5000));
        assert_eq!(
            flow.excess(99, Duration::from_millis(10)),
            Some(Duration::from_millis(4))
        );
        assert_eq!(
            flow.excess(99, Duration::from_millis(30)),
            Some(Duration::ZERO)
        );
    }

    proptest! {
        #[test]
        fn neighbouring_windows_add_up_to_the_whole(
            fate in proptest::collection::vec(proptest::collection::vec(0_u64..3000, 0..3), 0..60),
            cut in 0_u64..300,
        ) {
            let run = run(&fate);
            let asked = ms(10_000);
            let whole = join(&run, Window::new(ms(0), ms(300)), asked);
            let left = join(&run, Window::new(ms(0), ms(cut)), asked);
            let right = join(&run, Window::new(ms(cut), ms(300)), asked);
            prop_assert_eq!(whole.sent, fate.len() as u64);
            let counts = |it: &FlowWindow| [it.sent, it.received, it.lost, it.duplicated, it.reordered];
            let both = counts(&left).into_iter().zip(counts(&right)).map(|(a, b)| a + b);
            prop_assert_eq!(counts(&whole).to_vec(), both.collect::<Vec<_>>());
            prop_assert_eq!(whole.sent, whole.received + whole.lost);
            prop_assert_eq!(whole.strange, 0);
            let mut delays = [left.delays_ns, right.delays_ns].concat();
            delays.sort_unstable();
            prop_assert_eq!(whole.delays_ns, delays);
        }

        #[test]
        fn lost_is_what_has_no_copy_in_time(
            fate in proptest::collection::vec(proptest::collection::vec(0_u64..4000, 0..3), 0..60),
        ) {
            let run = run(&fate);
            let flow = join(&run, Window::new(ms(0), ms(300)), ms(10_000));
            let lost: Vec<u64> = (0..fate.len() as u64)
                .filter(|n| !fate[*n as usize].iter().any(|delay| *delay <= 2000))
                .collect();
            prop_assert_eq!(flow.lost_numbers, lost);
        }
    }
}
