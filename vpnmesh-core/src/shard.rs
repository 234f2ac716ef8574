//! Who spreads flows over shards.

use std::fmt::Debug;

use crate::{Bandwidth, Error, ShardId};

/// Spreads flows over shards so that losing a shard moves only that shard's flows.
pub trait ShardAllocator: Debug + Send {
    /// The shard of each flow, in the order of `flows`.
    ///
    /// - `flows`: hashes of 5-tuples, any order, shape `[flow]`
    /// - `capacity`: per shard, bit/s; zero takes the shard out of use
    ///
    /// The answer depends on nothing else, and not on the order of `capacity`.
    ///
    /// # Errors
    /// [`Error::NoShard`] if every capacity is zero; the old assignment stays.
    fn allocate(
        &self,
        flows: &[u64],
        capacity: &[(ShardId, Bandwidth)],
    ) -> Result<Vec<ShardId>, Error>;
}

const _: Option<&dyn ShardAllocator> = None; // must stay object safe

/// Each flow scores every shard with a keyed hash; the best weighted score wins.
///
/// Source: Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker 2005.
#[derive(Clone, Debug)]
pub struct RendezvousAllocator {
    seed: u64,
}

impl RendezvousAllocator {
    /// All holders of the same `seed` agree; who does not know it cannot aim at a shard.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn score(&self, flow: u64, shard: ShardId, capacity: Bandwidth) -> f64 {
        let hash = mix(mix(self.seed ^ flow) ^ mix(shard.0.rotate_left(32) ^ self.seed));
        // 53 bits fill a double exactly; the half keeps the logarithm away from zero.
        let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        capacity.0 as f64 / -uniform.ln()
    }
}

impl ShardAllocator for RendezvousAllocator {
    fn allocate(
        &self,
        flows: &[u64],
        capacity: &[(ShardId, Bandwidth)],
    ) -> Result<Vec<ShardId>, Error> {
        let best = |flow: u64| {
            let usable = capacity.iter().filter(|(_, rate)| rate.0 > 0);
            let scored = usable.map(|(shard, rate)| (self.score(flow, *shard, *rate), *shard));
            let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            best.map(|(_, shard)| shard).ok_or(Error::NoShard)
        };
        flows.iter().map(|flow| best(*flow)).collect()
    }
}

/// Finalizer of `SplitMix64`.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shards(capacity: &[u64]) -> Vec<(ShardId, Bandwidth)> {
        let named = capacity.iter().zip(1_u64..);
        named
            .map(|(rate, id)| (ShardId(id), Bandwidth(*rate)))
            .collect()
    }

    #[test]
    fn without_any_capacity_there_is_no_shard() {
        let allocator = RendezvousAllocator::new(1);
        assert_eq!(
            allocator.allocate(&[1, 2], &shards(&[0, 0])),
            Err(Error::NoShard)
        );
        assert_eq!(allocator.allocate(&[1], &[]), Err(Error::NoShard));
    }

    #[test]
    fn flows_spread_by_capacity() {
        let flows: Vec<u64> = (0..30_000).collect();
        let chosen = RendezvousAllocator::new(7)
            .allocate(&flows, &shards(&[10, 20, 0]))
            .unwrap();
        let second = chosen.iter().filter(|shard| **shard == ShardId(2)).count();
        assert!((19_500..20_500).contains(&second), "{second} of 30000");
    }

    proptest! {
        #[test]
        fn losing_a_shard_moves_only_its_own_flows(
            seed in any::<u64>(),
            flows in proptest::collection::vec(any::<u64>(), 1..100),
            capacity in proptest::collection::vec(1_u64..1000, 2..8),
            lost in 0_usize..8,
        ) {
            let allocator = RendezvousAllocator::new(seed);
            let mut all = shards(&capacity);
            let before = allocator.allocate(&flows, &all).unwrap();
            let lost = all.remove(lost % all.len()).0;
            all.reverse();
            let after = allocator.allocate(&flows, &all).unwrap();
            for (old, new) in before.iter().zip(&after) {
                prop_assert!(old == new || *old == lost);
            }
        }
    }
}
