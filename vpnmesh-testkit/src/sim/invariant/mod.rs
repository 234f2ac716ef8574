//! The laws that hold in every simulated mesh, whatever fails: one file each.
//!
//! A [`Witness`] sees every packet, statement and event of a world and judges at once. What can be
//! judged only at the end, when all faults stopped, is in [`bounds`], [`healing`] and [`planned`].

pub mod bounds;
pub mod client_fence;
pub mod duplicates;
pub mod healing;
pub mod no_spin;
pub mod nonces;
pub mod one_holder;
pub mod planned;
pub mod site_fence;

use vpnmesh_core::Timestamp;
use vpnmesh_transport::trace::Trace;

use super::actor::{ActorId, Happened};
use super::app::Delivery;
use client_fence::ClientFence;
use duplicates::Duplicates;
use no_spin::NoSpin;
use one_holder::OneHolder;
use site_fence::SiteFence;

/// A law that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The law's name.
    pub law: &'static str,
    /// What happened.
    pub what: String,
}

/// How often each law was applied: a law that is never applied proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Packets that came out, compared with those before.
    pub deliveries: u64,
    /// Packets that a client took, checked against its holders.
    pub client_packets: u64,
    /// Packets that a site took, checked against the newest statement.
    pub site_packets: u64,
    /// Statements that sites took over.
    pub statements: u64,
}

/// Watches a world while it runs.
#[derive(Debug, Default)]
pub struct Witness {
    duplicates: Duplicates,
    client_fence: ClientFence,
    site_fence: SiteFence,
    one_holder: OneHolder,
    no_spin: NoSpin,
    applied: Applied,
    broken: Option<Broken>,
}

impl Witness {
    /// An actor begins a life: what its machine knew is gone.
    pub fn handle_start(&mut self, id: ActorId) {
        self.client_fence.forget(id);
        self.site_fence.forget(id);
        self.one_holder.forget(id);
        if let (ActorId::Client(_), true) = (id, id.is_twin()) {
            self.one_holder.handle_repeat();
        }
    }

    /// The durable counter of an actor was put back.
    pub fn handle_roll_back(&mut self, id: ActorId) {
        if let ActorId::Client(_) = id {
            self.one_holder.handle_repeat();
        }
    }

    /// A machine decided to let something through, or took a statement over.
    pub fn handle_trace(&mut self, id: ActorId, trace: Trace, now: Timestamp) {
        let result = match trace {
            Trace::ClientAccepted { holder, number, .. } => {
                self.applied.client_packets += 1;
                self.client_fence.handle_accepted(id, holder, number, now)
            }
            Trace::SiteTook(receipt) => {
                self.applied.statements += 1;
                let fence = self.site_fence.handle_took(id, receipt, now);
                fence.and(self.one_holder.handle_took(id, receipt))
            }
            Trace::SiteAccepted { client, holder } => {
                self.applied.site_packets += 1;
                self.site_fence.handle_accepted(id, client, holder, now)
            }
        };
        self.judge(result);
    }

    /// A machine said something. Call it after the traces of the same turn.
    pub fn handle_event(&mut self, id: ActorId, event: &Happened, now: Timestamp) {
        if let Happened::Client(_, event) = event {
            self.client_fence.handle_event(id, event, now);
        }
    }

    /// A packet came out.
    pub fn handle_delivery(&mut self, delivery: &Delivery) {
        self.applied.deliveries += 1;
        let result = self.duplicates.handle_delivery(delivery);
        self.judge(result);
    }

    /// Whether this packet came out.
    #[must_use]
    pub fn has(&self, flow: super::app::Flow, number: u64) -> bool {
        self.duplicates.has(flow, number)
    }

    /// A machine's timer fired.
    pub fn handle_timer(&mut self, id: ActorId, now: Timestamp) {
        let result = self.no_spin.handle_timer(id, now);
        self.judge(result);
    }

    /// A turn is over.
    pub fn handle_step(&mut self) {
        self.judge(nonces::check());
    }

    /// The first law that did not hold.
    #[must_use]
    pub const fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// How often the laws were applied.
    #[must_use]
    pub const fn applied(&self) -> Applied {
        self.applied
    }

    fn judge(&mut self, result: Result<(), Broken>) {
        if let Err(broken) = result {
            self.broken.get_or_insert(broken);
        }
    }
}

/// The names of all laws.
pub const LAWS: [&str; 9] = [
    nonces::LAW,
    duplicates::LAW,
    client_fence::LAW,
    site_fence::LAW,
    one_holder::LAW,
    no_spin::LAW,
    planned::LAW,
    bounds::LAW,
    healing::LAW,
];

/// A broken law with its words.
pub(super) const fn broken(law: &'static str, what: String) -> Broken {
    Broken { law, what }
}
