//! Cutting shards into slices: what one workgroup executes of one leaf. A pure function of program and shards. Slices are cut
//! so that no invocation runs for long, and short shards still occupy a large device.

use forge_contract::{
    digest::Digest,
    program::{Component, CountTable, Program},
    shard::{LEAF_ITERATIONS, Shard},
};
use forge_kernel::seed::{LeafSeeds, leaf_seeds};

/// Invocations in a workgroup, as in shader/record.wgsl.
pub(crate) const WIDTH: u64 = 256;
/// Iterations of one invocation, at most: the limbs of its sums hold no more.
const MAX_PER_INVOCATION: u64 = 256;
/// Rounds of all its loops, at most: one driver silently ends an invocation after 65,535.
const MAX_ROUNDS: u64 = 60_000;
/// Draws of one invocation, about.
const DRAWS: f64 = 4096.0;
/// Workgroups that a large device is occupied by.
const OCCUPIED: u64 = 2048;
/// Iterations of one invocation, at least, where nothing else forbids: below, adding up costs more than executing.
const MIN_PER_INVOCATION: u64 = 8;

/// Draws of an iteration of this program, on average.
pub(crate) fn mean_draws(program: &Program) -> f64 {
    let of_component = |component: &Component| {
        let CountTable { offset, thresholds } = &component.counts;
        let above: f64 = thresholds.iter().map(|&t| 1.0 - t as f64 / 2f64.powi(64)).sum();
        1.0 + f64::from(*offset) + above
    };
    program.components.iter().map(of_component).sum()
}

/// Iterations of a slice of this program, when so many are to be executed.
pub(crate) fn slice_iterations(program: &Program, iterations: u64) -> u64 {
    let mut rounds = 2 + program.marks().len() as u64;
    let mut most = program.components.len() as u64;
    for component in &program.components {
        let counts = &component.counts;
        rounds += u64::from(counts.thresholds.len().checked_ilog2().map_or(0, |log| log + 1));
        most += u64::from(counts.offset) + counts.thresholds.len() as u64;
    }
    let bounded = MAX_ROUNDS / (rounds + most.div_ceil(8));
    let short = (DRAWS / mean_draws(program)) as u64;
    let spread = iterations / (WIDTH * OCCUPIED);
    WIDTH * spread.max(MIN_PER_INVOCATION).min(bounded).min(short).clamp(1, MAX_PER_INVOCATION)
}

/// Some iterations of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Which of the shards.
    pub(crate) shard: u32,
    /// Seed of the leaf.
    pub(crate) seed: Digest,
    /// The first iteration in the leaf.
    pub(crate) first: u32,
    /// How many.
    pub(crate) iterations: u32,
}

/// The slices of shards, shard by shard, leaf by leaf.
#[derive(Debug)]
pub(crate) struct Slices<'a> {
    shards: std::iter::Enumerate<std::slice::Iter<'a, Shard>>,
    size: u64,
    current: Option<Current>,
}

/// The shard that is being cut.
#[derive(Debug)]
struct Current {
    shard: u32,
    /// Iterations of the leaves to come.
    left: u64,
    leaves: LeafSeeds,
    /// The leaf that is being cut: its seed, where the next slice begins, and where the leaf ends.
    leaf: Option<(Digest, u64, u64)>,
}

impl<'a> Slices<'a> {
    /// Cuts shards into slices of at most `size` iterations.
    pub(crate) fn new(shards: &'a [Shard], size: u64) -> Self {
        Self { shards: shards.iter().enumerate(), size, current: None }
    }
}

impl Iterator for Slices<'_> {
    type Item = Slice;

    fn next(&mut self) -> Option<Slice> {
        loop {
            let Some(current) = &mut self.current else {
                let (index, shard) = self.shards.next()?;
                let leaves = shard.iterations.div_ceil(LEAF_ITERATIONS);
                let leaves = leaf_seeds(shard.seed, shard.id.height, leaves);
                let left = shard.iterations;
                self.current = Some(Current { shard: index as u32, left, leaves, leaf: None });
                continue;
            };
            match current.leaf {
                Some((seed, first, end)) if first < end => {
                    let iterations = self.size.min(end - first);
                    current.leaf = Some((seed, first + iterations, end));
                    let (first, iterations) = (first as u32, iterations as u32);
                    return Some(Slice { shard: current.shard, seed, first, iterations });
                }
                _ => match current.leaves.next() {
                    Some(seed) => {
                        let end = LEAF_ITERATIONS.min(current.left);
                        current.left -= end;
                        current.leaf = Some((seed, 0, end));
                    }
                    None => self.current = None,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::shard::ShardId;
    use forge_kernel::execute::conformance::{Counts, Part, Recipe, Table, shard};

    use super::*;

    fn program(counts: Counts) -> Program {
        Recipe { parts: vec![Part::new(counts, Table::Noise(1))], ..Recipe::usual() }.program()
    }

    #[test]
    fn slices_cover_every_iteration_once() {
        let shards = [shard(2, 1, 3 * LEAF_ITERATIONS + 1000), shard(0, 9, 0), shard(0, 3, 700)];
        let slices: Vec<_> = Slices::new(&shards, 512).collect();
        for (index, shard) in shards.iter().enumerate() {
            let mut own = slices.iter().filter(|slice| slice.shard == index as u32);
            let leaves = shard.iterations.div_ceil(LEAF_ITERATIONS);
            for (leaf, seed) in (0..).zip(leaf_seeds(shard.seed, shard.id.height, leaves)) {
                let end = LEAF_ITERATIONS.min(shard.iterations - leaf * LEAF_ITERATIONS);
                let mut at = 0;
                while at < end {
                    let slice = own.next().unwrap();
                    assert_eq!((slice.seed, u64::from(slice.first)), (seed, at));
                    assert!((1..=512).contains(&slice.iterations));
                    at += u64::from(slice.iterations);
                }
                assert_eq!(at, end);
            }
            assert!(own.next().is_none());
        }
        assert_eq!(shards[0].id, ShardId { height: 2, index: 1 });
    }

    #[test]
    fn no_invocation_runs_for_long() {
        let size = |counts, iterations| slice_iterations(&program(counts), iterations) / WIDTH;
        // Large jobs get the largest slices, small ones are spread.
        assert_eq!(size(Counts::Poisson(2.0), 1 << 30), 256);
        assert_eq!(size(Counts::Poisson(2.0), 1 << 20), MIN_PER_INVOCATION);
        // Many draws, and the most that there can be: rounds of loops stay below what drivers end.
        assert!((5..=20).contains(&size(Counts::Poisson(300.0), 1 << 30)));
        assert_eq!(size(Counts::Constant(32_768), 1 << 30), 1);
        let rare = Counts::Block { at: u64::MAX - 5, count: 32_768 };
        assert!(size(rare, 1 << 30) * (32_768 / 8 + 16) < 65_535);
    }
}
