//! The node's judgement of itself: sample → forecast → its own handover.
//!
//! Sans-I/O. While a controller listens it only watches, and finishes what it began before; else it
//! moves its sessions itself, by the same [`Failover`] machine that the controller has. What one of
//! its shadows alone finds wrong with it concerns the two of them, not the mesh: it leaves softly by
//! itself then, with a controller or without, and no controller removes it for that.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_core::{
    ActionKind, Budget, BudgetPolicy, Failover, FailoverPolicy, FailoverState, FailurePredictor,
    Forecast, HealthReport, Membership, NodeId, NodeSample, NodeState, PathSample, Permit, Ratio,
    Record, Region, ShadowCandidate, ShadowPolicy, Timestamp, Verdict, WitnessPolicy, Witnesses,
    rank_candidates,
};
use vpnmesh_transport::node::{NodeReport, PeerId};

/// What the node shall do with its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) to: Option<NodeId>,
    pub(super) share: Ratio,
}

/// Watches over one node: its own.
#[derive(Debug)]
pub(super) struct Warden {
    me: NodeId,
    policy: FailoverPolicy,
    predictor: Box<dyn FailurePredictor>,
    failover: Failover,
    budget: Budget,
    witnesses: Witnesses,
    peers: BTreeMap<NodeId, Peer>, // nodes of the membership only
    forecast: Option<Forecast>,
    lone: Option<Forecast>, // made of what one shadow alone reports
    well_since: Option<Timestamp>,
    orders: Vec<Order>, // drained after every call
}

/// What is known of another node.
#[derive(Debug, Clone, Copy, Default)]
struct Peer {
    load: Ratio,
    risk: Ratio,
    heard: Option<Timestamp>,
}

impl Warden {
    pub(super) fn new(
        me: NodeId,
        policy: FailoverPolicy,
        predictor: Box<dyn FailurePredictor>,
    ) -> Self {
        Self {
            me,
            policy,
            predictor,
            failover: Failover::new(me, policy),
            budget: Budget::new(BudgetPolicy::default()),
            witnesses: Witnesses::new(WitnessPolicy::default()),
            peers: BTreeMap::new(),
            forecast: None,
            lone: None,
            well_since: None,
            orders: Vec::new(),
        }
    }

    /// The newest forecast, with what others report counted in.
    pub(super) const fn forecast(&self) -> Option<&Forecast> {
        self.forecast.as_ref()
    }

    pub(super) const fn state(&self) -> FailoverState {
        self.failover.state()
    }

    /// Another node says how it is, and what it sees of the nodes of the membership.
    pub(super) fn handle_peer_health(
        &mut self,
        from: NodeId,
        (load, risk): (Ratio, Ratio),
        losses: &[(NodeId, Ratio)],
        now: Timestamp,
    ) {
        let heard = Some(now);
        self.peers.insert(from, Peer { load, risk, heard });
        for (about, loss) in losses {
            let report = HealthReport {
                from,
                about: *about,
                verdict: verdict(*loss),
                risk: None,
                path: None,
                own_delay: Duration::ZERO,
            };
            self.witnesses.handle_report(&report, now);
        }
    }

    /// A period ended: what the node measured, and what its machine says.
    ///
    /// `led`: a controller listens and decides.
    pub(super) fn handle_sample(
        &mut self,
        sample: &NodeSample,
        report: &NodeReport,
        membership: &Membership,
        led: bool,
        now: Timestamp,
    ) {
        self.forget_strangers(membership);
        self.predictor.observe(self.me, sample, now);
        let own = self.predictor.forecast(self.me, self.policy.horizon, now);
        let told = self.witnesses.trouble(self.me, self.policy.horizon, now);
        self.forecast = worse(own, told);
        self.lone = self.lone_trouble(report, now);
        let permit = self.permit(led, now);
        let candidates = self.candidates(report, membership, now);
        let moving = self.failover.state().is_moving();
        self.failover.handle_surroundings(&candidates, permit, now);
        if let Some(forecast) = worse(self.forecast.clone(), self.lone.clone()) {
            self.failover.handle_forecast(&forecast, now);
        }
        if !moving && self.failover.state().is_moving() {
            self.budget.handle_begin(now);
        }
        self.note_progress(report, now);
        self.failover.handle_timeout(now);
        self.drain();
        self.come_back(now);
    }

    /// The controller decided about this node: what the node began itself is over.
    pub(super) fn handle_overruled(&mut self) {
        self.failover = Failover::new(self.me, self.policy);
        self.well_since = None;
    }

    /// What shall happen to the sessions.
    pub(super) fn poll_order(&mut self) -> Option<Order> {
        (!self.orders.is_empty()).then(|| self.orders.remove(0))
    }

    /// What was decided and why.
    pub(super) fn poll_record(&mut self) -> Option<Record> {
        self.failover.poll_record()
    }

    /// The risk that the node fails soon; nothing while too little is known.
    pub(super) fn risk(&self) -> Ratio {
        self.forecast
            .as_ref()
            .map_or(Ratio::ZERO, |forecast| forecast.probability)
    }

    fn forget_strangers(&mut self, membership: &Membership) {
        let gone = |node: &NodeId| membership.node(*node).is_none();
        for node in self.peers.keys().filter(|node| gone(node)) {
            self.witnesses.forget(*node);
        }
        self.peers.retain(|node, _| !gone(node));
    }

    /// What one of our shadows alone reports, if it lasts and others vouch for that shadow.
    fn lone_trouble(&self, report: &NodeReport, now: Timestamp) -> Option<Forecast> {
        let horizon = self.policy.horizon;
        let mut shadows = report.shadows.iter();
        shadows.find_map(|shadow| self.witnesses.lone_trouble(self.me, *shadow, horizon, now))
    }

    /// Whether a handover may begin here: the controller decides about the node's own sickness.
    fn permit(&self, led: bool, now: Timestamp) -> Permit {
        let sick = self.risk() >= self.policy.threshold;
        let ours = !led || (self.lone.is_some() && !sick);
        if ours && self.budget.allows(0, now) {
            Permit::Free
        } else {
            Permit::Spent
        }
    }

    /// A standby is ready once every session has its shadows; the node is empty without sessions.
    fn note_progress(&mut self, report: &NodeReport, now: Timestamp) {
        if let FailoverState::Warming { standby } = self.failover.state()
            && is_ready(report, standby)
        {
            self.failover.handle_standby_ready(standby, now);
        }
        if report.sessions == 0 {
            self.failover.handle_drained(now);
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.failover.poll_action() {
            match action.kind {
                ActionKind::SetShare { to, share, .. } => {
                    let to = Some(to);
                    self.orders.push(Order { to, share });
                }
                ActionKind::WarmStandby { .. } // shadows are warm; `note_progress` checks it
                | ActionKind::ReleaseStandby { .. }
                | ActionKind::RemoveNode { .. } // a node alone changes no membership
                | ActionKind::RestoreNode { .. }
                | ActionKind::Freeze { .. }
                | ActionKind::Thaw => {}
            }
        }
    }

    /// An emptied node that has been well for long takes sessions again. None returns by itself.
    fn come_back(&mut self, now: Timestamp) {
        let well = self.risk() < self.policy.recede && self.lone.is_none();
        if !well || self.failover.state() != FailoverState::Removed {
            self.well_since = None;
            return;
        }
        let since = *self.well_since.get_or_insert(now);
        if now.since(since) >= self.policy.dwell {
            self.handle_overruled();
            let share = Ratio::ZERO;
            self.orders.push(Order { to: None, share });
        }
    }

    /// Who could take over, best first: shadows before those that would have to become one, and
    /// nobody to whom our own path is bad before anybody else.
    fn candidates(
        &self,
        report: &NodeReport,
        membership: &Membership,
        now: Timestamp,
    ) -> Vec<NodeId> {
        let home = membership.node(self.me).map(|node| node.region.clone());
        let home = home.unwrap_or_else(|| Region(String::new()));
        let connected = report.paths.iter().filter_map(|(peer, path)| match peer {
            PeerId::Node(node) => Some((*node, path)),
            PeerId::Site(_) => None,
        });
        let candidate = |(node, path): (NodeId, &vpnmesh_transport::path::PathFigures)| {
            let entry = membership.node(node)?;
            let usable = matches!(entry.state, NodeState::Active | NodeState::Standby);
            let peer = self.peers.get(&node).copied().unwrap_or_default();
            let fresh = peer.heard.is_some_and(|at| now.since(at) < FRESH);
            Some(ShadowCandidate {
                node,
                region: entry.region.clone(),
                load: peer.load,
                rtt_to_client: path.rtt,
                healthy: usable && fresh && peer.risk < self.policy.recede,
            })
        };
        let all: Vec<ShadowCandidate> = connected.filter_map(candidate).collect();
        let mut ranked = rank_candidates(&all, self.me, &home, &ShadowPolicy::default());
        ranked.sort_by_key(|node| (is_troubled(report, *node), !report.shadows.contains(node)));
        ranked
    }
}

/// Whether `standby` could take over now: it is there, and every session has its shadows.
pub(super) fn is_ready(report: &NodeReport, standby: NodeId) -> bool {
    let there = report
        .paths
        .iter()
        .any(|(peer, _)| *peer == PeerId::Node(standby));
    there && report.covered >= report.sessions
}

fn is_troubled(report: &NodeReport, node: NodeId) -> bool {
    let mut paths = report.paths.iter();
    let path = paths.find(|(peer, _)| *peer == PeerId::Node(node));
    path.is_some_and(|(_, path)| verdict(Ratio::saturating(path.loss)) == Verdict::Troubled)
}

/// Paths to nodes as the predictor wants them.
pub(super) fn paths(report: &NodeReport) -> Vec<PathSample> {
    let nodes = report.paths.iter().filter_map(|(peer, path)| match peer {
        PeerId::Node(node) => Some(PathSample {
            peer: *node,
            rtt: path.rtt,
            jitter: path.rtt.map(|_| path.deviation),
            loss: path.rtt.map(|_| Ratio::saturating(path.loss)),
            packets: PROBES_BEHIND_LOSS,
        }),
        PeerId::Site(_) => None,
    });
    nodes.collect()
}

/// How a path with this loss looks.
pub(super) fn verdict(loss: Ratio) -> Verdict {
    if loss >= Ratio::saturating(TROUBLE) {
        Verdict::Troubled
    } else {
        Verdict::Well
    }
}

fn worse(a: Option<Forecast>, b: Option<Forecast>) -> Option<Forecast> {
    match (a, b) {
        (Some(a), Some(b)) if b.probability > a.probability => Some(b),
        (Some(a), _) => Some(a),
        (None, b) => b,
    }
}

/// Loss at which a path is in trouble. Taste: TCP over it is a tenth of what it could be.
const TROUBLE: f64 = 0.1;
/// Three periods of health reports between nodes.
const FRESH: Duration = Duration::from_millis(1500);
/// The transport's loss is over its last 64 probes.
const PROBES_BEHIND_LOSS: u32 = 64;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap as Map, BTreeSet as Set};

    use vpnmesh_core::{NodeEntry, PublicKey, Version};
    use vpnmesh_transport::path::PathFigures;

    use super::*;

    /// Forecasts what it is told.
    #[derive(Debug)]
    struct Oracle;

    impl FailurePredictor for Oracle {
        fn observe(&mut self, _: NodeId, _: &NodeSample, _: Timestamp) {}

        fn forecast(&self, _: NodeId, horizon: Duration, now: Timestamp) -> Option<Forecast> {
            let sick = now >= SICK_AT && now < WELL_AT;
            Some(Forecast {
                probability: if sick {
                    Ratio::saturating(0.9)
                } else {
                    Ratio::ZERO
                },
                horizon,
                lead: None,
                evidence: Vec::new(),
                confidence: Ratio::ONE,
            })
        }
    }

    const SICK_AT: Timestamp = Timestamp(1_000_000_000);
    const WELL_AT: Timestamp = Timestamp(20_000_000_000);
    const ME: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    fn membership() -> Membership {
        let node = |id: NodeId| NodeEntry {
            id,
            name: id.to_string(),
            region: Region(format!("r{}", id.0)),
            key: PublicKey([id.0 as u8; 32]),
            addresses: Vec::new(),
            state: NodeState::Active,
        };
        Membership {
            version: Version::default(),
            nodes: vec![node(ME), node(OTHER)],
            ..Membership::default()
        }
    }

    fn report(sessions: usize) -> NodeReport {
        let path = PathFigures {
            rtt: Some(Duration::from_millis(10)),
            deviation: Duration::ZERO,
            lowest: None,
            loss: 0.0,
            last_heard: None,
        };
        NodeReport {
            sessions,
            covered: sessions,
            shadows: Set::new(),
            shadowed: 0,
            staleness: Duration::ZERO,
            paths: vec![(PeerId::Node(OTHER), path)],
            forwarded: 0,
            forwarded_bytes: 0,
            membership: Version::default(),
            drops: Map::new(),
            lateness: Duration::ZERO,
        }
    }

    /// The shares ordered from second `from` to `until`, five samples a second.
    fn run(warden: &mut Warden, led: bool, from: u64, until: u64) -> Vec<f64> {
        let mut shares = Vec::new();
        for tick in from * 5..until * 5 {
            let now = Timestamp(tick * 200_000_000);
            warden.handle_peer_health(OTHER, (Ratio::ZERO, Ratio::ZERO), &[], now);
            let sessions = usize::from(shares.last() != Some(&1.0));
            let sample = NodeSample::default();
            warden.handle_sample(&sample, &report(sessions), &membership(), led, now);
            while let Some(order) = warden.poll_order() {
                shares.push(order.share.get());
            }
        }
        shares
    }

    fn warden() -> Warden {
        Warden::new(ME, FailoverPolicy::default(), Box::new(Oracle))
    }

    #[test]
    fn alone_it_moves_everything_step_by_step_and_comes_back_once_well() {
        let mut warden = warden();
        assert_eq!(run(&mut warden, false, 0, 12), [0.1, 0.4, 0.7, 1.0]);
        assert_eq!(warden.state(), FailoverState::Removed);
        assert!(
            run(&mut warden, false, 12, 29).is_empty(),
            "not before it was well for long"
        );
        assert_eq!(run(&mut warden, false, 29, 32), [0.0]);
    }

    #[test]
    fn led_it_begins_nothing_and_without_the_controller_it_starts_at_once() {
        let mut warden = warden();
        assert!(run(&mut warden, true, 0, 5).is_empty());
        assert_eq!(run(&mut warden, false, 5, 6), [0.1]);
        assert_eq!(
            run(&mut warden, true, 6, 9),
            [0.4, 0.7, 1.0],
            "it finishes what it began"
        );
    }

    #[test]
    fn two_peers_that_lose_our_packets_for_long_start_a_handover() {
        let mut warden = warden();
        let losses = [(ME, Ratio::saturating(0.5))];
        for tick in 0..4 {
            let now = Timestamp(tick * 1_000_000_000);
            for from in [OTHER, NodeId(3)] {
                warden.handle_peer_health(from, (Ratio::ZERO, Ratio::ZERO), &losses, now);
            }
        }
        let now = Timestamp(3_000_000_000);
        let trouble = warden.witnesses.trouble(ME, Duration::from_secs(9), now);
        assert_eq!(
            trouble.map(|forecast| forecast.probability),
            Some(Ratio::ONE)
        );
    }

    /// A mesh of three in which our shadow [`OTHER`] loses our packets; the shares that are ordered
    /// in the second `from` to `until`, and whether it stays that way.
    fn with_a_lone_voice(
        warden: &mut Warden,
        (led, lossy): (bool, bool),
        (from, until): (u64, u64),
    ) -> Vec<(Option<NodeId>, f64)> {
        const THIRD: NodeId = NodeId(3);
        let mut membership = membership();
        let third = NodeEntry {
            id: THIRD,
            key: PublicKey([3; 32]),
            ..membership.nodes[1].clone()
        };
        membership.nodes.push(third);
        let loss = Ratio::saturating(if lossy { 0.4 } else { 0.0 });
        let mut orders: Vec<(Option<NodeId>, f64)> = Vec::new();
        for tick in from * 5..until * 5 {
            let now = Timestamp(tick * 200_000_000);
            let well = (Ratio::ZERO, Ratio::ZERO);
            warden.handle_peer_health(OTHER, well, &[(ME, loss), (THIRD, Ratio::ZERO)], now);
            let fine = [(ME, Ratio::ZERO), (OTHER, Ratio::ZERO)];
            warden.handle_peer_health(THIRD, well, &fine, now);
            let gone = orders.last().is_some_and(|(_, share)| *share == 1.0);
            let mut report = report(usize::from(!gone));
            report.shadows = [OTHER, THIRD].into();
            report.paths[0].1.loss = loss.get();
            let path = report.paths[0].1;
            report
                .paths
                .push((PeerId::Node(THIRD), PathFigures { loss: 0.0, ..path }));
            let sample = NodeSample::default();
            warden.handle_sample(&sample, &report, &membership, led, now);
            while let Some(order) = warden.poll_order() {
                orders.push((order.to, order.share.get()));
            }
        }
        orders
    }

    /// As [`warden`], but it never expects to fail itself.
    fn calm_warden() -> Warden {
        #[derive(Debug)]
        struct Calm;
        impl FailurePredictor for Calm {
            fn observe(&mut self, _: NodeId, _: &NodeSample, _: Timestamp) {}
            fn forecast(&self, _: NodeId, _: Duration, _: Timestamp) -> Option<Forecast> {
                None
            }
        }
        Warden::new(ME, FailoverPolicy::default(), Box::new(Calm))
    }

    #[test]
    fn one_shadow_that_loses_our_packets_for_long_starts_a_handover_to_another_one() {
        for led in [false, true] {
            let mut warden = calm_warden();
            let early = with_a_lone_voice(&mut warden, (led, true), (0, 5));
            assert_eq!(early, [], "it may pass");
            let orders = with_a_lone_voice(&mut warden, (led, true), (5, 15));
            let third = Some(NodeId(3));
            let steps = [0.1, 0.4, 0.7, 1.0].map(|share| (third, share));
            assert_eq!(orders, steps, "led: {led}");
            assert_eq!(warden.risk(), Ratio::ZERO, "the node itself is not sick");
            let orders = with_a_lone_voice(&mut warden, (led, true), (15, 40));
            assert_eq!(orders, [], "not back as long as it lasts");
            let orders = with_a_lone_voice(&mut warden, (led, false), (40, 60));
            assert_eq!(orders, [(None, 0.0)], "back once, after the dwell");
        }
    }

    #[test]
    fn handovers_that_the_node_begins_itself_have_a_budget() {
        let mut warden = calm_warden();
        warden.budget = Budget::new(BudgetPolicy {
            per_window: 1,
            ..BudgetPolicy::default()
        });
        let mut flapping = |lossy, from, until| {
            with_a_lone_voice(&mut warden, (false, lossy), (from, until)).len()
        };
        assert_eq!(flapping(true, 0, 15), 4);
        assert_eq!(flapping(false, 15, 30), 1);
        assert_eq!(flapping(true, 30, 60), 0, "spent");
        assert_eq!(flapping(true, 60, 75), 4, "the window is over");
    }
}
