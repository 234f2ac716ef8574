//! Spans of time that a recorder is asked about.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use vpnmesh_core::Timestamp;

/// A span of time: `from` belongs to it, `to` does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Window {
    /// The first moment.
    #[serde(rename = "from_ns")]
    pub from: Timestamp,
    /// The first moment after it.
    #[serde(rename = "to_ns")]
    pub to: Timestamp,
}

impl Window {
    /// The span from `from` to `to`; empty if `to` is not the later one.
    #[must_use]
    pub const fn new(from: Timestamp, to: Timestamp) -> Self {
        Self { from, to }
    }

    /// All of time.
    #[must_use]
    pub const fn all() -> Self {
        Self::new(Timestamp::ZERO, Timestamp::MAX)
    }

    /// Whether `at` lies within.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }

    /// Whether any moment strictly between `from` and `to` lies within.
    #[must_use]
    pub fn overlaps(&self, from: Timestamp, to: Timestamp) -> bool {
        from < to && self.from < self.to && from < self.to && self.from < to
    }

    /// How long it is.
    #[must_use]
    pub const fn span(&self) -> Duration {
        self.to.since(self.from)
    }
}

/// A span in nanoseconds, for messages.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_speaks_nanoseconds_in_json() {
        let window = Window::new(Timestamp(5), Timestamp(7));
        let json = serde_json::to_string(&window).unwrap();
        assert_eq!(json, r#"{"from_ns":5,"to_ns":7}"#);
        assert_eq!(serde_json::from_str::<Window>(&json).unwrap(), window);
    }

    proptest! {
        #[test]
        fn neighbours_share_no_moment(a in 0_u64..50, b in 0_u64..50, c in 0_u64..50, at in 0_u64..50) {
            let mut cuts = [a, b, c];
            cuts.sort_unstable();
            let [a, b, c] = cuts.map(Timestamp);
            let at = Timestamp(at);
            let whole = Window::new(a, c).contains(at);
            let left = Window::new(a, b).contains(at);
            let right = Window::new(b, c).contains(at);
            prop_assert_eq!(whole, left ^ right);
            prop_assert!(!(left && right));
        }

        #[test]
        fn spans_overlap_where_they_share_a_moment(
            a in 0_u64..20, b in 0_u64..20, from in 0_u64..20, to in 0_u64..20,
        ) {
            let window = Window::new(Timestamp(a), Timestamp(b));
            let shared = (from..to).any(|at| window.contains(Timestamp(at)));
            prop_assert_eq!(window.overlaps(Timestamp(from), Timestamp(to)), shared);
        }
    }
}
