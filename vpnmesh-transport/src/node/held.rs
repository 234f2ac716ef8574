//! A session that this node holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vpnmesh_core::{NodeId, Secret, SiteId, Tier, Timestamp};

use super::activate::Opened;
use super::branches::BranchKey;
use super::covers::Counted;
use super::relay::RelayBudget;
use super::shadows::{Making, Root};
use super::told::Told;
use crate::Incarnation;
use crate::leg::Leg;
use crate::record::SessionRecord;
use crate::schedule::TookProof;

/// A session whose traffic comes through this node.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: SessionRecord,
    pub(super) leg: Leg,
    /// Our branch in the record's generation.
    pub(super) branch: Secret<32>,
    /// Who made that branch.
    pub(super) giver: NodeId,
    /// What the client gave us for the holders before us, so that they believe that we took over;
    /// at most [`MAX_HOLDERS`](crate::record::MAX_HOLDERS).
    pub(super) proofs: Vec<(NodeId, TookProof)>,
    /// The activation that made us a holder, or gave us newer keys; `None` after a handshake.
    pub(super) activation: Option<Opened>,
    pub(super) role: Role,
    /// The root of a generation that begins; erased when its branches are out.
    pub(super) root: Option<Root>,
    pub(super) making: Option<Making>,
    /// Shadows that the client's roster names, best first.
    pub(super) shadows: Vec<NodeId>,
    /// What the session adds to the shadows' digests.
    pub(super) counted: Counted,
    /// The lives in which the shadows took their branches; unknown after a takeover.
    pub(super) lives: BTreeMap<NodeId, Incarnation>,
    /// Whether the client confirmed the roster of the record's generation.
    pub(super) rostered: bool,
    /// The client's round-trip times to nodes.
    pub(super) paths: BTreeMap<NodeId, Duration>,
    /// What the client has of the membership.
    pub(super) told: Told,
    /// The tier that the client asked for.
    pub(super) tier_asked: Option<Tier>,
    /// The greatest generation ever begun, as far as we know.
    pub(super) greatest: u32,
    pub(super) shift: Option<Shift>,
    pub(super) orders: u32,
    /// Holders that the client could not move to in this shift: of this session alone, as it is the
    /// client who says so. As many as there are nodes.
    pub(super) failed: BTreeSet<NodeId>,
    /// What the client may still say to the sites.
    pub(super) relay: RelayBudget,
    /// The last counter that we sealed for each site on behalf of this session.
    pub(super) last_up: BTreeMap<SiteId, u64>,
    /// The last inner packet that we sealed for the client.
    pub(super) last_down: Option<u64>,
    /// When the set of shadows is looked at again.
    pub(super) review_at: Timestamp,
    /// Fresh secrets are expected until then: no generation is made from the old ones.
    pub(super) fresh_until: Timestamp,
    pub(super) last_heard: Timestamp,
}

/// What this node is to the session.
#[derive(Debug)]
pub(super) enum Role {
    /// A planned move to us has begun.
    Taking,
    /// The only holder.
    Primary,
    /// A planned move away from us is being committed.
    Leaving(Leaving),
}

/// The end of a planned move at the holder that is left.
#[derive(Debug)]
pub(super) struct Leaving {
    /// The move that takes over.
    pub(super) number: u32,
    /// The client's last packet for us.
    pub(super) up_final: Option<u64>,
    /// Sites that did not finish yet.
    pub(super) waiting: BTreeSet<SiteId>,
    /// The last packet of each finished site for us.
    pub(super) finals: BTreeMap<SiteId, Option<u64>>,
    /// The sites know the last packet that we sealed for them.
    pub(super) up_closed: bool,
    /// The client knows the last packet that we sealed for it.
    pub(super) down_closed: bool,
    /// All sites that were told.
    pub(super) sites: BTreeSet<SiteId>,
    /// What did not arrive by then is lost.
    pub(super) flushed_at: Timestamp,
    /// The role ends then.
    pub(super) until: Timestamp,
}

/// An order to the client that is being carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shift {
    pub(super) order: u32,
    pub(super) to: NodeId,
    pub(super) share: u16,
}

impl Held {
    pub(super) const fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary)
    }

    /// Names our branch.
    pub(super) const fn key(&self) -> BranchKey {
        BranchKey {
            session: self.record.session,
            generation: self.record.generation,
            giver: self.giver,
        }
    }

    /// When the session needs something beside its leg.
    pub(super) fn next_duty(&self, idle_for: Duration) -> Timestamp {
        let mut next = self.last_heard + idle_for;
        if let Some(making) = &self.making {
            next = next.min(making.until());
        }
        if let Role::Leaving(leaving) = &self.role {
            next = next.min(leaving.until);
            if !(leaving.up_closed && leaving.down_closed) {
                next = next.min(leaving.flushed_at);
            }
        }
        if self.is_primary() && self.making.is_none() {
            next = next.min(self.review_at);
        }
        next
    }

    /// The session's state changed: its shadows will see a new version.
    pub(super) fn bump(&mut self) {
        self.record.version = self.record.version.wrapping_add(1);
    }
}
