//! Merkle root over an ordered list of digests, as RFC 6962 section 2.1 builds it.

use crate::digest::Digest;

/// The root over `leaves` in order: `SHA-256(0x00 leaf)` for a leaf, `SHA-256(0x01 left right)` for a node whose
/// left subtree holds the largest power of two smaller than the number of leaves. No leaves: SHA-256 of nothing.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::hash_parts(&[]),
        [leaf] => Digest::hash_parts(&[&[0], &leaf.0]),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            Digest::hash_parts(&[&[1], &root(left).0, &root(right).0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_largest_smaller_power_of_two() {
        let leaf = |n: u8| Digest([n; 32]);
        let hashed = |n: u8| Digest::hash_parts(&[&[0], &leaf(n).0]);
        let pair = |a: Digest, b: Digest| Digest::hash_parts(&[&[1], &a.0, &b.0]);
        assert_eq!(root(&[leaf(1), leaf(2)]), pair(hashed(1), hashed(2)));
        assert_eq!(root(&[leaf(1), leaf(2), leaf(3)]), pair(pair(hashed(1), hashed(2)), hashed(3)));
        assert_eq!(root(&[]).to_hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
