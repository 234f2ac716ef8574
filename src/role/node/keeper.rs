//! What a node does beside its packets: it measures itself, obeys the controller or its own
//! judgement, and reports.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vpnmesh_control::{AgentReport, ControllerOrder, Handover, Link, SessionCounts};
use vpnmesh_core::{
    Event as MeshEvent, HealthReport, NodeHealth, NodeId, NodeSample, NodeState, OrderKind, Ratio,
    Timestamp, Verdict, Version,
};
use vpnmesh_keys::{SignedOrder, VerifyingKey};
use vpnmesh_predict::{HostHealth, ProcessHealth};
use vpnmesh_transport::DropReason;
use vpnmesh_transport::io::IoCounters;
use vpnmesh_transport::node::{NodeCommand, NodeEvent, NodeReport, PeerId};

use super::uplink::{News, Uplink};
use super::warden::{self, Order, Warden};
use super::{Event, Node, Report};
use crate::role::keeper::{Desk, Duty, next_after};
use crate::settings::CpuSource;

/// The duty of a node.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) me: NodeId,
    pub(super) every: Duration,
    pub(super) due: Timestamp,
    pub(super) meter: Meter,
    pub(super) warden: Warden,
    pub(super) uplink: Option<Uplink>,
    pub(super) link_up: bool,
    pub(super) root: VerifyingKey,
    pub(super) obeyed: Version,
    /// What the controller wants warmed for this node, until it is.
    pub(super) warming: Option<NodeId>,
    /// Where this node's sessions go, and how many there were once that was known.
    pub(super) leaving: Option<(NodeId, Option<usize>)>,
    pub(super) silent: BTreeSet<NodeId>, // nodes of the membership only
}

/// Measures the node by the settings' choice of processor time.
#[derive(Debug)]
pub(super) enum Meter {
    Host(Box<HostHealth>, Traffic),
    Process(Box<ProcessHealth>, Traffic),
}

/// Counters at the last sample.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    forwarded: u64,
    dropped: u64,
}

impl Meter {
    pub(super) fn new(source: CpuSource) -> Self {
        match source {
            CpuSource::Host => Self::Host(Box::default(), Traffic::default()),
            CpuSource::Process => Self::Process(Box::default(), Traffic::default()),
        }
    }

    fn sample(&mut self, report: &NodeReport, io: &IoCounters, now: Timestamp) -> NodeSample {
        let paths = warden::paths(report);
        match self {
            Self::Host(health, traffic) => {
                health.push_paths(paths);
                health.push_forwarding_drops(traffic.drops_until(report, io));
                health.sample(now)
            }
            Self::Process(health, traffic) => {
                health.push_paths(paths);
                health.push_forwarding_drops(traffic.drops_until(report, io));
                health.sample(now)
            }
        }
    }
}

impl Traffic {
    /// The share of packets that could have been forwarded but were dropped since the last call.
    fn drops_until(&mut self, report: &NodeReport, io: &IoCounters) -> Ratio {
        let queues = report
            .drops
            .get(&DropReason::QueueFull)
            .copied()
            .unwrap_or(0);
        let dropped = queues + io.tx_dropped_queue_full + io.tx_dropped_no_buffers;
        let lost = dropped.saturating_sub(self.dropped);
        let moved = report.forwarded.saturating_sub(self.forwarded);
        *self = Self {
            forwarded: report.forwarded,
            dropped,
        };
        Ratio::of(lost, lost + moved)
    }
}

impl Duty<Node> for Keeper {
    fn handle_event(&mut self, event: NodeEvent, at: Timestamp, desk: &mut Desk<Node>) {
        match &event {
            NodeEvent::Report(machine) => return self.handle_report(machine, at, desk),
            NodeEvent::Membership(signed) => {
                if let Err(error) = desk.keep(signed) {
                    desk.emit(Event::Trouble(error.to_string()), at);
                }
                let membership = desk.membership();
                self.silent.retain(|node| membership.node(*node).is_some());
            }
            NodeEvent::IncarnationSeen(seen) => self.begin_again(*seen, at, desk),
            NodeEvent::PeerSilent(PeerId::Node(node)) => {
                self.silent.insert(*node);
            }
            NodeEvent::PeerConnected(PeerId::Node(node)) => {
                self.silent.remove(node);
            }
            NodeEvent::PeerHealth {
                from,
                load,
                risk,
                losses,
            } => {
                self.warden
                    .handle_peer_health(*from, (*load, *risk), losses, at);
            }
            NodeEvent::SessionTaken { .. }
            | NodeEvent::SessionLeft { .. }
            | NodeEvent::ShadowsReady { .. }
            | NodeEvent::ShiftFailed { .. }
            | NodeEvent::Exported { .. }
            | NodeEvent::PeerSilent(PeerId::Site(_))
            | NodeEvent::PeerConnected(PeerId::Site(_)) => {}
        }
        desk.emit(Event::Machine(event), at);
    }

    fn handle_timeout(&mut self, now: Timestamp, desk: &mut Desk<Node>) {
        self.due = next_after(self.due, self.every, now);
        desk.ask(NodeCommand::Report);
    }

    fn handle_wake(&mut self, now: Timestamp, desk: &mut Desk<Node>) {
        while let Some(news) = self.uplink.as_ref().and_then(Uplink::poll) {
            match news {
                News::Link(link) => self.handle_link(link, now, desk),
                News::Order(order) => self.handle_order(&order, now, desk),
            }
        }
    }

    fn poll_timeout(&self) -> Timestamp {
        self.due
    }
}

impl Keeper {
    /// The machine's figures: what every sample begins with.
    fn handle_report(&mut self, machine: &NodeReport, at: Timestamp, desk: &mut Desk<Node>) {
        let io = desk.commands.counters();
        let sample = self.meter.sample(machine, &io, at);
        let membership = desk.membership().clone();
        self.warden
            .handle_sample(&sample, machine, &membership, self.link_up, at);
        while let Some(Order { to, share }) = self.warden.poll_order() {
            desk.ask(NodeCommand::SetShare { to, share });
        }
        while let Some(record) = self.warden.poll_record() {
            desk.emit(Event::Own(record), at);
        }
        let (load, risk) = (sample.cpu.unwrap_or_default(), self.warden.risk());
        desk.ask(NodeCommand::SetHealth { load, risk });
        if self.link_up {
            self.report_up(machine, &sample, desk);
        }
        let report = Report {
            machine: machine.clone(),
            io,
            forecast: self.warden.forecast().cloned(),
            handover: self.warden.state(),
            controller: self.link_up,
            sample,
        };
        desk.publish(report, at);
    }

    /// Tells the controller how this node is, what it sees of others, and how its orders fare.
    fn report_up(&mut self, machine: &NodeReport, sample: &NodeSample, desk: &Desk<Node>) {
        let Some(uplink) = &self.uplink else { return };
        let tell = |report| uplink.reporter.report(report);
        tell(AgentReport::Sample(sample.clone()));
        let seen: BTreeMap<NodeId, _> = sample.paths.iter().map(|path| (path.peer, path)).collect();
        let own = |about, verdict, risk, path| HealthReport {
            from: self.me,
            about,
            verdict,
            risk,
            path,
            own_delay: machine.lateness,
        };
        let risk = self.warden.forecast().map(|forecast| forecast.probability);
        tell(AgentReport::Health(own(self.me, Verdict::Well, risk, None)));
        for node in &desk.membership().nodes {
            if node.id == self.me || node.state == NodeState::Removed {
                continue;
            }
            let path = seen.get(&node.id).map(|path| **path);
            let verdict = match path {
                Some(path) => warden::verdict(path.loss.unwrap_or_default()),
                None if self.silent.contains(&node.id) => Verdict::Silent,
                None => continue, // never heard of: nothing to say
            };
            tell(AgentReport::Health(own(node.id, verdict, None, path)));
        }
        tell(AgentReport::Sessions(SessionCounts {
            held: machine.sessions as u64,
            shadowed: machine.shadowed as u64,
            staleness: machine.staleness,
        }));
        self.report_progress(machine);
    }

    fn report_progress(&mut self, machine: &NodeReport) {
        let Some(uplink) = &self.uplink else { return };
        let node = self.me;
        if let Some(standby) = self.warming
            && warden::is_ready(machine, standby)
        {
            self.warming = None;
            let ready = MeshEvent::StandbyReady { node, standby };
            uplink.reporter.report(AgentReport::Event(ready));
        }
        if let Some((to, at_first)) = &mut self.leaving {
            let (to, at_first) = (*to, *at_first.get_or_insert(machine.sessions));
            uplink.reporter.report(AgentReport::Handover(Handover {
                to,
                moved: at_first.saturating_sub(machine.sessions) as u64,
                remaining: machine.sessions as u64,
            }));
            if machine.sessions == 0 {
                let drained = MeshEvent::NodeDrained { node };
                uplink.reporter.report(AgentReport::Event(drained));
            }
        }
    }

    fn handle_link(&mut self, link: Link, now: Timestamp, desk: &mut Desk<Node>) {
        let up = link.is_up();
        if let Link::Refused {
            seen_incarnation: Some(seen),
            ..
        } = &link
        {
            self.begin_again(*seen, now, desk);
        }
        if up != self.link_up {
            self.link_up = up;
            self.warming = None;
            self.leaving = None;
        }
        desk.emit(Event::Controller(link), now);
    }

    fn handle_order(&mut self, order: &ControllerOrder, now: Timestamp, desk: &mut Desk<Node>) {
        match order {
            ControllerOrder::Membership { signed, .. } => {
                desk.ask(NodeCommand::Membership(signed.clone()));
            }
            ControllerOrder::Signed { signed, .. } => self.handle_signed(signed, now, desk),
            ControllerOrder::Warm { node, standby, .. } if *node == self.me => {
                self.warming = Some(*standby);
            }
            ControllerOrder::Release { node, .. } if *node == self.me => self.warming = None,
            ControllerOrder::Warm { .. } | ControllerOrder::Release { .. } => {}
            ControllerOrder::SetShare {
                node, to, share, ..
            } if *node == self.me => {
                self.warden.handle_overruled();
                let at_first = self.leaving.and_then(|(_, sessions)| sessions);
                self.leaving = (*share > Ratio::ZERO).then_some((*to, at_first));
                desk.ask(NodeCommand::SetShare {
                    to: Some(*to),
                    share: *share,
                });
            }
            ControllerOrder::SetShare { .. } => {}
        }
        desk.emit(Event::Ordered(order.clone()), now);
    }

    /// An order under the root's signature. Shares come with their own orders, so that only the end
    /// of a drain is acted upon here.
    fn handle_signed(&mut self, signed: &[u8], now: Timestamp, desk: &mut Desk<Node>) {
        let verified = SignedOrder::from_bytes(signed)
            .and_then(|signed| signed.verify_newer(&self.root, self.obeyed));
        let order = match verified {
            Ok(order) => order,
            Err(error) => return desk.emit(Event::Trouble(error.to_string()), now),
        };
        self.obeyed = order.version;
        if order.node == self.me && order.kind == OrderKind::Restore {
            self.warden.handle_overruled();
            self.leaving = None;
            let share = Ratio::ZERO;
            desk.ask(NodeCommand::SetShare { to: None, share });
        }
    }

    /// Peers or the controller have seen a later life: the disk was rolled back.
    fn begin_again(&mut self, seen: u64, now: Timestamp, desk: &mut Desk<Node>) {
        match desk.begin_again(seen) {
            Ok(incarnation) => {
                if let Some(uplink) = &self.uplink {
                    uplink.restart_as(incarnation);
                }
                desk.ask(NodeCommand::Resumed { incarnation });
            }
            Err(error) => desk.emit(Event::Trouble(error.to_string()), now),
        }
    }
}
