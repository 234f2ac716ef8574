//! Reports between the wire and our own types.

use std::time::Duration;

use vpnmesh_core::{
    Event, HealthReport, NodeId, NodeSample, PathSample, Ratio, StandbyFailure, Verdict, Version,
};

use super::convert::{malformed, nanos, pair_in, pair_out, ratio, some, version_in, version_out};
use super::wire;
use crate::{AgentReport, Error, Handover, Hello, SessionCounts};

/// A report of `from`, as far as it can be meant.
pub(crate) fn report_in(from: NodeId, report: wire::AgentReport) -> Result<AgentReport, Error> {
    use wire::agent_report::Report;
    Ok(match some(report.report, "report")? {
        Report::Hello(_) => return Err(malformed("a second hello")),
        Report::Sample(sample) => AgentReport::Sample(sample_in(sample)?),
        Report::Health(health) => AgentReport::Health(health_in(from, health)?),
        Report::Sessions(counts) => AgentReport::Sessions(SessionCounts {
            held: counts.held,
            shadowed: counts.shadowed,
            staleness: Duration::from_nanos(counts.staleness_ns),
        }),
        Report::Event(event) => AgentReport::Event(event_in(from, event)?),
        Report::Handover(handover) => AgentReport::Handover(Handover {
            to: NodeId(handover.to),
            moved: handover.moved,
            remaining: handover.remaining,
        }),
    })
}

/// The first report of a session.
pub(crate) fn hello_in(report: wire::AgentReport) -> Result<Hello, Error> {
    let Some(wire::agent_report::Report::Hello(hello)) = report.report else {
        return Err(malformed("hello"));
    };
    if hello.software.len() > MAX_SOFTWARE {
        return Err(malformed("hello.software"));
    }
    Ok(Hello {
        name: hello.name,
        incarnation: hello.incarnation,
        random: hello
            .random
            .as_slice()
            .try_into()
            .map_err(|_| malformed("hello.random"))?,
        seen: hello.seen.map_or_else(Version::default, version_in),
        software: hello.software,
    })
}

/// The first report as it travels.
pub(crate) fn hello_out(hello: &Hello) -> wire::AgentReport {
    let hello = wire::Hello {
        name: hello.name.clone(),
        incarnation: hello.incarnation,
        random: hello.random.to_vec(),
        seen: Some(version_out(hello.seen)),
        software: hello.software.clone(),
    };
    wire::AgentReport {
        report: Some(wire::agent_report::Report::Hello(hello)),
    }
}

/// A report as it travels; `None` for events that are none of an agent's business.
pub(crate) fn report_out(report: AgentReport) -> Option<wire::AgentReport> {
    use wire::agent_report::Report;
    let report = match report {
        AgentReport::Sample(sample) => Report::Sample(sample_out(&sample)),
        AgentReport::Health(health) => Report::Health(health_out(&health)),
        AgentReport::Sessions(counts) => Report::Sessions(wire::SessionCounts {
            held: counts.held,
            shadowed: counts.shadowed,
            staleness_ns: nanos(counts.staleness),
        }),
        AgentReport::Event(event) => Report::Event(event_out(event)?),
        AgentReport::Handover(handover) => Report::Handover(wire::Handover {
            to: handover.to.0,
            moved: handover.moved,
            remaining: handover.remaining,
        }),
    };
    Some(wire::AgentReport {
        report: Some(report),
    })
}

fn sample_in(sample: wire::NodeSample) -> Result<NodeSample, Error> {
    let share = |value: Option<f64>, field| value.map(|value| ratio(value, field)).transpose();
    let load = sample.load.filter(|load| load.is_finite() && *load >= 0.0);
    let paths = sample.paths.into_iter().take(NodeSample::MAX_PATHS);
    Ok(NodeSample {
        cpu: share(sample.cpu, "sample.cpu")?,
        memory: share(sample.memory, "sample.memory")?,
        load,
        cpu_stall: share(sample.cpu_stall, "sample.cpu_stall")?,
        memory_stall: share(sample.memory_stall, "sample.memory_stall")?,
        io_stall: share(sample.io_stall, "sample.io_stall")?,
        scheduling_delay: sample.scheduling_delay_ns.map(Duration::from_nanos),
        forwarding_drops: share(sample.forwarding_drops, "sample.forwarding_drops")?,
        paths: paths.map(path_in).collect::<Result<_, _>>()?,
    })
}

fn sample_out(sample: &NodeSample) -> wire::NodeSample {
    let share = |value: Option<Ratio>| value.map(Ratio::get);
    let paths = sample.paths.iter().take(NodeSample::MAX_PATHS);
    wire::NodeSample {
        cpu: share(sample.cpu),
        memory: share(sample.memory),
        load: sample.load,
        cpu_stall: share(sample.cpu_stall),
        memory_stall: share(sample.memory_stall),
        io_stall: share(sample.io_stall),
        scheduling_delay_ns: sample.scheduling_delay.map(nanos),
        forwarding_drops: share(sample.forwarding_drops),
        paths: paths.map(path_out).collect(),
    }
}

fn path_in(path: wire::PathSample) -> Result<PathSample, Error> {
    let loss = path.loss.map(|loss| ratio(loss, "path.loss")).transpose()?;
    Ok(PathSample {
        peer: NodeId(path.peer),
        rtt: path.rtt_ns.map(Duration::from_nanos),
        jitter: path.jitter_ns.map(Duration::from_nanos),
        loss,
        packets: path.packets,
    })
}

fn path_out(path: &PathSample) -> wire::PathSample {
    wire::PathSample {
        peer: path.peer.0,
        rtt_ns: path.rtt.map(nanos),
        jitter_ns: path.jitter.map(nanos),
        loss: path.loss.map(Ratio::get),
        packets: path.packets,
    }
}

fn health_in(from: NodeId, report: wire::HealthReport) -> Result<HealthReport, Error> {
    Ok(HealthReport {
        from,
        about: NodeId(report.about),
        verdict: match report.verdict() {
            wire::Verdict::Well => Verdict::Well,
            wire::Verdict::Troubled => Verdict::Troubled,
            wire::Verdict::Silent => Verdict::Silent,
            wire::Verdict::Unspecified => return Err(malformed("health.verdict")),
        },
        risk: report
            .risk
            .map(|risk| ratio(risk, "health.risk"))
            .transpose()?,
        path: report.path.map(path_in).transpose()?,
        own_delay: Duration::from_nanos(report.own_delay_ns),
    })
}

fn health_out(report: &HealthReport) -> wire::HealthReport {
    wire::HealthReport {
        about: report.about.0,
        verdict: match report.verdict {
            Verdict::Well => wire::Verdict::Well,
            Verdict::Troubled => wire::Verdict::Troubled,
            Verdict::Silent => wire::Verdict::Silent,
        }
        .into(),
        risk: report.risk.map(Ratio::get),
        path: report.path.as_ref().map(path_out),
        own_delay_ns: nanos(report.own_delay),
    }
}

/// A node speaks only of moves that it takes part in.
fn event_in(from: NodeId, event: wire::Event) -> Result<Event, Error> {
    use wire::event::Event as Wire;
    let own = |(node, standby): (NodeId, NodeId)| {
        let own = from == node || from == standby;
        own.then_some((node, standby))
            .ok_or(malformed("event of another node"))
    };
    Ok(match some(event.event, "event")? {
        Wire::StandbyReady(pair) => {
            let (node, standby) = own(pair_in(Some(pair))?)?;
            Event::StandbyReady { node, standby }
        }
        Wire::StandbyFailed(failed) => {
            let reason = match failed.reason() {
                wire::StandbyFailure::DidNotStart => StandbyFailure::DidNotStart,
                wire::StandbyFailure::DidNotSynchronise => StandbyFailure::DidNotSynchronise,
                wire::StandbyFailure::TimedOut => StandbyFailure::TimedOut,
                wire::StandbyFailure::FellSick => StandbyFailure::FellSick,
                wire::StandbyFailure::Unspecified => return Err(malformed("event.reason")),
            };
            let (node, standby) = own(pair_in(failed.pair)?)?;
            Event::StandbyFailed {
                node,
                standby,
                reason,
            }
        }
        Wire::Drained(wire::Empty {}) => Event::NodeDrained { node: from },
    })
}

fn event_out(event: Event) -> Option<wire::Event> {
    use wire::event::Event as Wire;
    let event = match event {
        Event::StandbyReady { node, standby } => Wire::StandbyReady(pair_out(node, standby)),
        Event::StandbyFailed {
            node,
            standby,
            reason,
        } => Wire::StandbyFailed(wire::Failed {
            pair: Some(pair_out(node, standby)),
            reason: match reason {
                StandbyFailure::DidNotStart => wire::StandbyFailure::DidNotStart,
                StandbyFailure::DidNotSynchronise => wire::StandbyFailure::DidNotSynchronise,
                StandbyFailure::TimedOut => wire::StandbyFailure::TimedOut,
                StandbyFailure::FellSick => wire::StandbyFailure::FellSick,
            }
            .into(),
        }),
        Event::NodeDrained { .. } => Wire::Drained(wire::Empty {}),
        Event::NodeJoined { .. } | Event::OwnDelay { .. } => return None,
    };
    Some(wire::Event { event: Some(event) })
}

const MAX_SOFTWARE: usize = 64; // taste

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back(report: AgentReport) {
        let travelled = report_out(report.clone()).unwrap();
        assert_eq!(report_in(NodeId(1), travelled).unwrap(), report);
    }

    #[test]
    fn reports_come_back_as_they_were() {
        let path = PathSample {
            peer: NodeId(2),
            rtt: Some(Duration::from_micros(1500)),
            jitter: None,
            loss: Ratio::new(0.25),
            packets: 9,
        };
        comes_back(AgentReport::Sample(NodeSample {
            cpu: Ratio::new(0.5),
            load: Some(1.5),
            scheduling_delay: Some(Duration::from_millis(3)),
            paths: vec![path],
            ..NodeSample::default()
        }));
        comes_back(AgentReport::Health(HealthReport {
            from: NodeId(1),
            about: NodeId(2),
            verdict: Verdict::Silent,
            risk: Ratio::new(0.75),
            path: Some(path),
            own_delay: Duration::from_millis(1),
        }));
        comes_back(AgentReport::Sessions(SessionCounts {
            held: 1,
            shadowed: 2,
            staleness: Duration::from_secs(4),
        }));
        comes_back(AgentReport::Event(Event::NodeDrained { node: NodeId(1) }));
        comes_back(AgentReport::Event(Event::StandbyFailed {
            node: NodeId(3),
            standby: NodeId(1),
            reason: StandbyFailure::TimedOut,
        }));
        comes_back(AgentReport::Handover(Handover {
            to: NodeId(2),
            moved: 1,
            remaining: 0,
        }));
    }

    #[test]
    fn nobody_speaks_for_others_and_nothing_is_out_of_range() {
        let foreign = AgentReport::Event(Event::StandbyReady {
            node: NodeId(2),
            standby: NodeId(3),
        });
        assert!(report_in(NodeId(1), report_out(foreign).unwrap()).is_err());
        let sample = wire::NodeSample {
            cpu: Some(1.5),
            ..Default::default()
        };
        assert!(sample_in(sample).is_err());
        let not_a_number = wire::NodeSample {
            io_stall: Some(f64::NAN),
            ..Default::default()
        };
        assert!(sample_in(not_a_number).is_err());
        assert!(report_in(NodeId(1), wire::AgentReport { report: None }).is_err());
        assert_eq!(
            report_out(AgentReport::Event(Event::NodeJoined { node: NodeId(1) })),
            None
        );
    }
}
