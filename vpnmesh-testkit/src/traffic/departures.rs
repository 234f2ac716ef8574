//! What one sender of numbered datagrams knows.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use vpnmesh_core::Timestamp;

use super::Window;

/// Numbers datagrams from zero on and records when each was sent.
#[derive(Debug)]
pub struct Departures {
    base: u64,                         // number of the first one remembered
    sent: VecDeque<(Timestamp, bool)>, // in time order, with "the kernel took it"; at most `bound`
    bound: usize,
}

/// The datagrams that were sent in a window: all numbers from `first` on, `count` of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SentWindow {
    /// The lowest number.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How many of them the kernel would not take. They count as lost.
    pub refused: u64,
    /// The window that was asked for.
    pub window: Window,
    /// Some of the window is older than all that is remembered.
    pub incomplete: bool,
}

impl Departures {
    /// Remembers the newest `bound` datagrams.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            base: 0,
            sent: VecDeque::new(),
            bound: bound.max(1),
        }
    }

    /// The number that the next datagram must carry.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.base + self.sent.len() as u64
    }

    /// The datagram of [`next_number`](Self::next_number) was sent; `taken` if the kernel took it.
    pub fn handle_sent(&mut self, now: Timestamp, taken: bool) {
        if self.sent.len() == self.bound {
            self.sent.pop_front();
            self.base += 1;
        }
        self.sent.push_back((now, taken));
    }

    /// What was sent in `window`.
    #[must_use]
    pub fn window(&self, window: Window) -> SentWindow {
        let from = self.sent.partition_point(|(at, _)| *at < window.from);
        let to = self.sent.partition_point(|(at, _)| *at < window.to);
        let part = self.sent.range(from..to.max(from));
        let oldest = self.sent.front();
        SentWindow {
            first: self.base + from as u64,
            count: part.len() as u64,
            refused: part.filter(|(_, taken)| !taken).count() as u64,
            window,
            incomplete: self.base > 0 && oldest.is_some_and(|(at, _)| window.from < *at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_names_its_numbers() {
        let mut departures = Departures::new(100);
        for at in [10, 20, 30, 40] {
            departures.handle_sent(Timestamp(at), at != 30);
        }
        let window = departures.window(Window::new(Timestamp(20), Timestamp(40)));
        assert_eq!((window.first, window.count, window.refused), (1, 2, 1));
        assert!(!window.incomplete);
    }

    #[test]
    fn numbers_go_on_after_the_oldest_are_forgotten() {
        let mut departures = Departures::new(2);
        for at in 0..5 {
            departures.handle_sent(Timestamp(at), true);
        }
        assert_eq!(departures.next_number(), 5);
        let window = departures.window(Window::all());
        assert_eq!((window.first, window.count), (3, 2));
        assert!(window.incomplete);
    }
}
