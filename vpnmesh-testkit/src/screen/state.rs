//! Everything that the screen shows.

use std::collections::VecDeque;
use std::time::Duration;

use vpnmesh_core::Ratio;

use crate::report::Promise;
use crate::traffic::LoadSnapshot;

/// Everything that the screen shows.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct ScreenState {
    /// Title line.
    pub title: String,
    /// Time since the start of the run.
    pub elapsed: Duration,
    /// The round being played, from 1 on.
    pub round: u32,
    /// How many rounds there are.
    pub rounds: u32,
    /// All acts, in the order of the play.
    pub acts: Vec<ActLine>,
    /// What is happening.
    pub narration: Narration,
    /// The nodes and the controller.
    pub nodes: Vec<NodeLine>,
    /// The clients.
    pub clients: Vec<ClientLine>,
    /// The promises judged so far.
    pub promises: Vec<Promise>,
}

/// One act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActLine {
    /// Its number in the play.
    pub number: u32,
    /// What it shows.
    pub name: String,
    /// How it stands.
    pub state: ActState,
}

/// How an act stands.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ActState {
    /// Comes later.
    #[default]
    Waiting,
    /// Is on stage.
    Playing,
    /// Was played, and its promises held.
    Held,
    /// Was played, and a promise broke.
    Broken,
}

/// One node, or the controller.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NodeLine {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub region: String,
    /// How it lives.
    pub life: Life,
    /// How likely it fails soon, by the predictor; `None` while unknown.
    pub risk: Option<Ratio>,
    /// The clients whose primary it is.
    pub primary_of: Vec<String>,
    /// The clients whose shadow it is.
    pub shadow_of: Vec<String>,
}

/// How a node lives.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Life {
    /// Starts, or comes back.
    #[default]
    Starting,
    /// Does its work.
    Ready,
    /// Works, with trouble.
    Degraded,
    /// Hands its sessions over.
    Draining,
    /// Was taken out of the mesh; its process may still run.
    Removed,
    /// Stopped by SIGSTOP.
    Frozen,
    /// Its process is gone.
    Dead,
}

/// One client.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ClientLine {
    /// Its name.
    pub name: String,
    /// The node that holds its session now.
    pub via: String,
    /// Rate of its downloads, in bit/s.
    pub download_bps: u64,
    /// Recent rates for the bar, oldest first, in any one unit.
    pub recent: Vec<u64>,
    /// The last silence worth mention, in ms.
    pub last_gap_ms: Option<u64>,
    /// The longest silence so far, in ms.
    pub longest_gap_ms: u64,
    /// Time since the last heartbeat reply, in ms.
    pub quiet_ms: u64,
    /// Requests answered in the last second.
    pub http_per_second: u64,
    /// Median round trip, in ms.
    pub rtt_ms: Option<u64>,
    /// TCP connections broken.
    pub tcp_broken: u64,
    /// Bytes that were wrong.
    pub bytes_wrong: u64,
}

/// What is happening, line by line; keeps the newest [`Narration::KEPT`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Narration {
    lines: VecDeque<(Duration, String)>, // at most KEPT; the oldest go first
    told: u64,
}

impl ScreenState {
    /// Tells one more line of what is happening, at the present [`elapsed`](Self::elapsed).
    pub fn tell(&mut self, line: impl Into<String>) {
        self.narration.tell(self.elapsed, line.into());
    }
}

impl ClientLine {
    /// What the screen shows of a load's snapshot.
    #[must_use]
    pub fn of(name: &str, via: &str, snapshot: &LoadSnapshot) -> Self {
        let ms = |nanos: u64| nanos / 1_000_000;
        let totals = &snapshot.totals;
        let last = snapshot.last_silence.map(|it| it.span().as_nanos());
        Self {
            name: name.to_owned(),
            via: via.to_owned(),
            download_bps: snapshot.download_bps,
            recent: snapshot.recent.bytes.clone(),
            last_gap_ms: last.and_then(|nanos| u64::try_from(nanos).ok()).map(ms),
            longest_gap_ms: ms(totals.heartbeat.longest_ns),
            quiet_ms: ms(snapshot.quiet_ns),
            http_per_second: snapshot.http_per_second,
            rtt_ms: snapshot.rtt_ns.map(ms),
            tcp_broken: totals.connections.broken,
            bytes_wrong: totals.connections.wrong_bytes,
        }
    }
}

impl Narration {
    /// How many lines are kept.
    pub const KEPT: usize = 200;

    /// The newest `count` lines, oldest first, each with its time.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = (Duration, &str)> {
        let skip = self.lines.len().saturating_sub(count);
        let lines = self.lines.iter().skip(skip);
        lines.map(|(at, line)| (*at, line.as_str()))
    }

    /// How many lines were told, those that are no longer kept included.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told
    }

    fn tell(&mut self, at: Duration, line: String) {
        if self.lines.len() == Self::KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back((at, line));
        self.told += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narration_keeps_the_newest_lines_and_counts_all() {
        let mut state = ScreenState::default();
        for line in 0..300 {
            state.tell(line.to_string());
        }
        assert_eq!(state.narration.told(), 300);
        let newest: Vec<&str> = state.narration.newest(2).map(|(_, line)| line).collect();
        assert_eq!(newest, ["298", "299"]);
        assert_eq!(state.narration.newest(1000).count(), Narration::KEPT);
    }
}
