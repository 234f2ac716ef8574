//! What the engine knows about one node.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{
    Failover, FailoverState, Forecast, HealthReport, Metric, NodeId, NodeSample, Place, Ratio,
    Refusal, Region, Timestamp,
};

/// One node as the engine sees it.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Where it stands.
    pub region: Region,
    /// Where its traffic stands.
    pub state: FailoverState,
    /// The last forecast.
    pub forecast: Option<Forecast>,
    /// Whether it is at risk or dead.
    pub sick: bool,
    /// Whether an operator holds it.
    pub held: bool,
    /// Why nothing is done, though there is a reason.
    pub declined: Option<Refusal>,
    /// When it was last heard of, on the engine's clock.
    pub heard_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) failover: Failover,
    pub(super) heard_at: Option<Timestamp>,
    pub(super) sick: bool,
    pub(super) load: Ratio,
    forecast: Option<Forecast>,
    own_word: Option<(Ratio, Timestamp)>, // its own forecast, and until when it counts
    well_since: Option<Timestamp>,        // while it is removed and lives on
    rtts: BTreeMap<NodeId, Duration>,     // at most NodeSample::MAX_PATHS
}

impl Watched {
    pub(super) const fn new(failover: Failover) -> Self {
        Self {
            failover,
            heard_at: None,
            sick: false,
            load: Ratio::ZERO,
            forecast: None,
            own_word: None,
            well_since: None,
            rtts: BTreeMap::new(),
        }
    }

    pub(super) fn handle_sample(&mut self, sample: &NodeSample, now: Timestamp) {
        self.heard_at = Some(now);
        let load = sample.metric(Metric::Cpu).or(sample.metric(Metric::Load));
        self.load = load.map_or(self.load, Ratio::saturating);
        let paths = sample.paths.iter().take(NodeSample::MAX_PATHS);
        let measured = paths.filter_map(|path| Some((path.peer, path.rtt?)));
        self.rtts = measured.collect();
    }

    /// This node said something.
    pub(super) fn handle_report(
        &mut self,
        report: &HealthReport,
        now: Timestamp,
        memory: Duration,
    ) {
        self.heard_at = Some(now);
        if let (true, Some(risk)) = (report.from == report.about, report.risk) {
            self.own_word = Some((risk, now + memory));
        }
    }

    pub(super) fn handle_forecast(&mut self, forecast: &Forecast) {
        let policy = self.failover.policy();
        if forecast.probability >= policy.threshold {
            self.sick = true;
        } else if forecast.probability < policy.recede {
            self.sick = false;
        }
        self.forecast = Some(forecast.clone());
    }

    /// Nobody says any longer that it is dead.
    pub(super) fn handle_alive(&mut self) {
        self.failover.handle_alive();
        self.sick &= self.forecast.is_some();
    }

    pub(super) fn handle_join(&mut self, now: Timestamp) {
        let failover = self.failover.clone();
        *self = Self {
            heard_at: Some(now),
            ..Self::new(failover)
        };
    }

    /// Whether it was removed as dead, but was heard and well for the whole dwell.
    pub(super) fn has_recovered(
        &mut self,
        accused: bool,
        silence: Duration,
        now: Timestamp,
    ) -> bool {
        let heard = self.heard_at.is_some_and(|at| now.since(at) <= silence);
        let well = heard && !accused && !self.sick;
        if !self.is_removed() || !self.failover.may_live_on() || !well {
            self.well_since = None;
            return false;
        }
        let since = *self.well_since.get_or_insert(now);
        let recovered = now.since(since) >= self.failover.policy().dwell;
        if recovered {
            self.well_since = None;
        }
        recovered
    }

    /// The engine did not run: the node's silence counts from now.
    pub(super) fn excuse(&mut self, now: Timestamp) {
        self.heard_at = self.heard_at.map(|_| now);
    }

    /// What the node says about itself, as long as that is fresh.
    pub(super) fn own_word(&self, now: Timestamp) -> Option<Forecast> {
        let (probability, until) = self.own_word?;
        (now < until).then(|| Forecast {
            probability,
            horizon: self.horizon(),
            lead: None,
            evidence: Vec::new(),
            confidence: Ratio::ONE,
        })
    }

    pub(super) const fn horizon(&self) -> Duration {
        self.failover.policy().horizon
    }

    pub(super) fn rtt_to(&self, other: NodeId) -> Option<Duration> {
        self.rtts.get(&other).copied()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.failover.state() == FailoverState::Removed
    }

    /// Whether it may get the traffic of another node: healthy, heard of lately, not moving itself.
    pub(super) fn can_take_over(&self, now: Timestamp, silence: Duration) -> bool {
        let heard = self.heard_at.is_some_and(|at| now.since(at) <= silence);
        heard
            && !self.sick
            && self.failover.state() == FailoverState::Healthy
            && !self.failover.is_busy()
    }

    pub(super) fn status(&self, place: &Place) -> NodeStatus {
        NodeStatus {
            node: self.failover.node(),
            region: place.region.clone(),
            state: self.failover.state(),
            forecast: self.forecast.clone(),
            sick: self.sick,
            held: self.failover.is_held(),
            declined: self.failover.declined(),
            heard_at: self.heard_at,
        }
    }
}
