//! What the device leaves for a shard, its record and two histograms, read as a shard result.

use ethnum::U256;
use forge_contract::{
    program::{MAX_AMOUNT, Program},
    shard_result::{BUCKETS, Distribution, ShardResult, Tally, bucket_of},
};

// Words of a record, as shader/record.wgsl has them.
const SUM: usize = 0;
const SUM_SQUARES: usize = 3;
const EXTREMES: usize = 8;
const IDLE: usize = 16;
const CAPPED: usize = 17;
const TALLIES: usize = 18;
const MAX_MARKS: usize = 17;

/// Words in a record of a program of so many components.
pub(crate) fn words(components: usize) -> usize {
    TALLIES + 4 * components + 2 * MAX_MARKS
}

/// The result of a shard of so many iterations.
pub(crate) fn result(program: &Program, iterations: u64, record: &[u32], histograms: &[u32]) -> ShardResult {
    let marks = program.marks();
    let at_marks = TALLIES + 4 * program.components.len();
    let idle = u64::from(record[IDLE]);
    let distribution = |which: usize, at_idle: u64| {
        let at_marks: Vec<u64> =
            (0..marks.len()).map(|mark| record[at_marks + 2 * mark + which].into()).collect();
        // What the device did not put into the histogram: the iterations on marks, and those without an occurrence.
        let mut others: Vec<_> = marks.iter().copied().zip(at_marks.iter().copied()).collect();
        if !marks.contains(&at_idle) {
            others.push((at_idle, idle));
        }
        let (min, max) = (!long(record, EXTREMES + 4 * which), long(record, EXTREMES + 4 * which + 2));
        let counts = &histograms[which * BUCKETS..][..BUCKETS];
        Distribution { min, max, at_marks, histogram: buckets(counts, (min, max), &others) }
    };
    let tally = |component: usize| Tally {
        occurrences: long(record, TALLIES + 4 * component),
        capped: long(record, TALLIES + 4 * component + 2),
    };
    ShardResult {
        iterations,
        components: (0..program.components.len()).map(tally).collect(),
        capped: record[CAPPED].into(),
        sum: limbs(&record[SUM..SUM_SQUARES]).as_u128(),
        sum_squares: limbs(&record[SUM_SQUARES..EXTREMES]),
        total: distribution(0, program.base.min(program.cap)),
        largest: distribution(1, 0),
    }
}

fn long(words: &[u32], at: usize) -> u64 {
    u64::from(words[at]) | u64::from(words[at + 1]) << 32
}

fn limbs(words: &[u32]) -> U256 {
    words.iter().rev().fold(U256::ZERO, |sum, &word| sum << 32u32 | U256::from(word))
}

/// The non-empty buckets between two amounts: counted ones, and more iterations on some amounts.
fn buckets(counts: &[u32], (min, max): (u64, u64), others: &[(u64, u64)]) -> Vec<(u32, u64)> {
    if min > max || max > MAX_AMOUNT {
        return Vec::new();
    }
    let first = bucket_of(min);
    let counted = (first as u32..).zip(&counts[first..=bucket_of(max)]).filter(|&(_, &count)| count > 0);
    let mut all: Vec<_> = counted.map(|(bucket, &count)| (bucket, u64::from(count))).collect();
    for &(amount, iterations) in others.iter().filter(|&&(_, iterations)| iterations > 0) {
        let bucket = bucket_of(amount) as u32;
        match all.binary_search_by_key(&bucket, |&(bucket, _)| bucket) {
            Ok(at) => all[at].1 += iterations,
            Err(at) => all.insert(at, (bucket, iterations)),
        }
    }
    all
}
