//! Verification: which shards are executed a second time, and the probability that this detects
//! wrong results. Does not know which agents execute them.
//!
//! Shards are selected by HMAC-SHA-256 (RFC 2104, FIPS 180-4) under a key that workers do not have.
//! A worker therefore cannot predict which of its shards will be verified, and every holder of the
//! key derives the same selection.

use forge_contract::{
    artifact::Detection,
    envelope::{Policy, VerificationLevel},
    ids::JobId,
    shard::ShardId,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The share of shards that `spotcheck` verifies.
const SPOTCHECK_RATIO: f64 = 0.1;
/// Shares of wrong shards for which a detection probability is reported.
const REPORTED_WRONG_SHARES: [f64; 3] = [0.01, 0.05, 0.1];

/// The share of shards to verify under a policy, 0 to 1: `verify_ratio` if given, else the one that
/// `verify` implies.
pub fn ratio(policy: &Policy) -> f64 {
    policy.verify_ratio.unwrap_or(match policy.verify {
        VerificationLevel::None => 0.0,
        VerificationLevel::Spotcheck => SPOTCHECK_RATIO,
        VerificationLevel::Full => 1.0,
    })
}

/// Number of shards to verify: `ratio · shards`, rounded up.
pub fn sample_size(ratio: f64, shards: u64) -> u64 {
    ((ratio * shards as f64).ceil() as u64).min(shards)
}

/// A shard's pseudo-random rank in its job. The shards of lowest rank are verified.
pub fn selection_rank(key: &[u8], job: &JobId, shard: ShardId) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts a key of any length");
    mac.update(format!("forge/v1/verify\0{job}\0{shard}").as_bytes());
    mac.finalize().into_bytes().into()
}

/// Positions in `shards`, ascending, of the `count` shards to verify; of all shards if there are
/// fewer.
pub fn select_shards(
    key: &[u8],
    job: &JobId,
    shards: impl Iterator<Item = ShardId>,
    count: u64,
) -> Vec<usize> {
    let mut ranked: Vec<_> =
        shards.enumerate().map(|(at, shard)| (selection_rank(key, job, shard), at)).collect();
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(ranked.len());
    if count == 0 {
        return Vec::new();
    }
    if count < ranked.len() {
        ranked.select_nth_unstable(count - 1);
        ranked.truncate(count);
    }
    let mut selected: Vec<_> = ranked.into_iter().map(|(_, at)| at).collect();
    selected.sort_unstable();
    selected
}

/// The probabilities of detecting 1%, 5% and 10% of wrong shards, when `checked` of `shards` were
/// verified.
pub fn detection_probabilities(shards: u64, checked: u64) -> Vec<Detection> {
    let detection = |wrong_share: f64| {
        let wrong = (wrong_share * shards as f64).ceil() as u64;
        Detection { wrong_share, probability: detection_probability(shards, wrong, checked) }
    };
    REPORTED_WRONG_SHARES.into_iter().map(detection).collect()
}

/// The probability that a sample of `checked` out of `total` shards, without replacement, holds at
/// least one of `wrong` wrong ones: 1 − C(total − wrong, checked) / C(total, checked).
pub fn detection_probability(total: u64, wrong: u64, checked: u64) -> f64 {
    let missed = |i: u64| total.saturating_sub(checked + i) as f64 / (total - i) as f64;
    1.0 - (0..wrong).map(missed).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: u64) -> impl Iterator<Item = ShardId> {
        (0..count).map(|index| ShardId { height: 0, index })
    }

    #[test]
    fn selection_depends_on_key_and_job() {
        let (a, b): (JobId, JobId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let choose = |key: &[u8], job| select_shards(key, job, shards(100), 10);
        assert_eq!(choose(b"k", &a), choose(b"k", &a));
        assert_ne!(choose(b"k", &a), choose(b"l", &a));
        assert_ne!(choose(b"k", &a), choose(b"k", &b));
        assert!(choose(b"k", &a).is_sorted() && choose(b"k", &a).len() == 10);
        assert_eq!(select_shards(b"k", &a, shards(3), 9), [0, 1, 2]);
        assert_eq!(select_shards(b"k", &a, shards(3), 0), [0; 0]);
    }

    #[test]
    fn every_shard_is_selected_with_equal_probability() {
        let job: JobId = "a".parse().unwrap();
        let mut hits = [0u32; 20];
        for key in 0..2000u32 {
            select_shards(&key.to_le_bytes(), &job, shards(20), 5).into_iter().for_each(|at| hits[at] += 1);
        }
        // 500 expected, standard deviation 19.4.
        assert!(hits.iter().all(|hits| (400..600).contains(hits)), "{hits:?}");
    }

    #[test]
    fn detection_probability_is_hypergeometric() {
        // 10 shards, 2 wrong, 3 checked: 1 - C(8,3)/C(10,3) = 1 - 56/120.
        assert!((detection_probability(10, 2, 3) - (1.0 - 56.0 / 120.0)).abs() < 1e-12);
        assert_eq!(detection_probability(10, 1, 0), 0.0);
        assert_eq!(detection_probability(10, 1, 10), 1.0);
        assert_eq!(detection_probability(10, 5, 6), 1.0);
        assert_eq!(
            (sample_size(0.1, 16), sample_size(0.1, 1), sample_size(0.0, 9), sample_size(1.0, 9)),
            (2, 1, 0, 9)
        );
    }
}
