//! Which sessions each shadow keeps for us: the primary's side of digests, changed with each session.

use std::collections::{BTreeMap, BTreeSet};

use vpnmesh_core::{NodeId, SessionId};

use super::held::Held;
use super::sums::Sums;
use crate::record::bucket_of;

/// The sums of all our shadows.
#[derive(Debug, Default)]
pub(super) struct Covers {
    /// By shadow. As many as have sessions of ours.
    sums: BTreeMap<NodeId, Sums>,
    /// The sessions of each shadow by bucket.
    listed: BTreeSet<(NodeId, usize, SessionId)>,
}

/// What a session adds to the sums of its shadows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counted {
    shadows: Vec<NodeId>,
    digest: u64,
}

impl Counted {
    /// What the session should add: shadows that the client knows, of sessions that are ours.
    pub(super) fn of(held: &Held) -> Self {
        if !held.is_primary() || !held.rostered {
            return Self::default();
        }
        Self {
            shadows: held.shadows.clone(),
            digest: held.record.digest(),
        }
    }
}

impl Covers {
    /// The session changed, or it ended if `counted` is empty.
    pub(super) fn change(&mut self, held: &mut Held, counted: Counted) {
        if held.counted == counted {
            return;
        }
        let session = held.record.session;
        let before = std::mem::replace(&mut held.counted, counted);
        for node in before.shadows {
            self.listed.remove(&(node, bucket_of(session), session));
            if let Some(sums) = self.sums.get_mut(&node) {
                sums.remove(session, before.digest);
                if sums.is_empty() {
                    self.sums.remove(&node);
                }
            }
        }
        for node in &held.counted.shadows {
            self.listed.insert((*node, bucket_of(session), session));
            let sums = self.sums.entry(*node).or_insert_with(Sums::new);
            sums.add(session, held.counted.digest);
        }
    }

    /// The sums over what `shadow` keeps for us.
    pub(super) fn sums(&self, shadow: NodeId) -> Option<&Sums> {
        self.sums.get(&shadow)
    }

    /// The sessions of a bucket.
    pub(super) fn bucket(
        &self,
        shadow: NodeId,
        bucket: usize,
    ) -> impl Iterator<Item = SessionId> + '_ {
        let end = |session| (shadow, bucket, SessionId(session));
        let range = end([0; 16])..=end([u8::MAX; 16]);
        self.listed.range(range).map(|(.., session)| *session)
    }
}
