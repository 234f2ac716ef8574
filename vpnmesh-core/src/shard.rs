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
