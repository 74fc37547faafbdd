//! The shard: an aligned subtree of the seed tree, and the unit of dispatch, retry and
//! verification.
//!
//! Shard ids and their arithmetic only; the kernel plans and seeds shards.

use std::{fmt, ops::Range, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Number of iterations in a leaf of the seed tree.
pub const LEAF_ITERATIONS: u64 = 1 << 16;
/// Number of levels below the root of the seed tree, which therefore has 2^32 leaves.
pub const TREE_DEPTH: u32 = 32;

/// Identifies a subtree: leaves `index · 2^height` to `(index + 1) · 2^height − 1`. Its text form
/// is `height-index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// Number of levels above the leaves, 0 to 32.
    pub height: u32,
    /// Position among the subtrees of this height, from 0.
    pub index: u64,
}

impl ShardId {
    /// The leaves of the subtree, by number.
    pub fn leaves(self) -> Range<u64> {
        self.index << self.height..(self.index + 1) << self.height
    }

    /// The iterations of the subtree, by number, clipped to those before `end`.
    pub fn iterations(self, end: u64) -> Range<u64> {
        let leaves = self.leaves();
        let start = leaves.start * LEAF_ITERATIONS;
        start..(leaves.end * LEAF_ITERATIONS).min(end).max(start)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.height, self.index)
    }
}

/// Error: the text is not a canonical shard id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a shard id is a height from 0 to 32, a dash and an index at that height, as in 4-17")]
pub struct InvalidShardId;

impl FromStr for ShardId {
    type Err = InvalidShardId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (height, index) = text.split_once('-').ok_or(InvalidShardId)?;
        let height = height.parse().map_err(|_| InvalidShardId)?;
        let index = index.parse().map_err(|_| InvalidShardId)?;
        let id = Self { height, index };
        let canonical = height <= TREE_DEPTH && index >> (TREE_DEPTH - height) == 0 && id.to_string() == text;
        if canonical { Ok(id) } else { Err(InvalidShardId) }
    }
}

impl Serialize for ShardId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ShardId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ShardId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ShardId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]{1,2}-[0-9]{1,10}$",
            "description": "The subtree of the seed tree: height, dash, index among the subtrees of that height."
        })
    }
}

/// A shard as a backend executes it. Together with the program it determines the result; the seeds
/// of other shards cannot be derived from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// The subtree to execute.
    pub id: ShardId,
    /// Number of iterations to execute, starting at the subtree's first. Only the last shard of a
    /// run has fewer than its subtree holds.
    pub iterations: u64,
    /// Seed of the subtree's root node in the seed tree.
    pub seed: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_have_one_text_form() {
        let id = ShardId { height: 4, index: 17 };
        assert_eq!("4-17".parse(), Ok(id));
        assert_eq!(id.leaves(), 272..288);
        assert_eq!("0-4294967295".parse::<ShardId>().unwrap().leaves(), 4_294_967_295..4_294_967_296);
        for bad in ["4", "04-17", "4-017", "33-0", "32-1", "4--1", "-", "+4-1"] {
            assert!(bad.parse::<ShardId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_shard_is_clipped_to_the_run() {
        let id = ShardId { height: 1, index: 1 };
        assert_eq!(id.iterations(u64::MAX), 131_072..262_144);
        assert_eq!(id.iterations(131_073), 131_072..131_073);
        assert_eq!(id.iterations(5), 131_072..131_072);
    }
}
