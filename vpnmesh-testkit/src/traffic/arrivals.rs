//! What one receiver of numbered datagrams knows.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use vpnmesh_core::Timestamp;

use super::Window;

/// Records the arrivals of one stream of numbered datagrams, by number.
#[derive(Debug)]
pub struct Arrivals {
    base: u64,             // number of the first slot
    slots: VecDeque<Slot>, // at most `bound`; the oldest numbers go first
    bound: usize,
    highest: Option<u64>,
    forgot: Option<Timestamp>, // the latest send time among the arrivals forgotten
    totals: ArrivalTotals,
}

/// What a receiver counted since its start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ArrivalTotals {
    /// Different numbers that arrived.
    pub received: u64,
    /// Arrivals of a number beyond its first.
    pub duplicated: u64,
    /// First arrivals after a greater number (RFC 4737, section 3).
    pub reordered: u64,
    /// Datagrams with wrong bytes, or with a number that cannot be.
    pub corrupt: u64,
    /// Arrivals of numbers older than all that is remembered; in none of the other counts.
    pub forgotten: u64,
}

/// The first arrival of one datagram. In JSON: `[number, sent, arrived, copies, reordered]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(
    from = "(u64, u64, u64, u32, bool)",
    into = "(u64, u64, u64, u32, bool)"
)]
pub struct Arrival {
    /// Its number.
    pub number: u64,
    /// When it was sent, by its own word.
    pub sent: Timestamp,
    /// When it arrived first.
    pub arrived: Timestamp,
    /// How often it arrived; 1 is right.
    pub copies: u32,
    /// A greater number was there before (RFC 4737, section 3).
    pub reordered: bool,
}

/// The datagrams of a window (by send time) that arrived until it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArrivedWindow {
    /// Ordered by number.
    pub arrivals: Vec<Arrival>,
    /// When the receiver was asked. Later arrivals are unknown.
    #[serde(rename = "asked_ns")]
    pub asked: Timestamp,
    /// Some of the window is older than all that is remembered.
    pub incomplete: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    sent: Timestamp,
    arrived: Timestamp,
    copies: u32, // 0: not yet
    reordered: bool,
}

impl Arrivals {
    /// Remembers the newest `bound` numbers.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            base: 0,
            slots: VecDeque::new(),
            bound: bound.max(1),
            highest: None,
            forgot: None,
            totals: ArrivalTotals::default(),
        }
    }

    /// The datagram `number`, sent at `sent`, arrived.
    pub fn handle_datagram(&mut self, number: u64, sent: Timestamp, now: Timestamp) {
        if number < self.base {
            self.totals.forgotten += 1;
            return;
        }
        if self.highest.is_none() {
            self.base = number.saturating_sub(FIRST_SLACK);
        }
        if number - self.base >= self.bound as u64 * 2 {
            self.totals.corrupt += 1; // no sender skips that much
            return;
        }
        let slot = self.slot(number);
        slot.copies = slot.copies.saturating_add(1);
        if slot.copies > 1 {
            self.totals.duplicated += 1;
            return;
        }
        (slot.sent, slot.arrived) = (sent, now);
        self.totals.received += 1;
        if self.highest.is_some_and(|highest| number < highest) {
            self.slot(number).reordered = true;
            self.totals.reordered += 1;
        }
        self.highest = self.highest.max(Some(number));
    }

    /// A datagram with wrong bytes arrived.
    pub fn handle_corrupt(&mut self) {
        self.totals.corrupt += 1;
    }

    /// What was counted since the start.
    #[must_use]
    pub fn totals(&self) -> ArrivalTotals {
        self.totals
    }

    /// The datagrams that were sent in `window` and arrived until `now`.
    #[must_use]
    pub fn window(&self, window: Window, now: Timestamp) -> ArrivedWindow {
        let here = self.slots.iter().enumerate();
        let arrived = here.filter(|(_, slot)| slot.copies > 0);
        let arrivals = arrived
            .filter(|(_, slot)| window.contains(slot.sent))
            .map(|(index, slot)| Arrival {
                number: self.base + index as u64,
                sent: slot.sent,
                arrived: slot.arrived,
                copies: slot.copies,
                reordered: slot.reordered,
            })
            .collect();
        ArrivedWindow {
            arrivals,
            asked: now,
            incomplete: self.forgot.is_some_and(|forgot| window.from <= forgot),
        }
    }

    /// The slot of `number`, which is not below the base nor out of reach.
    fn slot(&mut self, number: u64) -> &mut Slot {
        while number - self.base >= self.bound as u64 {
            if let Some(slot) = self.slots.pop_front()
                && slot.copies > 0
            {
                self.forgot = self.forgot.max(Some(slot.sent));
            }
            self.base += 1;
        }
        let index = (number - self.base) as usize;
        while self.slots.len() <= index {
            self.slots.push_back(Slot::EMPTY);
        }
        &mut self.slots[index]
    }
}

impl Slot {
    const EMPTY: Self = Self {
        sent: Timestamp::ZERO,
        arrived: Timestamp::ZERO,
        copies: 0,
        reordered: false,
    };
}

impl From<(u64, u64, u64, u32, bool)> for Arrival {
    fn from((number, sent, arrived, copies, reordered): (u64, u64, u64, u32, bool)) -> Self {
        Self {
            number,
            sent: Timestamp(sent),
            arrived: Timestamp(arrived),
            copies,
            reordered,
        }
    }
}

impl From<Arrival> for (u64, u64, u64, u32, bool) {
    fn from(it: Arrival) -> Self {
        (it.number, it.sent.0, it.arrived.0, it.copies, it.reordered)
    }
}

// A receiver may start late: that many numbers before its first one still have a place.
const FIRST_SLACK: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }

    #[test]
    fn a_datagram_behind_a_greater_number_is_reordered() {
        let mut arrivals = Arrivals::new(100);
        for (number, at) in [(0, 10), (2, 11), (1, 12), (3, 13)] {
            arrivals.handle_datagram(number, ms(number), ms(at));
        }
        assert_eq!(arrivals.totals().reordered, 1);
        let window = arrivals.window(Window::all(), ms(20));
        let late: Vec<u64> = window
            .arrivals
            .iter()
            .filter(|arrival| arrival.reordered)
            .map(|arrival| arrival.number)
            .collect();
        assert_eq!(late, [1]);
    }

    #[test]
    fn a_second_copy_counts_as_duplicate_and_keeps_the_first_arrival() {
        let mut arrivals = Arrivals::new(100);
        arrivals.handle_datagram(0, ms(0), ms(5));
        arrivals.handle_datagram(0, ms(0), ms(9));
        let window = arrivals.window(Window::all(), ms(20));
        assert_eq!(
            (window.arrivals[0].copies, window.arrivals[0].arrived),
            (2, ms(5))
        );
        assert_eq!(arrivals.totals().duplicated, 1);
        assert_eq!(arrivals.totals().received, 1);
    }

    #[test]
    fn the_oldest_numbers_go_and_the_window_says_so() {
        let mut arrivals = Arrivals::new(4);
        for number in 0..10 {
            arrivals.handle_datagram(number, ms(number), ms(number + 1));
        }
        let window = arrivals.window(Window::new(ms(0), ms(10)), ms(20));
        assert_eq!(window.arrivals.len(), 4);
        assert!(window.incomplete);
        assert!(
            !arrivals
                .window(Window::new(ms(7), ms(10)), ms(20))
                .incomplete
        );
        arrivals.handle_datagram(2, ms(2), ms(21));
        assert_eq!(arrivals.totals().forgotten, 1);
    }

    #[test]
    fn a_number_out_of_all_reach_does_not_flush_the_record() {
        let mut arrivals = Arrivals::new(4);
        arrivals.handle_datagram(0, ms(0), ms(1));
        arrivals.handle_datagram(u64::MAX, ms(1), ms(2));
        assert_eq!(arrivals.totals().corrupt, 1);
        assert_eq!(arrivals.window(Window::all(), ms(3)).arrivals.len(), 1);
    }

    #[test]
    fn an_arrival_is_a_short_list_in_json() {
        let arrival = Arrival {
            number: 1,
            sent: Timestamp(2),
            arrived: Timestamp(3),
            copies: 1,
            reordered: false,
        };
        let json = serde_json::to_string(&arrival).unwrap();
        assert_eq!(json, "[1,2,3,1,false]");
        assert_eq!(serde_json::from_str::<Arrival>(&json).unwrap(), arrival);
    }
}
