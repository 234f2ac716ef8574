//! What a leg knows of its path: round-trip time, loss, and whether the peer fell silent.
//!
//! The users' own packets are the signal (design rule 8): the peer is silent when something of
//! ours stays unanswered for `max(100 ms, smoothed RTT + 4 × deviation + 25 ms)`, the last term
//! being the time within which a peer must acknowledge data. A sparse sender adds probes early, so
//! that one lost packet is no verdict.

use std::collections::VecDeque;
use std::time::Duration;

use vpnmesh_core::Timestamp;

/// Measures one path. Sends nothing itself.
#[derive(Debug)]
pub struct PathMeter {
    smoothed: Option<Duration>,
    deviation: Duration,
    lowest: Duration,
    unanswered_since: Option<Timestamp>,
    /// Packets sent since `unanswered_since` that a living peer would answer.
    asked: u32,
    next_probe: Timestamp,
    /// The owner knows of the silence; it needs no further timer.
    judged: bool,
    last_heard: Option<Timestamp>,
    last_sent: Timestamp,
    last_payload_heard: Option<Timestamp>,
    ack_due: Option<Timestamp>,
    ping_every: Duration,
    next_ping: Timestamp,
    /// Send times of pings without a reply; at most [`MAX_PINGS`].
    waiting: VecDeque<Timestamp>,
    /// Fate of the last pings, newest last; at most [`FATES`].
    fates: VecDeque<bool>,
}

/// A path in figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathFigures {
    /// Smoothed round-trip time; `None` before the first reply.
    pub rtt: Option<Duration>,
    /// Mean deviation of the round-trip time.
    pub deviation: Duration,
    /// Lowest round-trip time seen.
    pub lowest: Option<Duration>,
    /// Share of the last probes that stayed without a reply.
    pub loss: f64,
    /// When the peer was last heard.
    pub last_heard: Option<Timestamp>,
}

impl PathMeter {
    /// A meter for a path that was opened `now`, pinged every `ping_every` while in use.
    #[must_use]
    pub fn new(ping_every: Duration, now: Timestamp) -> Self {
        Self {
            smoothed: None,
            deviation: Duration::ZERO,
            lowest: Duration::MAX,
            unanswered_since: None,
            asked: 0,
            next_probe: Timestamp::MAX,
            judged: false,
            last_heard: None,
            last_sent: now,
            last_payload_heard: None,
            ack_due: None,
            ping_every,
            next_ping: now,
            waiting: VecDeque::new(),
            fates: VecDeque::new(),
        }
    }

    /// Starts from a round-trip time that other packets have shown.
    pub fn expect(&mut self, rtt: Duration) {
        if self.smoothed.is_none() {
            self.sample(rtt);
            self.deviation = rtt / 8;
        }
    }

    /// A packet left. `asks`: a living peer answers it.
    pub fn handle_sent(&mut self, asks: bool, now: Timestamp) {
        self.last_sent = now;
        self.ack_due = None;
        if !asks {
            return;
        }
        if self.unanswered_since.is_none() {
            self.unanswered_since = Some(now);
            self.asked = 0;
            self.next_probe = now + PROBE_GAP;
        }
        self.asked += 1;
    }

    /// An authentic packet arrived. `asks`: it wants an answer.
    pub fn handle_heard(&mut self, asks: bool, now: Timestamp) {
        self.last_heard = Some(now);
        self.unanswered_since = None;
        self.next_probe = Timestamp::MAX;
        self.judged = false;
        if asks {
            self.last_payload_heard = Some(now);
            if self.ack_due.is_none() {
                self.ack_due = Some(now + MAX_ACK_DELAY);
            }
        }
    }

    /// The reply to a ping sent at `sent` arrived.
    pub fn handle_reply(&mut self, sent: Timestamp, now: Timestamp) {
        let Some(position) = self.waiting.iter().position(|at| *at == sent) else {
            return; // a late one, counted as lost before, or none of ours
        };
        for _ in 0..position {
            self.fate(false);
        }
        self.waiting.drain(..=position);
        self.fate(true);
        self.sample(now.since(sent));
    }

    /// Moves the moment of suspicion by `late`: who was not scheduled must not blame others.
    pub fn handle_own_delay(&mut self, late: Duration) {
        if let Some(since) = &mut self.unanswered_since {
            *since += late * 2;
        }
    }

    /// The owner has dealt with the silence: no timer for it until the peer is heard again.
    pub fn handle_judged(&mut self) {
        self.judged = true;
    }

    /// Whether an empty acknowledgement is due.
    #[must_use]
    pub fn wants_ack(&self, now: Timestamp) -> bool {
        self.ack_due.is_some_and(|due| due <= now)
    }

    /// The ping to send, if one is due: its token is the time of sending.
    pub fn poll_ping(&mut self, now: Timestamp) -> Option<Timestamp> {
        let probe = self.next_probe <= now && self.asked < PROBES;
        let quiet = self.quiet_at().is_some_and(|at| at <= now);
        if !probe && !quiet && self.next_ping > now {
            return None;
        }
        if probe {
            self.next_probe = now + PROBE_GAP;
        }
        self.next_ping = now + self.ping_every;
        if self.waiting.len() >= MAX_PINGS {
            self.waiting.pop_front();
            self.fate(false);
        }
        self.waiting.push_back(now);
        Some(now)
    }

    /// How long something of ours may stay unanswered.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let expected = self.smoothed.unwrap_or(UNKNOWN_RTT) + self.deviation * 4 + MAX_ACK_DELAY;
        expected.max(MIN_PATIENCE)
    }

    /// When the peer counts as silent if nothing is heard until then.
    #[must_use]
    pub fn silent_at(&self) -> Option<Timestamp> {
        self.unanswered_since.map(|since| since + self.patience())
    }

    /// The retransmission time-out for control messages.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let expected = self.smoothed.unwrap_or(UNKNOWN_RTT) + self.deviation * 4;
        (expected + RETRY_SLACK).min(MAX_RETRY)
    }

    /// The moment of the next timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        let mut next = self.next_ping.min(self.ack_due.unwrap_or(Timestamp::MAX));
        if self.asked < PROBES {
            next = next.min(self.next_probe);
        }
        if let Some(silent_at) = self.silent_at().filter(|_| !self.judged) {
            next = next.min(silent_at);
        }
        next.min(self.quiet_at().unwrap_or(Timestamp::MAX))
    }

    /// When a stream from the peer that just stopped is asked about, if nothing of ours is open.
    fn quiet_at(&self) -> Option<Timestamp> {
        let heard = self.last_payload_heard?;
        let due = heard.max(self.last_sent) + QUIET;
        let fresh = due.since(heard) < RECENT;
        (self.unanswered_since.is_none() && fresh).then_some(due)
    }

    /// Pings from now on at this period, the first one at once if it became shorter.
    pub fn set_ping_every(&mut self, every: Duration, now: Timestamp) {
        if every < self.ping_every {
            self.next_ping = self.next_ping.min(now);
        }
        self.ping_every = every;
    }

    /// The path in figures.
    #[must_use]
    pub fn figures(&self) -> PathFigures {
        let lost = self.fates.iter().filter(|arrived| !**arrived).count();
        PathFigures {
            rtt: self.smoothed,
            deviation: self.deviation,
            lowest: self.smoothed.map(|_| self.lowest),
            loss: if self.fates.is_empty() {
                0.0
            } else {
                lost as f64 / self.fates.len() as f64
            },
            last_heard: self.last_heard,
        }
    }

    fn fate(&mut self, arrived: bool) {
        if self.fates.len() == FATES {
            self.fates.pop_front();
        }
        self.fates.push_back(arrived);
    }

    /// RFC 6298, section 2, with its gains of 1/8 and 1/4.
    fn sample(&mut self, rtt: Duration) {
        self.lowest = self.lowest.min(rtt);
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.deviation = rtt / 2;
            }
            Some(smoothed) => {
                self.deviation = (self.deviation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }
}

/// Whoever receives data answers within this time. Shorter costs packets, longer costs detection.
pub const MAX_ACK_DELAY: Duration = Duration::from_millis(25);
/// The shortest patience: half the lab's longest silence, and above the stalls of a loaded host.
pub const MIN_PATIENCE: Duration = Duration::from_millis(100);
/// Stands for the round-trip time before the first reply.
const UNKNOWN_RTT: Duration = Duration::from_millis(200);
/// Gap between the probes of a sparse sender.
const PROBE_GAP: Duration = Duration::from_millis(15);
/// So many questions in one silence are enough: at 2 % loss both ways all four are lost once in
/// six million.
const PROBES: u32 = 4;
/// A stream of packets that stops for this long is asked about.
const QUIET: Duration = Duration::from_millis(50);
/// A stream that stopped longer ago than this has simply ended.
const RECENT: Duration = Duration::from_secs(1);
const RETRY_SLACK: Duration = Duration::from_millis(10);
const MAX_RETRY: Duration = Duration::from_secs(1);
const MAX_PINGS: usize = 64;
const FATES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn meter() -> PathMeter {
        let mut meter = PathMeter::new(Duration::from_secs(10), Timestamp::ZERO);
        let sent = meter.poll_ping(Timestamp::ZERO).unwrap();
        meter.handle_reply(sent, sent + 20 * MS);
        meter
    }

    #[test]
    fn silence_counts_from_the_first_unanswered_packet() {
        let mut meter = meter();
        let start = Timestamp::ZERO + Duration::from_secs(1);
        meter.handle_sent(true, start);
        meter.handle_sent(true, start + 50 * MS);
        assert_eq!(meter.silent_at(), Some(start + meter.patience()));
        assert_eq!(meter.patience(), MIN_PATIENCE);
        meter.handle_heard(false, start + 60 * MS);
        assert_eq!(meter.silent_at(), None);
    }

    #[test]
    fn a_sparse_sender_probes_before_it_judges() {
        let mut meter = meter();
        let start = Timestamp::ZERO + Duration::from_secs(1);
        meter.handle_sent(true, start);
        let mut probes = 0;
        for ms in 1..100 {
            let now = start + ms * MS;
            if meter.poll_ping(now).is_some() {
                meter.handle_sent(true, now);
                probes += 1;
            }
        }
        assert_eq!(probes, PROBES - 1);
    }

    #[test]
    fn a_late_thread_moves_its_own_suspicion() {
        let mut meter = meter();
        meter.handle_sent(true, Timestamp::ZERO);
        let before = meter.silent_at().unwrap();
        meter.handle_own_delay(30 * MS);
        assert_eq!(meter.silent_at().unwrap().since(before), 60 * MS);
    }

    #[test]
    fn data_is_acknowledged_within_the_promised_time() {
        let mut meter = meter();
        meter.handle_heard(true, Timestamp::ZERO);
        meter.handle_heard(true, Timestamp::ZERO + 20 * MS);
        assert!(!meter.wants_ack(Timestamp::ZERO + 24 * MS));
        assert!(meter.wants_ack(Timestamp::ZERO + MAX_ACK_DELAY));
        meter.handle_sent(true, Timestamp::ZERO + 25 * MS);
        assert!(!meter.wants_ack(Timestamp::ZERO + 26 * MS));
    }

    #[test]
    fn lost_pings_show_as_loss() {
        let mut meter = meter();
        let mut now = Timestamp::ZERO;
        for round in 0..20u64 {
            now += Duration::from_secs(10);
            let sent = meter.poll_ping(now).unwrap();
            if round % 2 == 0 {
                meter.handle_reply(sent, sent + 20 * MS);
            }
        }
        let loss = meter.figures().loss;
        assert!((0.40..=0.50).contains(&loss), "{loss}");
    }
}
