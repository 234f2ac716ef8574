//! TCP connections and what happened to them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use vpnmesh_core::Timestamp;

use super::Window;

/// Records TCP connections that broke, and bytes that were wrong.
#[derive(Debug, Default)]
pub struct Connections {
    faults: VecDeque<Fault>, // in time order; at most FAULTS, the oldest go first
    totals: ConnectionTotals,
}

/// What was counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ConnectionTotals {
    /// Connections that came up.
    pub opened: u64,
    /// Connections that were up and then broke: reset, timed out, ended early, or spoke nonsense.
    pub broken: u64,
    /// Attempts that did not come up. Not broken: nothing lived yet.
    pub refused: u64,
    /// Bytes that were not those that the other side must have sent.
    pub wrong_bytes: u64,
}

/// A connection that broke or carried wrong bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// When.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// Which connection, for people.
    pub connection: String,
    /// What happened, for people.
    pub what: String,
    /// Connections broken by it: 0 or 1.
    pub broken: u64,
    /// Wrong bytes found by it.
    pub wrong_bytes: u64,
}

/// The faults of a window.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ConnectionWindow {
    /// Connections that broke.
    pub broken: u64,
    /// Bytes that were wrong.
    pub wrong_bytes: u64,
    /// Each fault, oldest first.
    pub faults: Vec<Fault>,
}

impl Connections {
    /// A connection came up.
    pub fn handle_opened(&mut self) {
        self.totals.opened += 1;
    }

    /// An attempt failed.
    pub fn handle_refused(&mut self) {
        self.totals.refused += 1;
    }

    /// A connection that was up broke.
    pub fn handle_broken(&mut self, connection: &str, what: String, now: Timestamp) {
        self.totals.broken += 1;
        self.remember(connection, what, 1, 0, now);
    }

    /// `count` bytes of a connection were wrong.
    pub fn handle_wrong(&mut self, connection: &str, what: String, count: u64, now: Timestamp) {
        self.totals.wrong_bytes += count;
        self.remember(connection, what, 0, count, now);
    }

    /// What was counted since the start.
    #[must_use]
    pub fn totals(&self) -> ConnectionTotals {
        self.totals
    }

    /// What happened in `window`.
    #[must_use]
    pub fn window(&self, window: Window) -> ConnectionWindow {
        let inside = self.faults.iter().filter(|fault| window.contains(fault.at));
        let faults: Vec<Fault> = inside.cloned().collect();
        ConnectionWindow {
            broken: faults.iter().map(|fault| fault.broken).sum(),
            wrong_bytes: faults.iter().map(|fault| fault.wrong_bytes).sum(),
            faults,
        }
    }

    fn remember(&mut self, name: &str, what: String, broken: u64, wrong: u64, at: Timestamp) {
        if self.faults.len() == FAULTS {
            self.faults.pop_front();
        }
        self.faults.push_back(Fault {
            at,
            connection: name.to_owned(),
            what,
            broken,
            wrong_bytes: wrong,
        });
    }
}

// Far more than a run that is worth reading has.
const FAULTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_belong_to_their_window() {
        let mut connections = Connections::default();
        connections.handle_opened();
        connections.handle_broken("download 1", "reset".into(), Timestamp(5));
        connections.handle_wrong("download 1", "at byte 7".into(), 3, Timestamp(9));
        let window = connections.window(Window::new(Timestamp(6), Timestamp(10)));
        assert_eq!((window.broken, window.wrong_bytes), (0, 3));
        assert_eq!(connections.totals().broken, 1);
    }
}
