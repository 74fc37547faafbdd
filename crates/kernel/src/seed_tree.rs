//! The seed tree: the root seed of a run and the seeds of its shards and leaves
//! (docs/determinism.md, sections 2 and 3). Draws nothing.

use forge_contract::{
    digest::Digest,
    shard::{ShardId, TREE_DEPTH},
};

/// Root seed of a run with `seed.mode` derived; `model` is the canonical JSON of `{op, args: model
/// args}`.
pub fn derived_root(model: &[u8]) -> Digest {
    Digest::hash_parts(&[b"forge/v1/root/derived\0", model])
}

/// Root seed of a run with `seed.mode` explicit. Independent of op and args, so that two models
/// with the same explicit seed use common random numbers.
pub fn explicit_root(value: &str) -> Digest {
    Digest::hash_parts(&[b"forge/v1/root/explicit\0", value.as_bytes()])
}

/// The child of a node; `bit` is 0 or 1.
pub fn child(parent: Digest, bit: u8) -> Digest {
    Digest::hash_parts(&[b"forge/v1/seed-tree\0", &parent.0, &[bit]])
}

/// The root of a shard's subtree. It yields the seeds of the shard's leaves and of no other leaf.
pub fn shard_seed(root: Digest, id: ShardId) -> Digest {
    descendant(root, id.index, TREE_DEPTH - id.height)
}

/// The node `levels` below `node`, reached by the lowest `levels` bits of `path`, most significant
/// first.
pub fn descendant(node: Digest, path: u64, levels: u32) -> Digest {
    (0..levels).rev().fold(node, |node, level| child(node, (path >> level) as u8 & 1))
}

/// The seeds of a shard's first `count` leaves, in order. No inner node is computed twice.
pub fn leaf_seeds(shard_seed: Digest, height: u32, count: u64) -> LeafSeeds {
    LeafSeeds { path: vec![shard_seed], height, next: 0, count }
}

/// Iterator over the seeds of a shard's leaves. Keeps the nodes on the path to the last leaf.
#[derive(Debug)]
pub struct LeafSeeds {
    path: Vec<Digest>,
    height: u32,
    next: u64,
    count: u64,
}

impl Iterator for LeafSeeds {
    type Item = Digest;

    fn next(&mut self) -> Option<Digest> {
        if self.next == self.count {
            return None;
        }
        // Nodes above the highest bit that differs from the last leaf's path are shared with it.
        let changed = if self.next == 0 { self.height } else { self.next.trailing_zeros() + 1 };
        self.path.truncate((self.height - changed.min(self.height)) as usize + 1);
        while self.path.len() <= self.height as usize {
            let level = self.height - self.path.len() as u32;
            let parent = self.path[self.path.len() - 1];
            self.path.push(child(parent, (self.next >> level) as u8 & 1));
        }
        self.next += 1;
        self.path.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_node_yields_the_same_leaf_seeds_as_the_root() {
        let root = explicit_root("tree");
        for id in [
            ShardId { height: 0, index: 5 },
            ShardId { height: 3, index: 2 },
            ShardId { height: 6, index: (1 << 26) - 1 },
        ] {
            let seeds: Vec<_> = leaf_seeds(shard_seed(root, id), id.height, 1 << id.height).collect();
            let direct: Vec<_> = id.leaves().map(|leaf| descendant(root, leaf, TREE_DEPTH)).collect();
            assert_eq!(seeds, direct);
        }
    }
}
