//! Many timers, the earliest first.

use std::collections::{BTreeMap, BTreeSet};

use vpnmesh_core::Timestamp;

/// One timer for each key. As many entries as the owner has objects.
#[derive(Debug)]
pub struct Timers<K> {
    at: BTreeMap<K, Timestamp>,
    order: BTreeSet<(Timestamp, K)>,
}

impl<K: Copy + Ord> Timers<K> {
    /// No timers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            at: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Sets the timer of `key`; [`Timestamp::MAX`] is never.
    pub fn set(&mut self, key: K, at: Timestamp) {
        let before = if at == Timestamp::MAX {
            self.at.remove(&key)
        } else {
            self.at.insert(key, at)
        };
        if before == Some(at) {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, key));
        }
        if at != Timestamp::MAX {
            self.order.insert((at, key));
        }
    }

    /// A key whose timer is due; its timer is gone then.
    pub fn poll(&mut self, now: Timestamp) -> Option<K> {
        let (at, key) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.remove(&(at, key));
        self.at.remove(&key);
        Some(key)
    }

    /// The earliest timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        self.order.first().map_or(Timestamp::MAX, |(at, _)| *at)
    }
}

impl<K: Copy + Ord> Default for Timers<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_timer_and_the_earliest_comes_first() {
        let mut timers = Timers::new();
        timers.set(1, Timestamp(10));
        timers.set(2, Timestamp(5));
        timers.set(1, Timestamp(3));
        assert_eq!(timers.poll_timeout(), Timestamp(3));
        assert_eq!(timers.poll(Timestamp(2)), None);
        assert_eq!(timers.poll(Timestamp(9)), Some(1));
        assert_eq!(timers.poll(Timestamp(9)), Some(2));
        assert_eq!(timers.poll(Timestamp(99)), None);
        timers.set(2, Timestamp(5));
        timers.set(2, Timestamp::MAX);
        assert_eq!(timers.poll_timeout(), Timestamp::MAX);
    }
}
