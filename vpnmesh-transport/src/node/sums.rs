//! Digests that cost nothing to ask for: sums over the sessions of a pair of nodes, changed with
//! each session instead of added up again each second.

use vpnmesh_core::SessionId;

use crate::record::{BUCKETS, SessionRecord, bucket_of};

/// Count and sum over all sessions of one pair of nodes, and the sum of each bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    count: u32,
    total: u64,
    buckets: Box<[u64; BUCKETS]>,
}

impl Sums {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            total: 0,
            buckets: Box::new([0; BUCKETS]),
        }
    }

    /// A session with this digest belongs to the pair.
    pub(super) fn add(&mut self, session: SessionId, digest: u64) {
        self.count += 1;
        self.change(session, digest);
    }

    /// A session that was added with this digest does not belong to it any more.
    pub(super) fn remove(&mut self, session: SessionId, digest: u64) {
        self.count -= 1;
        self.change(session, digest.wrapping_neg());
    }

    /// What a digest message says.
    pub(super) const fn whole(&self) -> (u32, u64) {
        (self.count, self.total)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) const fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    fn change(&mut self, session: SessionId, by: u64) {
        self.total = self.total.wrapping_add(by);
        let bucket = &mut self.buckets[bucket_of(session)];
        *bucket = bucket.wrapping_add(by);
    }
}

impl<'r> FromIterator<&'r SessionRecord> for Sums {
    fn from_iter<I: IntoIterator<Item = &'r SessionRecord>>(records: I) -> Self {
        let mut sums = Self::new();
        for record in records {
            sums.add(record.session, record.digest());
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vpnmesh_core::ClientId;

    use super::*;
    use crate::record::digest_of;

    proptest! {
        #[test]
        fn what_was_added_and_removed_leaves_no_trace(
            stays in prop::collection::vec(any::<([u8; 8], u64)>(), 0..20),
            goes in prop::collection::vec(any::<([u8; 8], u64)>(), 0..20),
        ) {
            let of = |(random, version): &([u8; 8], u64)| {
                let session = SessionId::new(ClientId(1), *random);
                (session, digest_of(session, 1, *version))
            };
            let (mut all, mut some) = (Sums::new(), Sums::new());
            for (session, digest) in goes.iter().chain(&stays).map(of) {
                all.add(session, digest);
            }
            for (session, digest) in goes.iter().rev().map(of) {
                all.remove(session, digest);
            }
            for (session, digest) in stays.iter().rev().map(of) {
                some.add(session, digest);
            }
            prop_assert_eq!(&all, &some);
            let sum = all.buckets().iter().fold(0u64, |sum, bucket| sum.wrapping_add(*bucket));
            prop_assert_eq!(all.whole(), (stays.len() as u32, sum));
        }
    }
}
