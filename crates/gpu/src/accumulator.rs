//! Decodes what the device returns for a shard, an accumulator and two histograms, into a shard
//! result.

use ethnum::U256;
use forge_contract::{
    marks::MAX_PLAIN_MARKS,
    plain_program::PlainProgram,
    program::MAX_AMOUNT,
    shard_result::{Distribution, HISTOGRAM_BUCKETS, ShardResult, Tally, bucket_of},
};

// Words of an accumulator. They must match shader/accumulator.wgsl.
const SUM: usize = 0;
const SUM_SQUARES: usize = 3;
const EXTREMES: usize = 8;
const EMPTY: usize = 16;
const CAPPED: usize = 17;
const TALLIES: usize = 18;

/// Number of words of an accumulator for a program with `components` components.
pub(crate) fn accumulator_words(components: usize) -> usize {
    TALLIES + 4 * components + 2 * MAX_PLAIN_MARKS
}

/// Decodes the result of a shard of `iterations` iterations. `histograms` holds that of the total,
/// then that of the largest occurrence.
pub(crate) fn decode_shard_result(
    program: &PlainProgram<'_>,
    iterations: u64,
    accumulator: &[u32],
    histograms: &[u32],
) -> ShardResult {
    let marks = program.marks();
    let mark_counts = TALLIES + 4 * program.components.len();
    let empty_iterations = u64::from(accumulator[EMPTY]);
    // `index` is 0 for the total and 1 for the largest occurrence; iterations without an occurrence
    // have `empty_amount`.
    let distribution = |index: usize, empty_amount: u64| {
        let at_marks: Vec<u64> =
            (0..marks.len()).map(|mark| accumulator[mark_counts + 2 * mark + index].into()).collect();
        // The device counts iterations on a mark, and those without an occurrence, outside the
        // histogram.
        let mut uncounted: Vec<_> = marks.iter().copied().zip(at_marks.iter().copied()).collect();
        if !marks.contains(&empty_amount) {
            uncounted.push((empty_amount, empty_iterations));
        }
        let (min, max) =
            (!read_u64(accumulator, EXTREMES + 4 * index), read_u64(accumulator, EXTREMES + 4 * index + 2));
        let counts = &histograms[index * HISTOGRAM_BUCKETS..][..HISTOGRAM_BUCKETS];
        let histogram = merge_buckets(counts, (min, max), &uncounted);
        Distribution { min, max, at_marks, histogram, listed: Vec::new() }
    };
    let tally = |component: usize| Tally {
        occurrences: read_u64(accumulator, TALLIES + 4 * component),
        capped: read_u64(accumulator, TALLIES + 4 * component + 2),
    };
    ShardResult {
        iterations,
        components: (0..program.components.len()).map(tally).collect(),
        capped: accumulator[CAPPED].into(),
        sum: read_limbs(&accumulator[SUM..SUM_SQUARES]).as_u128(),
        sum_squares: read_limbs(&accumulator[SUM_SQUARES..EXTREMES]),
        total: distribution(0, program.base.min(program.cap)),
        largest: distribution(1, 0),
        details: None,
    }
}

/// Reads two words, the low one first.
fn read_u64(words: &[u32], index: usize) -> u64 {
    u64::from(words[index]) | u64::from(words[index + 1]) << 32
}

/// Reads an integer of several words, the low one first.
fn read_limbs(words: &[u32]) -> U256 {
    words.iter().rev().fold(U256::ZERO, |sum, &word| sum << 32u32 | U256::from(word))
}

/// The non-empty buckets from that of `min` to that of `max`: the counts of the device, with the
/// iterations of `uncounted` added at their amounts. Empty if the extremes are not valid amounts,
/// which only a faulty device returns.
fn merge_buckets(counts: &[u32], (min, max): (u64, u64), uncounted: &[(u64, u64)]) -> Vec<(u32, u64)> {
    if min > max || max > MAX_AMOUNT {
        return Vec::new();
    }
    let first = bucket_of(min);
    let counted = (first as u32..).zip(&counts[first..=bucket_of(max)]).filter(|&(_, &count)| count > 0);
    let mut buckets: Vec<_> = counted.map(|(bucket, &count)| (bucket, u64::from(count))).collect();
    for &(amount, iterations) in uncounted.iter().filter(|&&(_, iterations)| iterations > 0) {
        let bucket = bucket_of(amount) as u32;
        match buckets.binary_search_by_key(&bucket, |&(bucket, _)| bucket) {
            Ok(index) => buckets[index].1 += iterations,
            Err(index) => buckets.insert(index, (bucket, iterations)),
        }
    }
    buckets
}
