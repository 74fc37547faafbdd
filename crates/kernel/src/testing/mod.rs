//! Support for tests of backends (feature `testing`): the conformance suite, and programs generated
//! for tests. Services must not enable the feature.

pub mod agreement;
pub mod conformance;
pub mod portfolios;
mod recipe;

use forge_contract::{
    digest::Digest,
    program::Segment,
    shard::{Shard, ShardId},
};

pub use self::recipe::{AmountRecipe, ComponentRecipe, CountRecipe, ProgramRecipe, any_recipe};
use crate::backend::scalar;

/// A shard whose seed depends on its id only.
pub fn sample_shard(height: u32, index: u64, iterations: u64) -> Shard {
    let id = ShardId { height, index };
    Shard { id, iterations, seed: Digest::hash_parts(&[b"conformance ", id.to_string().as_bytes()]) }
}

/// The amount of one occurrence, before the component's cap, by the scalar reference.
pub fn amount_of_draw(segment_bits: u32, table: &[Segment], draw: u64) -> u64 {
    scalar::amount_of_draw(segment_bits, table, draw)
}
