//! Drawing shards to execute again: by a hash, so that an audit can be repeated.

use forge_contract::{digest::Digest, shard::ShardId};

/// A shard and the hash of its result, as a job left them on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The shard.
    pub id: ShardId,
    /// SHA-256 of its result.
    pub hash: Digest,
}

/// `count` of `shards`, drawn by the hash of `seed` and the shard's id: those with the smallest hash, in shard order.
pub fn draw(shards: &[Recorded], count: usize, seed: &[u8]) -> Vec<Recorded> {
    let hash = |id: ShardId| Digest::hash_parts(&[b"forge/v1/verify\0", seed, id.to_string().as_bytes()]);
    let mut ranked: Vec<_> = shards.iter().map(|shard| (hash(shard.id), *shard)).collect();
    ranked.sort_by_key(|(hash, _)| *hash);
    ranked.truncate(count);
    ranked.sort_by_key(|(_, shard)| shard.id.leaves().start);
    ranked.into_iter().map(|(_, shard)| shard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_its_seed_and_not_on_the_order() {
        let shard = |index| Recorded { id: ShardId { height: 0, index }, hash: Digest([0; 32]) };
        let shards: Vec<_> = (0..100).map(shard).collect();
        let reversed: Vec<_> = (0..100).rev().map(shard).collect();
        let ids = |shards: &[Recorded], seed| {
            draw(shards, 10, seed).iter().map(|shard| shard.id.index).collect::<Vec<_>>()
        };
        assert_eq!(ids(&shards, b"a"), ids(&reversed, b"a"));
        assert_ne!(ids(&shards, b"a"), ids(&shards, b"b"));
        assert!(ids(&shards, b"a").is_sorted());
    }
}
