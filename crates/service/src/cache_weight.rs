//! How much room a compiled program takes in a cache: caches are bounded in entries and in bytes.

use std::sync::Arc;

use forge_contract::{digest::Digest, program::Program};
use forge_kernel::request::CompiledModel;
use quick_cache::{Weighter, sync::Cache};

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

/// A cache of at most `capacity` entries and [`MAX_CACHED_BYTES`].
pub(crate) fn bounded_cache<V: Clone>(capacity: usize) -> Cache<Digest, V, CacheWeight>
where
    CacheWeight: Weighter<Digest, V>,
{
    // Half an entry of room is left, because the cache takes none that would fill all of it.
    let least = 2 * MAX_CACHED_BYTES / (2 * capacity as u64 + 1);
    Cache::with_weighter(capacity, MAX_CACHED_BYTES, CacheWeight { least })
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

    #[test]
    fn entries_and_bytes_are_bounded() {
        let small = program(1);
        for capacity in [1, 2, 3, 16, 32] {
            let cache = bounded_cache(capacity);
            (0..40).for_each(|number| cache.insert(Digest([number; 32]), Arc::clone(&small)));
            assert!((1..=capacity).contains(&cache.len()), "{} of {capacity}", cache.len());
        }
        let (cache, large) = (bounded_cache(32), program(16));
        (0..40).for_each(|number| cache.insert(Digest([number; 32]), Arc::clone(&large)));
        // 8 MiB each.
        assert!((6..=8).contains(&cache.len()), "{}", cache.len());
    }
}
