//! The plan: a run cut into shards, and the checkpoints at which convergence is tested. A pure
//! function of op and args, so any process can derive it again. Neither the policy nor the size of
//! the cluster affects it.

use std::ops::Range;

use forge_contract::shard::{LEAF_ITERATIONS, ShardId};

/// The largest number of iterations of a run: 2^48.
pub const MAX_ITERATIONS: u64 = 1 << 48;
/// A run gets at most this many shards, unless one of the two limits below makes shards smaller.
const TARGET_SHARDS: u64 = 1024;
/// A shard holds at most 2^12 leaves, which are 2^28 iterations.
const MAX_SHARD_HEIGHT: u32 = 12;
/// Upper bound on the expected draws of a shard of more than one leaf, so that a shard takes
/// seconds.
const MAX_SHARD_DRAWS: u64 = 1 << 32;

/// Upper bound on the expected draws of a short run: seconds of work in all.
const MAX_SHORT_DRAWS: u64 = 1 << 30;

/// A run's shards and checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    iterations: u64,
    height: u32,
    is_short: bool,
    checkpoints: Vec<u64>,
}

impl Plan {
    /// Plans `iterations` (1 to 2^48) of about `draws` expected draws each. With `min_iterations`,
    /// convergence is tested at the checkpoints from that count on, and no shard straddles a
    /// checkpoint.
    pub fn new(iterations: u64, draws: u64, min_iterations: Option<u64>) -> Self {
        let leaves = iterations.div_ceil(LEAF_ITERATIONS);
        let fits = |height: u32| draws.max(1) * LEAF_ITERATIONS <= MAX_SHARD_DRAWS >> height;
        let target_height = (0..MAX_SHARD_HEIGHT)
            .find(|&height| leaves.div_ceil(1 << height) <= TARGET_SHARDS)
            .unwrap_or(MAX_SHARD_HEIGHT);
        let height = (0..=target_height).rev().find(|&height| fits(height)).unwrap_or(0);
        let is_short = iterations.saturating_mul(draws.max(1)) <= MAX_SHORT_DRAWS;
        let checkpoints = min_iterations.map(|min| checkpoints(iterations, min)).unwrap_or_default();
        Self { iterations, height, is_short, checkpoints }
    }

    /// Requested iterations.
    pub fn iterations(&self) -> u64 {
        self.iterations
    }

    /// Height of the tallest shards: a shard of height h is 2^h leaves.
    pub fn shard_height(&self) -> u32 {
        self.height
    }

    /// Whether the whole run is so little work that it should not wait for shards of long ones: at
    /// most 2^30 expected draws.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// Iteration counts at which convergence is tested, ascending; empty without convergence.
    pub fn checkpoints(&self) -> &[u64] {
        &self.checkpoints
    }

    /// The shards in order: disjoint and without gaps, from iteration 0 to the last.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + Send + '_ {
        let leaves = self.iterations.div_ceil(LEAF_ITERATIONS);
        let mut next = 0;
        std::iter::from_fn(move || {
            (next < leaves).then(|| {
                let id = self.shard_at(next);
                next = id.leaves().end;
                id
            })
        })
    }

    /// Number of shards.
    pub fn shard_count(&self) -> u64 {
        self.shards_before(self.iterations)
    }

    /// Number of the shards that start before `iteration`.
    pub fn shards_before(&self, iteration: u64) -> u64 {
        let leaves = iteration.div_ceil(LEAF_ITERATIONS);
        if self.checkpoints.is_empty() {
            return leaves.div_ceil(1 << self.height);
        }
        // Leaf 0 is a shard. All shards that start in an octave of leaves have the same height.
        let octaves = (0..=leaves.checked_ilog2().unwrap_or(0)).map(|octave| {
            let first = 1 << octave;
            let end = leaves.clamp(first, 2 * first);
            (end - first).div_ceil(1 << self.shard_at(first).height)
        });
        leaves.min(1) + octaves.sum::<u64>()
    }

    /// Position of a shard in the plan, from 0; `None` if the plan does not have the shard.
    pub fn position(&self, id: ShardId) -> Option<u64> {
        let start = id.leaves().start;
        let is_planned = start < self.iterations.div_ceil(LEAF_ITERATIONS) && self.shard_at(start) == id;
        is_planned.then(|| self.shards_before(start * LEAF_ITERATIONS))
    }

    /// The iterations of a shard of this plan; the last shard ends with the run.
    pub fn range(&self, id: ShardId) -> Range<u64> {
        id.iterations(self.iterations)
    }

    /// The shard that starts at `leaf`. Between two checkpoints m·2^k and (m+1)·2^k, with m from 4
    /// to 7, lies exactly one subtree of height k, so the shard is that subtree, or a smaller one
    /// of the plan's height.
    fn shard_at(&self, leaf: u64) -> ShardId {
        let height = if self.checkpoints.is_empty() || leaf == 0 {
            if self.checkpoints.is_empty() { self.height } else { 0 }
        } else {
            self.height.min(leaf.ilog2().saturating_sub(2))
        };
        ShardId { height, index: leaf >> height }
    }
}

/// The checkpoints from `min` to `iterations`: 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, …
/// leaves, in iterations.
fn checkpoints(iterations: u64, min: u64) -> Vec<u64> {
    let geometric = (0..32).flat_map(|k| (4..8).map(move |m: u64| m << k));
    let leaves = (1..4).chain(geometric);
    let counts = leaves.map(|leaves| leaves * LEAF_ITERATIONS);
    counts.take_while(|&count| count <= iterations).filter(|&count| count >= min).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_of_little_work_are_short() {
        let is_short = |iterations, draws| Plan::new(iterations, draws, None).is_short();
        assert!(is_short(1, 0) && is_short(1, 1 << 30) && is_short(10_000_000, 100));
        assert!(!is_short((1 << 30) + 1, 1) && !is_short(1, (1 << 30) + 1) && !is_short(1 << 48, 1 << 40));
        // Shards of single leaves do not make a run short.
        let heavy = Plan::new(6_500_000_000, 32_802, None);
        assert!(heavy.shard_height() == 0 && !heavy.is_short());
    }

    #[test]
    fn shard_height_grows_with_the_run() {
        let plan = |iterations| Plan::new(iterations, 5, None);
        assert_eq!((plan(1).shard_count(), plan(1).shard_height()), (1, 0));
        assert_eq!((plan(1_000_000).shard_count(), plan(1_000_000).shard_height()), (16, 0));
        assert_eq!((plan(1_000_000_000).shard_count(), plan(1_000_000_000).shard_height()), (954, 4));
        assert_eq!((plan(1 << 48).shard_count(), plan(1 << 48).shard_height()), (1 << 20, 12));
        assert_eq!(Plan::new(1 << 40, 10_000, None).shard_height(), 2);
    }

    #[test]
    fn an_octave_has_four_checkpoints() {
        let plan = Plan::new(25 * LEAF_ITERATIONS, 5, Some(1));
        let leaves: Vec<_> = plan.checkpoints().iter().map(|c| c / LEAF_ITERATIONS).collect();
        assert_eq!(leaves, [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24]);
        assert_eq!(Plan::new(1 << 20, 5, Some(1 << 20)).checkpoints(), [1 << 20]);
        assert!(Plan::new(65_535, 5, Some(1)).checkpoints().is_empty());
    }

    proptest! {
        #[test]
        fn shards_cover_the_run_and_respect_checkpoints(
            iterations in 1u64..1 << 36, draws in 1u64..20_000, min in prop::option::of(1u64..1 << 30),
        ) {
            let plan = Plan::new(iterations, draws, min);
            let mut end = 0;
            for (number, id) in plan.shards().enumerate() {
                prop_assert_eq!(plan.position(id), Some(number as u64));
                let (parent, child) = (ShardId { height: id.height + 1, index: id.index / 2 },
                    ShardId { height: id.height.max(1) - 1, index: id.index * 2 + 1 });
                prop_assert_eq!(plan.position(parent).or(plan.position(child)).filter(|_| id.height > 0), None);
                let range = plan.range(id);
                prop_assert_eq!(range.start, end);
                prop_assert!(range.end > range.start && id.height <= plan.shard_height());
                let straddles = plan.checkpoints().iter().any(|&c| range.start < c && c < range.end);
                prop_assert!(!straddles, "{} in {:?}", id, range);
                end = range.end;
                if number > 5000 { return Ok(()); }
            }
            prop_assert_eq!(end, iterations);
            prop_assert_eq!(plan.shard_count(), plan.shards().count() as u64);
            let beyond = end.div_ceil(LEAF_ITERATIONS);
            prop_assert_eq!(plan.position(ShardId { height: 0, index: beyond }), None);
        }
    }
}
