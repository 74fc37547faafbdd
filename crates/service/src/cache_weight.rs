//! How much room a compiled program takes in a cache: caches are bounded in entries and in bytes.

use std::sync::Arc;

use forge_contract::{digest::Digest, program::Program};
use forge_kernel::request::CompiledModel;
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

/// Most bytes of the programs in one cache. A program has up to 10 MiB.
const MAX_CACHED_BYTES: u64 = 64 << 20;

/// Weighs an entry by the bytes of its program, and no less than its part of the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheWeight {
    least: u64,
}

impl CacheWeight {
    fn of(self, program: &Program) -> u64 {
        program.table_bytes().max(self.least)
    }
}

impl Weighter<Digest, Arc<Program>> for CacheWeight {
    fn weight(&self, _: &Digest, program: &Arc<Program>) -> u64 {
        self.of(program)
    }
}

impl Weighter<Digest, CompiledModel> for CacheWeight {
    fn weight(&self, _: &Digest, model: &CompiledModel) -> u64 {
        self.of(&model.program)
    }
}

/// A cache of at most `capacity` entries, at least two, and [`MAX_CACHED_BYTES`]. Half of it is for
/// entries that are used again and again, so a new one always has room.
pub(crate) fn bounded_cache<V: Clone>(capacity: usize) -> Cache<Digest, V, CacheWeight>
where
    CacheWeight: Weighter<Digest, V>,
{
    let options = OptionsBuilder::new()
        .shards(1)
        .estimated_items_capacity(capacity)
        .weight_capacity(MAX_CACHED_BYTES)
        .hot_allocation(0.5)
        .build()
        .expect("the capacities are set");
    let weight = CacheWeight { least: MAX_CACHED_BYTES / (capacity as u64).max(2) };
    Cache::with_options(options, weight, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

#[cfg(test)]
mod tests {
    use forge_contract::{
        plain_program::plain_program,
        program::{CountTable, Segment},
    };

    use super::*;

    /// A program with tables of 512 KiB each.
    fn program(tables: usize) -> Arc<Program> {
        let segment = Segment { left: 1, slope: 0, curve: 0, shift: 31 };
        let component = |_| (CountTable { offset: 1, thresholds: Vec::new() }, vec![segment; 32_768], 100);
        Arc::new(plain_program(1, 0, 1000, 8, (0..tables).map(component)))
    }

    /// Inserts 40 programs. Each is in the cache at first.
    fn insert(cache: &Cache<Digest, Arc<Program>, CacheWeight>, program: &Arc<Program>) {
        for number in 0..40 {
            cache.insert(Digest([number; 32]), Arc::clone(program));
            assert!(cache.get(&Digest([number; 32])).is_some(), "{number}");
        }
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        let small = program(1);
        for capacity in [1, 2, 3, 16, 32] {
            let cache = bounded_cache(capacity);
            insert(&cache, &small);
            assert!((1..=capacity.max(2)).contains(&cache.len()), "{} of {capacity}", cache.len());
        }
        let cache = bounded_cache(32);
        // 8 MiB each.
        insert(&cache, &program(16));
        assert!((4..=8).contains(&cache.len()), "{}", cache.len());
    }
}
