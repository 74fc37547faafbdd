//! Draws the shards that an audit re-executes. The draw is a hash, so an audit can be repeated.

use forge_contract::{digest::Digest, shard::ShardId};

/// A shard and the hash of its result, as the job recorded them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedShard {
    /// Id of the shard.
    pub id: ShardId,
    /// SHA-256 of its result.
    pub hash: Digest,
}

/// Draws `count` shards: those with the smallest hash of `seed` and shard id. Returns them in shard
/// order.
pub fn draw_shards(shards: &[RecordedShard], count: usize, seed: &[u8]) -> Vec<RecordedShard> {
    let rank = |id: ShardId| Digest::hash_parts(&[b"forge/v1/verify\0", seed, id.to_string().as_bytes()]);
    let mut ranked: Vec<_> = shards.iter().map(|shard| (rank(shard.id), *shard)).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.truncate(count);
    ranked.sort_by_key(|(_, shard)| shard.id.leaves().start);
    ranked.into_iter().map(|(_, shard)| shard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draw_depends_on_the_seed_and_not_on_the_order_of_shards() {
        let shard = |index| RecordedShard { id: ShardId { height: 0, index }, hash: Digest([0; 32]) };
        let shards: Vec<_> = (0..100).map(shard).collect();
        let reversed: Vec<_> = (0..100).rev().map(shard).collect();
        let drawn = |shards: &[RecordedShard], seed| {
            draw_shards(shards, 10, seed).iter().map(|shard| shard.id.index).collect::<Vec<_>>()
        };
        assert_eq!(drawn(&shards, b"a"), drawn(&reversed, b"a"));
        assert_ne!(drawn(&shards, b"a"), drawn(&shards, b"b"));
        assert!(drawn(&shards, b"a").is_sorted());
    }
}
