//! Merkle root over an ordered list of digests (RFC 6962, section 2.1). Computes roots only, no
//! proofs.

use crate::digest::Digest;

/// The Merkle root of `leaves`, in order.
///
/// A leaf hashes to `SHA-256(0x00 leaf)`, an inner node to `SHA-256(0x01 left right)`, where the
/// left subtree holds the largest power of two that is smaller than the number of leaves. The root
/// of an empty list is the SHA-256 of the empty string.
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
    fn the_left_subtree_holds_the_largest_smaller_power_of_two() {
        let leaf = |n: u8| Digest([n; 32]);
        let hashed = |n: u8| Digest::hash_parts(&[&[0], &leaf(n).0]);
        let pair = |a: Digest, b: Digest| Digest::hash_parts(&[&[1], &a.0, &b.0]);
        assert_eq!(root(&[leaf(1), leaf(2)]), pair(hashed(1), hashed(2)));
        assert_eq!(root(&[leaf(1), leaf(2), leaf(3)]), pair(pair(hashed(1), hashed(2)), hashed(3)));
        assert_eq!(root(&[]).to_hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
