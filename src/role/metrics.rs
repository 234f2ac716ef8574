//! What roles count, in a form that any metrics system takes.
//!
//! [`Handle::metrics`](super::Handle::metrics) gives the newest figures as plain values; the packet thread is not asked, it
//! publishes them anyway. With the feature `prometheus` a [`Exporter`] is a collector for a registry of
//! `prometheus-client`, which writes them in the OpenMetrics text format.

use std::collections::BTreeMap;
use std::time::Duration;

use vpnmesh_transport::DropReason;
use vpnmesh_transport::io::IoCounters;
use vpnmesh_transport::path::PathFigures;

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name, with the unit at the end, without any suffix for its kind.
    pub name: String,
    /// What it says.
    pub help: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// What it is about: a peer, or a reason.
    pub label: Option<(&'static str, String)>,
    /// In the unit that its name states, else a plain number.
    pub value: f64,
}

/// How a figure behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, from zero at the start.
    Counter,
    /// May be anything at any time.
    Gauge,
}

/// Collects the figures of one role.
#[derive(Debug, Default)]
pub(super) struct Sheet(Vec<Metric>);

impl Sheet {
    pub(super) fn gauge(&mut self, name: &str, help: &'static str, value: f64) {
        self.push(MetricKind::Gauge, name, help, None, value);
    }

    pub(super) fn counter(&mut self, name: &str, help: &'static str, value: u64) {
        self.push(MetricKind::Counter, name, help, None, value as f64);
    }

    pub(super) fn seconds(&mut self, name: &str, help: &'static str, value: Duration) {
        self.gauge(&format!("{name}_seconds"), help, value.as_secs_f64());
    }

    /// The drops of a machine.
    pub(super) fn drops(&mut self, drops: &BTreeMap<DropReason, u64>) {
        let help = "Packets and messages dropped, by reason";
        for (reason, count) in drops {
            let label = Some(("reason", reason.name().to_owned()));
            self.push(MetricKind::Counter, "drops", help, label, *count as f64);
        }
    }

    /// The paths to peers, each kind of figure for all of them.
    pub(super) fn paths<'p>(
        &mut self,
        paths: impl Iterator<Item = (String, &'p PathFigures)> + Clone,
    ) {
        for (peer, path) in paths.clone() {
            if let Some(rtt) = path.rtt {
                let label = Some(("peer", peer));
                let help = "Smoothed round-trip time";
                self.push(
                    MetricKind::Gauge,
                    "path_rtt_seconds",
                    help,
                    label,
                    rtt.as_secs_f64(),
                );
            }
        }
        for (peer, path) in paths {
            let (label, help) = (
                Some(("peer", peer)),
                "Share of the last probes without a reply",
            );
            self.push(MetricKind::Gauge, "path_loss_ratio", help, label, path.loss);
        }
    }

    /// The packet thread.
    pub(super) fn io(&mut self, counters: &IoCounters) {
        for (name, help, value) in counters.all() {
            self.counter(&format!("io_{name}"), help, value);
        }
    }

    pub(super) fn into_metrics(self) -> Vec<Metric> {
        self.0
    }

    fn push(
        &mut self,
        kind: MetricKind,
        name: &str,
        help: &'static str,
        label: Option<(&'static str, String)>,
        value: f64,
    ) {
        self.0.push(Metric {
            name: format!("vpnmesh_{name}"),
            help,
            kind,
            label,
            value,
        });
    }
}

#[cfg(feature = "prometheus")]
mod exporter {
    use std::fmt;
    use std::sync::Arc;

    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
    use prometheus_client::metrics::MetricType;

    use super::super::handle::{Handle, Shared};
    use super::super::{Role, handle};
    use super::{Metric, MetricKind};

    /// The figures of one role for a registry of `prometheus-client`. Each has the labels `role` and
    /// `member`.
    pub struct Exporter<R: Role> {
        member: String,
        shared: Arc<Shared<R::Report>>,
    }

    impl<R: Role> Exporter<R> {
        /// For a running role; it may end before its exporter does.
        #[must_use]
        pub fn new(handle: &Handle<R>) -> Self {
            Self {
                member: handle.name().to_owned(),
                shared: handle.shared(),
            }
        }
    }

    impl<R: Role<Report: fmt::Debug>> Collector for Exporter<R> {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            let metrics = handle::metrics::<R>(&self.shared);
            for family in metrics.chunk_by(|one, other| one.name == other.name) {
                self.encode_family(family, &mut encoder)?;
            }
            Ok(())
        }
    }

    impl<R: Role> Exporter<R> {
        fn encode_family(
            &self,
            family: &[Metric],
            encoder: &mut DescriptorEncoder<'_>,
        ) -> Result<(), fmt::Error> {
            let Some(first) = family.first() else {
                return Ok(());
            };
            let kind = match first.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
            };
            let mut encoder = encoder.encode_descriptor(&first.name, first.help, None, kind)?;
            for metric in family {
                let mut labels = vec![("role", R::NAME), ("member", self.member.as_str())];
                labels.extend(
                    metric
                        .label
                        .as_ref()
                        .map(|(name, value)| (*name, value.as_str())),
                );
                let mut one = encoder.encode_family(&labels)?;
                match metric.kind {
                    MetricKind::Counter => {
                        one.encode_counter::<NoLabelSet, f64, f64>(&metric.value, None)?;
                    }
                    MetricKind::Gauge => one.encode_gauge(&metric.value)?,
                }
            }
            Ok(())
        }
    }

    impl<R: Role> fmt::Debug for Exporter<R> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Exporter")
                .field("member", &self.member)
                .finish_non_exhaustive()
        }
    }
}

#[cfg(feature = "prometheus")]
pub use exporter::Exporter;
