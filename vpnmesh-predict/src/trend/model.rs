//! From levels and trends to one calibrated probability.

use std::time::Duration;

use vpnmesh_core::{Evidence, Metric, Ratio};

use super::track::Track;

/// What all metrics together look like.
#[derive(Clone, Default, Debug)]
pub(super) struct Outlook {
    parts: Vec<Evidence>, // one per metric that adds anything
    /// The soonest that a growing metric reaches its limit.
    pub(super) lead: Option<Duration>,
}

/// How one metric counts.
#[derive(Clone, Copy, Debug)]
struct Weight {
    /// Counts relative to what is usual, not by its level.
    relative: bool,
    /// Level at which it begins to count.
    from: f64,
    /// Level at which it counts fully: users notice.
    to: f64,
    /// Level at which it counts twice: nobody can work.
    grave: f64,
    /// What it adds to the score then.
    points: f64,
    /// Severity that a trend alone can reach: a trend is believed less than a level.
    foresight: f64,
    /// What a fast rise adds to the score, wherever it ends.
    rising: f64,
    /// Metrics of one group add no more than the group's limit together.
    group: Group,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Group {
    Paths,
    Busy,
    Starved,
}

impl Outlook {
    pub(super) fn of<'a>(
        tracks: impl Iterator<Item = (Metric, &'a Track)>,
        horizon: Duration,
    ) -> Self {
        let mut outlook = Self::default();
        for (metric, track) in tracks {
            outlook.add(metric, track, horizon);
        }
        outlook.cap(Group::Busy, BUSY_LIMIT);
        outlook.cap(Group::Starved, STARVED_LIMIT);
        outlook.parts.sort_by(|a, b| {
            let order = b.contribution.total_cmp(&a.contribution);
            order.then(a.metric.cmp(&b.metric))
        });
        outlook
    }

    /// Probability of failure within the horizon.
    pub(super) fn probability(&self) -> Ratio {
        calibrated(self.score())
    }

    /// What all metrics add together.
    pub(super) fn score(&self) -> f64 {
        self.parts.iter().map(|part| part.contribution).sum()
    }

    pub(super) fn evidence(self) -> Vec<Evidence> {
        self.parts
    }

    fn add(&mut self, metric: Metric, track: &Track, horizon: Duration) {
        let weight = weight(metric);
        let level = if weight.relative {
            track.rise()
        } else {
            track.level()
        };
        let growth = track.growth();
        let ahead = horizon.as_secs_f64().min(LOOK_AHEAD);
        let now = weight.severity(level);
        let trend = weight.severity(level + growth * ahead).min(1.0) - now;
        let trend = trend.clamp(0.0, weight.foresight);
        let rising = ((track.rise() + growth * ahead) / FAST_RISE).min(1.0);
        let contribution = weight.points * (now + trend) + weight.rising * rising;
        if contribution <= 0.0 {
            return;
        }
        self.parts.push(Evidence {
            metric,
            value: track.level(),
            contribution,
        });
        if weight.group != Group::Busy && growth > 0.0 {
            let lead = Duration::from_secs_f64(((weight.to - level) / growth).clamp(0.0, MAX_LEAD));
            self.lead = Some(self.lead.map_or(lead, |soonest| soonest.min(lead)));
        }
    }

    fn cap(&mut self, group: Group, limit: f64) {
        let of_group = |part: &&mut Evidence| weight(part.metric).group == group;
        let sum: f64 = self
            .parts
            .iter_mut()
            .filter(of_group)
            .map(|part| part.contribution)
            .sum();
        if sum > limit {
            let parts = self.parts.iter_mut().filter(of_group);
            parts.for_each(|part| part.contribution *= limit / sum);
        }
    }
}

impl Weight {
    fn severity(self, level: f64) -> f64 {
        let notice = (level - self.from) / (self.to - self.from);
        let beyond = (level - self.to) / (self.grave - self.to);
        notice.clamp(0.0, 1.0) + beyond.clamp(0.0, 1.0)
    }
}

/// Below this, residuals of a metric are noise.
pub(super) const fn noise_floor(metric: Metric) -> f64 {
    match metric {
        Metric::Rtt | Metric::Jitter => 0.000_5,
        Metric::SchedulingDelay => 0.001,
        Metric::Load => 0.05,
        Metric::Loss | Metric::ForwardingDrops => 0.002,
        Metric::Cpu
        | Metric::Memory
        | Metric::CpuStall
        | Metric::MemoryStall
        | Metric::IoStall
        | Metric::Reports => 0.01,
    }
}

/// Loss counts around what speech bears (ITU-T G.1010: 3 %); the other limits and the points are
/// taste, held to account by the tests for false alarms, ramps and calibration.
const fn weight(metric: Metric) -> Weight {
    use Group::{Busy, Paths, Starved};
    let (group, relative, limits, points) = match metric {
        Metric::Loss => (Paths, false, [0.02, 0.07, 0.25], 3.2),
        // Each path's delay is above that path's usual one already: what is usual of that would make
        // a ramp usual within seconds on a node that has just started.
        Metric::Rtt => (Paths, false, [0.004, 0.045, 0.3], 3.0),
        Metric::Jitter => (Paths, true, [0.005, 0.05, 0.3], 0.8),
        Metric::ForwardingDrops => (Paths, false, [0.01, 0.06, 0.25], 3.2),
        Metric::Cpu => (Busy, false, [0.6, 1.0, 2.0], 0.5),
        Metric::Load => (Busy, false, [1.5, 6.0, 30.0], 0.3),
        Metric::CpuStall => (Busy, false, [0.4, 1.0, 2.0], 0.3),
        Metric::Memory => (Busy, false, [0.85, 1.0, 2.0], 0.8),
        Metric::IoStall => (Starved, false, [0.4, 1.0, 2.0], 1.0),
        Metric::MemoryStall => (Starved, false, [0.1, 0.5, 1.0], 3.0),
        Metric::SchedulingDelay => (Starved, false, [0.05, 0.4, 2.0], 2.5),
        Metric::Reports => (Paths, false, [0.5, 1.0, 2.0], 0.0),
    };
    let [from, to, grave] = limits;
    Weight {
        relative,
        from,
        to,
        grave,
        points,
        // Few packets make noisy trends of loss.
        foresight: if matches!(metric, Metric::Loss) {
            0.4
        } else {
            0.8
        },
        rising: if matches!(metric, Metric::Cpu) {
            1.0
        } else {
            0.0
        },
        group,
    }
}

/// The score as a probability: a straight line in log-odds between knots.
///
/// Knots are the shares of deaths by score over the synthetic lives of seeds 10,000 to 18,000 at a
/// horizon of 10 s; the test `the_risk_means_what_it_says` checks them on other seeds. At other
/// horizons the trend reaches less far or further, up to [`LOOK_AHEAD`].
fn calibrated(score: f64) -> Ratio {
    let after = KNOTS
        .iter()
        .position(|(knot, _)| score < *knot)
        .unwrap_or(KNOTS.len());
    let (a, b) = match after {
        0 => (KNOTS[0], KNOTS[0]),
        last if last == KNOTS.len() => (KNOTS[last - 1], KNOTS[last - 1]),
        inner => (KNOTS[inner - 1], KNOTS[inner]),
    };
    let along = if b.0 > a.0 {
        (score - a.0) / (b.0 - a.0)
    } else {
        0.0
    };
    let log_odds = a.1 + along.clamp(0.0, 1.0) * (b.1 - a.1);
    Ratio::saturating(1.0 / (1.0 + (-log_odds).exp()))
}

/// Score and log-odds of failure.
const KNOTS: [(f64, f64); 13] = [
    (0.0, -6.7),
    (0.6, -6.2),
    (1.1, -4.8),
    (2.1, -3.8),
    (3.1, -2.9),
    (3.6, -1.7),
    (4.1, -0.8),
    (4.6, 0.2),
    (5.1, 0.7),
    (5.6, 1.4),
    (6.1, 2.5),
    (6.6, 3.8),
    (7.4, 5.5),
];

const BUSY_LIMIT: f64 = 1.3; // with one path metric at its limit still no alarm
const STARVED_LIMIT: f64 = 3.5;
const FAST_RISE: f64 = 0.5; // of a share
const LOOK_AHEAD: f64 = 6.0; // s; further on a straight line is a guess
const MAX_LEAD: f64 = 3600.0;
