//! The sliding window that accepts each packet counter once.
//!
//! A ring of 64-bit blocks, as RFC 6479 describes: moving forward clears whole blocks, nothing is
//! shifted.

/// Remembers which counters were accepted.
///
/// A counter more than [`ReplayWindow::REACH`] below the greatest one is refused unseen.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    blocks: [u64; BLOCKS],
    /// One above the greatest accepted counter; zero while nothing was accepted.
    next: u64,
    accepted: u64,
}

/// Why a counter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It was accepted before.
    Seen,
    /// It lies below the window.
    TooOld,
}

impl ReplayWindow {
    /// How far below the greatest counter an unseen one is still accepted.
    pub const REACH: u64 = (BLOCKS as u64 - 1) * 64;

    /// A window that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            blocks: [0; BLOCKS],
            next: 0,
            accepted: 0,
        }
    }

    /// Whether `counter` would be accepted. Ask before opening, accept after.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing changes.
    pub fn check(&self, counter: u64) -> Result<(), Refusal> {
        if counter >= self.next {
            return Ok(());
        }
        if self.next - 1 - counter > Self::REACH {
            return Err(Refusal::TooOld);
        }
        let (block, bit) = place(counter);
        if self.blocks[block] & bit == 0 {
            Ok(())
        } else {
            Err(Refusal::Seen)
        }
    }

    /// Marks `counter` as seen. Call it only for a packet that opened.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing changes.
    pub fn accept(&mut self, counter: u64) -> Result<(), Refusal> {
        self.check(counter)?;
        if counter >= self.next {
            let first_new = if self.next == 0 {
                0
            } else {
                (self.next - 1) / 64 + 1
            };
            let last_new = counter / 64;
            for block in (first_new..=last_new).take(BLOCKS) {
                self.blocks[(block as usize) % BLOCKS] = 0;
            }
            if last_new >= first_new + BLOCKS as u64 {
                self.blocks = [0; BLOCKS];
            }
            self.next = counter.saturating_add(1);
        }
        let (block, bit) = place(counter);
        self.blocks[block] |= bit;
        self.accepted += 1;
        Ok(())
    }

    /// The greatest accepted counter.
    #[must_use]
    pub const fn greatest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Whether each counter from `first` to `last` was accepted, as far as the window reaches.
    #[must_use]
    pub fn complete(&self, first: u64, last: u64) -> bool {
        if self.next <= last {
            return false;
        }
        let lowest = (self.next - 1).saturating_sub(Self::REACH).max(first);
        (lowest..=last).all(|counter| self.check(counter).is_err())
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

const fn place(counter: u64) -> (usize, u64) {
    (
        ((counter / 64) % BLOCKS as u64) as usize,
        1 << (counter % 64),
    )
}

/// 2 048 bits: a full batch of every path in reordering still fits (measured: a GSO batch of 64
/// over three paths reorders by less than 300).
const BLOCKS: usize = 32;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_counter_is_accepted_once() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.accept(0), Ok(()));
        assert_eq!(window.accept(0), Err(Refusal::Seen));
        assert_eq!(window.accept(5000), Ok(()));
        assert_eq!(window.accept(1), Err(Refusal::TooOld));
        assert_eq!(window.accept(5000 - ReplayWindow::REACH), Ok(()));
    }

    #[test]
    fn the_last_counter_does_not_wrap() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.accept(u64::MAX - 1), Ok(()));
        assert_eq!(window.accept(u64::MAX - 1), Err(Refusal::Seen));
    }

    #[test]
    fn completeness_needs_every_counter() {
        let mut window = ReplayWindow::new();
        for counter in [0, 1, 2, 4, 5] {
            window.accept(counter).unwrap();
        }
        assert!(window.complete(0, 2));
        assert!(!window.complete(0, 5));
        assert!(!window.complete(0, 6));
        window.accept(3).unwrap();
        assert!(window.complete(0, 5));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_all_counters(
            counters in prop::collection::vec(prop_oneof![0u64..6000, 3000u64..3100], 0..400),
        ) {
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            for counter in counters {
                let greatest: u64 = seen.last().copied().unwrap_or(0);
                let old = !seen.is_empty() && greatest.saturating_sub(counter) > ReplayWindow::REACH;
                let expected = !old && !seen.contains(&counter);
                prop_assert_eq!(window.accept(counter).is_ok(), expected);
                if expected {
                    seen.insert(counter);
                }
            }
        }
    }
}
