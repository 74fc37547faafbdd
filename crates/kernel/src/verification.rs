//! Verification: which shards are executed a second time, and the probability that a wrong result
//! ships all the same. Does not know which agents execute them.
//!
//! Shards are drawn by the [key of the job](crate::job_key), which workers do not have. A worker
//! therefore cannot predict which of its shards will be verified, and every holder of the key draws
//! the same shards.

use std::collections::BinaryHeap;

use forge_contract::{
    artifact::Escape,
    envelope::{Policy, VerificationLevel},
    ids::JobUid,
    shard::ShardId,
};

use crate::job_key::JobKey;

/// The share of shards that `spotcheck` verifies.
const SPOTCHECK_RATIO: f64 = 0.1;
/// Attackers for which an escape probability is reported: number of pools, and the share of the
/// job's shards that are wrong, over all pools. A share of 0 stands for one wrong shard a pool.
const REPORTED_ATTACKERS: [(u64, f64); 9] =
    [(1, 0.0), (1, 0.01), (1, 0.1), (2, 0.0), (2, 0.01), (2, 0.1), (4, 0.0), (4, 0.01), (4, 0.1)];

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

/// Positions in `shards`, ascending, of the `count` shards to verify; of all shards if there are
/// fewer.
pub fn select_shards(
    key: &JobKey,
    job: JobUid,
    shards: impl Iterator<Item = ShardId>,
    count: u64,
) -> Vec<usize> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    // Only the lowest ranks so far are kept, the highest of them on top.
    let mut lowest = BinaryHeap::new();
    for (at, shard) in shards.enumerate() {
        if lowest.len() < count {
            lowest.push((key.selection_rank(job, shard), at));
        } else if let Some(mut highest) = lowest.peek_mut() {
            let ranked = (key.selection_rank(job, shard), at);
            if ranked < *highest {
                *highest = ranked;
            }
        } else {
            break;
        }
    }
    let mut selected: Vec<_> = lowest.into_iter().map(|(_, at)| at).collect();
    selected.sort_unstable();
    selected
}

/// The probability that a wrong result ships, for several attackers, when `drawn` of `shards` are
/// verified. Leaves out attackers with more wrong shards than there are shards.
pub fn escape_probabilities(shards: u64, drawn: u64) -> Vec<Escape> {
    let escape = |(pools, wrong_share): (u64, f64)| {
        let wrong_shards = ((wrong_share * shards as f64 / pools as f64).ceil() as u64).max(1);
        let probability = escape_probability(shards, drawn, pools, wrong_shards);
        Escape { pools, wrong_shards, probability }
    };
    let attackers = REPORTED_ATTACKERS.into_iter().map(escape);
    let mut escapes: Vec<Escape> =
        attackers.filter(|escape| escape.pools * escape.wrong_shards <= shards).collect();
    escapes.dedup();
    escapes
}

/// The probability that a wrong result ships when `drawn` of `shards` are verified, and each of
/// `pools` returns wrong results for `wrong` shards of its own.
///
/// A pool escapes if none of its wrong shards is drawn; otherwise all its results are verified. A
/// wrong result ships if some pool escapes. A set of j pools escapes with the probability
/// C(n − jw, d) / C(n, d), as the draw is uniform and without replacement, so by inclusion and
/// exclusion the result is Σ (−1)^(j+1) · C(k, j) · C(n − jw, d) / C(n, d) over j = 1 to k.
pub fn escape_probability(shards: u64, drawn: u64, pools: u64, wrong: u64) -> f64 {
    let (mut sum, mut choices) = (0.0, 1.0);
    for j in 1..=pools {
        choices *= (pools - j + 1) as f64 / j as f64;
        let term = choices * miss_probability(shards, drawn, j * wrong);
        sum += if j % 2 == 1 { term } else { -term };
    }
    sum.clamp(0.0, 1.0)
}

/// The probability that a draw of `drawn` out of `shards`, without replacement, holds none of
/// `wrong` given ones: C(shards − wrong, drawn) / C(shards, drawn).
pub fn miss_probability(shards: u64, drawn: u64, wrong: u64) -> f64 {
    let missed = |i: u64| shards.saturating_sub(drawn + i) as f64 / (shards - i) as f64;
    (0..wrong.min(shards)).map(missed).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: u64) -> impl Iterator<Item = ShardId> {
        (0..count).map(|index| ShardId { height: 0, index })
    }

    const UID: JobUid = JobUid([1; 16]);

    fn key(number: u32) -> JobKey {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        JobKey::from(bytes)
    }

    #[test]
    fn selection_depends_on_key_and_job() {
        let choose = |key: &JobKey, job| select_shards(key, job, shards(100), 10);
        assert_eq!(choose(&key(1), UID), choose(&key(1), UID));
        assert_ne!(choose(&key(1), UID), choose(&key(2), UID));
        assert_ne!(choose(&key(1), UID), choose(&key(1), JobUid([2; 16])));
        assert!(choose(&key(1), UID).is_sorted() && choose(&key(1), UID).len() == 10);
        assert_eq!(select_shards(&key(1), UID, shards(3), 9), [0, 1, 2]);
        assert_eq!(select_shards(&key(1), UID, shards(3), 0), [0; 0]);
    }

    #[test]
    fn every_shard_is_selected_with_equal_probability() {
        let mut hits = [0u32; 20];
        for number in 0..2000 {
            select_shards(&key(number), UID, shards(20), 5).into_iter().for_each(|at| hits[at] += 1);
        }
        // 500 expected, standard deviation 19.4.
        assert!(hits.iter().all(|hits| (400..600).contains(hits)), "{hits:?}");
    }

    #[test]
    fn a_miss_is_hypergeometric() {
        // 10 shards, 3 drawn, 2 wrong: C(8,3)/C(10,3) = 56/120.
        assert!((miss_probability(10, 3, 2) - 56.0 / 120.0).abs() < 1e-12);
        assert_eq!(miss_probability(10, 0, 1), 1.0);
        assert_eq!(miss_probability(10, 10, 1), 0.0);
        assert_eq!(miss_probability(10, 6, 5), 0.0);
        assert_eq!(
            (sample_size(0.1, 16), sample_size(0.1, 1), sample_size(0.0, 9), sample_size(1.0, 9)),
            (2, 1, 0, 9)
        );
    }

    #[test]
    fn escape_probability_is_that_of_a_simulated_draw() {
        // 40 shards, 8 drawn; pool p returns wrong results for shards 3p, 3p + 1 and 3p + 2.
        let (trials, pools, wrong) = (20_000, 4, 3);
        let escapes = (0..trials).filter(|&number| {
            let drawn = select_shards(&key(number), UID, shards(40), 8);
            (0..pools).any(|pool| (0..wrong).all(|i| !drawn.contains(&(pool * wrong + i))))
        });
        let (share, expected) = (
            escapes.count() as f64 / f64::from(trials),
            escape_probability(40, 8, pools as u64, wrong as u64),
        );
        // The standard deviation is below 0.0036.
        assert!((share - expected).abs() < 0.015, "{share} {expected}");
    }

    #[test]
    fn one_wrong_shard_ships_unless_it_is_drawn_and_nothing_ships_if_all_are() {
        assert!((escape_probability(100, 10, 1, 1) - 0.9).abs() < 1e-12);
        assert!(escape_probabilities(100, 100).iter().all(|escape| escape.probability == 0.0));
        assert!(escape_probabilities(100, 0).iter().all(|escape| escape.probability == 1.0));
        let single = escape_probabilities(1, 0);
        assert_eq!(single, [Escape { pools: 1, wrong_shards: 1, probability: 1.0 }]);
    }
}
