//! Cuts shards into slices; a workgroup executes one slice, which lies within one leaf. A pure
//! function of the program and the shards. Slices are short enough that no invocation runs for
//! long, and that a small job occupies a large device.

use forge_contract::{
    digest::Digest,
    plain_program::{PlainComponent, PlainProgram},
    program::CountTable,
    shard::{LEAF_ITERATIONS, Shard},
};
use forge_kernel::seed_tree::{LeafSeeds, leaf_seeds};

/// Invocations in a workgroup. It must match shader/accumulator.wgsl.
pub(crate) const WORKGROUP_SIZE: u64 = 256;
/// Largest number of iterations of one invocation: the shader's sums would overflow with more.
const MAX_INVOCATION_ITERATIONS: u64 = 256;
/// Largest number of loop rounds of one invocation, over all its loops: one driver silently ends an
/// invocation after 65,535.
const MAX_INVOCATION_ROUNDS: u64 = 60_000;
/// Approximate number of draws of one invocation.
const INVOCATION_DRAWS: f64 = 4096.0;
/// Number of workgroups that occupies a large device.
const OCCUPYING_WORKGROUPS: u64 = 2048;
/// Smallest number of iterations of one invocation, unless another limit is lower: with fewer,
/// merging accumulators would take longer than execution.
const MIN_INVOCATION_ITERATIONS: u64 = 8;

/// Mean number of draws per iteration of a program.
pub(crate) fn mean_draws(program: &PlainProgram<'_>) -> f64 {
    let component_draws = |component: &PlainComponent<'_>| {
        let CountTable { offset, thresholds } = component.counts;
        let mean_above_offset: f64 = thresholds.iter().map(|&t| 1.0 - t as f64 / 2f64.powi(64)).sum();
        1.0 + f64::from(*offset) + mean_above_offset
    };
    program.components.iter().map(component_draws).sum()
}

/// Number of iterations per slice, for a batch of `iterations` iterations of a program: a multiple
/// of [`WORKGROUP_SIZE`].
pub(crate) fn slice_iterations(program: &PlainProgram<'_>, iterations: u64) -> u64 {
    let mut rounds = 2 + program.marks().len() as u64;
    let mut max_draws = program.components.len() as u64;
    for component in &program.components {
        let counts = component.counts;
        rounds += u64::from(counts.thresholds.len().checked_ilog2().map_or(0, |log| log + 1));
        max_draws += u64::from(counts.offset) + counts.thresholds.len() as u64;
    }
    let by_rounds = MAX_INVOCATION_ROUNDS / (rounds + max_draws.div_ceil(8));
    let by_draws = (INVOCATION_DRAWS / mean_draws(program)) as u64;
    let by_occupancy = iterations / (WORKGROUP_SIZE * OCCUPYING_WORKGROUPS);
    let per_invocation = by_occupancy.max(MIN_INVOCATION_ITERATIONS).min(by_rounds).min(by_draws);
    WORKGROUP_SIZE * per_invocation.clamp(1, MAX_INVOCATION_ITERATIONS)
}

/// A range of iterations of one leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkSlice {
    /// Index of the shard in the batch.
    pub(crate) shard_index: u32,
    /// Seed of the leaf.
    pub(crate) seed: Digest,
    /// First iteration, counted within the leaf.
    pub(crate) first: u32,
    /// Number of iterations.
    pub(crate) iterations: u32,
}

/// The slices of a batch, ordered by shard, then by leaf, then by first iteration.
#[derive(Debug)]
pub(crate) struct WorkSlices<'a> {
    shards: std::iter::Enumerate<std::slice::Iter<'a, Shard>>,
    max_iterations: u64,
    cursor: Option<ShardCursor>,
}

/// Position within the shard that is being cut.
#[derive(Debug)]
struct ShardCursor {
    shard_index: u32,
    /// Iterations of the leaves that follow the current one.
    remaining: u64,
    leaves: LeafSeeds,
    /// The current leaf: its seed, the first iteration of the next slice, and the end of the leaf.
    leaf: Option<(Digest, u64, u64)>,
}

impl<'a> WorkSlices<'a> {
    /// Cuts shards into slices of at most `max_iterations` iterations.
    pub(crate) fn new(shards: &'a [Shard], max_iterations: u64) -> Self {
        Self { shards: shards.iter().enumerate(), max_iterations, cursor: None }
    }
}

impl Iterator for WorkSlices<'_> {
    type Item = WorkSlice;

    fn next(&mut self) -> Option<WorkSlice> {
        loop {
            let Some(cursor) = &mut self.cursor else {
                let (index, shard) = self.shards.next()?;
                let leaves = shard.iterations.div_ceil(LEAF_ITERATIONS);
                let leaves = leaf_seeds(shard.seed, shard.id.height, leaves);
                let remaining = shard.iterations;
                self.cursor = Some(ShardCursor { shard_index: index as u32, remaining, leaves, leaf: None });
                continue;
            };
            match cursor.leaf {
                Some((seed, first, end)) if first < end => {
                    let iterations = self.max_iterations.min(end - first);
                    cursor.leaf = Some((seed, first + iterations, end));
                    let (first, iterations) = (first as u32, iterations as u32);
                    return Some(WorkSlice { shard_index: cursor.shard_index, seed, first, iterations });
                }
                _ => match cursor.leaves.next() {
                    Some(seed) => {
                        let end = LEAF_ITERATIONS.min(cursor.remaining);
                        cursor.remaining -= end;
                        cursor.leaf = Some((seed, 0, end));
                    }
                    None => self.cursor = None,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::shard::ShardId;
    use forge_kernel::testing::{AmountRecipe, ComponentRecipe, CountRecipe, ProgramRecipe, sample_shard};

    use super::*;

    fn program(counts: CountRecipe) -> forge_contract::program::Program {
        ProgramRecipe {
            components: vec![ComponentRecipe::new(counts, AmountRecipe::Noise(1))],
            ..ProgramRecipe::typical()
        }
        .program()
    }

    #[test]
    fn slices_cover_every_iteration_once() {
        let shards =
            [sample_shard(2, 1, 3 * LEAF_ITERATIONS + 1000), sample_shard(0, 9, 0), sample_shard(0, 3, 700)];
        let slices: Vec<_> = WorkSlices::new(&shards, 512).collect();
        for (index, shard) in shards.iter().enumerate() {
            let mut shard_slices = slices.iter().filter(|slice| slice.shard_index == index as u32);
            let leaves = shard.iterations.div_ceil(LEAF_ITERATIONS);
            for (leaf, seed) in (0..).zip(leaf_seeds(shard.seed, shard.id.height, leaves)) {
                let end = LEAF_ITERATIONS.min(shard.iterations - leaf * LEAF_ITERATIONS);
                let mut covered = 0;
                while covered < end {
                    let slice = shard_slices.next().unwrap();
                    assert_eq!((slice.seed, u64::from(slice.first)), (seed, covered));
                    assert!((1..=512).contains(&slice.iterations));
                    covered += u64::from(slice.iterations);
                }
                assert_eq!(covered, end);
            }
            assert!(shard_slices.next().is_none());
        }
        assert_eq!(shards[0].id, ShardId { height: 2, index: 1 });
    }

    #[test]
    fn invocations_stay_below_the_round_limit_of_drivers() {
        let size = |counts, iterations| {
            let program = program(counts);
            let plain = PlainProgram::new(&program).expect("recipes are plain");
            slice_iterations(&plain, iterations) / WORKGROUP_SIZE
        };
        // Large jobs get the largest slices; small jobs are spread over more workgroups.
        assert_eq!(size(CountRecipe::Poisson(2.0), 1 << 30), 256);
        assert_eq!(size(CountRecipe::Poisson(2.0), 1 << 20), MIN_INVOCATION_ITERATIONS);
        // With many draws, up to the maximum, the loop rounds stay below the limit at which a
        // driver ends an invocation.
        assert!((5..=20).contains(&size(CountRecipe::Poisson(300.0), 1 << 30)));
        assert_eq!(size(CountRecipe::Constant(32_768), 1 << 30), 1);
        let rare = CountRecipe::Block { at: u64::MAX - 5, count: 32_768 };
        assert!(size(rare, 1 << 30) * (32_768 / 8 + 16) < 65_535);
    }
}
