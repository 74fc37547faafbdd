//! How many bytes the results of a program's shards take, before a shard is executed: encoded, as
//! workers send them, and merged in memory.
//!
//! The upper bound counts every bucket as non-empty, which no portfolio comes near. A pilot of some
//! iterations tells which buckets are in use, and [`bucket_forecast`] which more a shard fills.
//! Nothing else depends on the pilot: it is no part of any result.

mod bucket_forecast;

use std::collections::BTreeMap;

use forge_contract::{
    digest::Digest,
    distribution::{Distribution, Resolution},
    listed_amounts::{MAX_LISTED_AMOUNTS, add_sums},
    program::{Group, MAX_AMOUNT, Occurrence, Program},
    result_details::{AllocationClass, TreatyTally},
    shard_result::ShardResult,
};

use self::bucket_forecast::expected_buckets;
use crate::backend::scalar;

/// Work of a pilot, in the unit of [`Program::max_work`]: a fraction of a second.
const PILOT_WORK: u64 = 1 << 26;
/// Iterations of a pilot.
const PILOT_ITERATIONS: std::ops::RangeInclusive<u64> = 16..=4096;
/// Bytes of an entry of a sorted map from buckets to counts, whose nodes may be half empty.
const MAP_ENTRY_BYTES: u64 = 32;
/// Bytes of a bucket of an allocation in memory, besides its sums.
const ALLOCATION_BUCKET_BYTES: u64 = 96;
/// What an estimate exceeds what the pilot lets expect by.
const MARGIN_SHARE: u64 = 16;
/// Buckets of an octave of an allocation.
const OCTAVE_BUCKETS: u64 = 256;
/// Bytes that a part of the total takes in a bucket, besides the first, where the pilot has none.
const UNSEEN_PART_BYTES: u64 = 4;

/// Bytes of an encoded result, by what takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultSize {
    /// The distributions of the total, lines, steps and treaties, and of the largest occurrences of
    /// all, of lines, groups and steps, and of what treaties cover.
    pub distributions: u64,
    /// The parts of lines and treaties in the total.
    pub allocation: u64,
    /// Everything else.
    pub figures: u64,
}

impl ResultSize {
    /// All bytes.
    pub fn total(&self) -> u64 {
        self.distributions + self.allocation + self.figures
    }
}

/// What a histogram holds, as far as its size depends on it.
#[derive(Debug, Clone, Copy)]
struct HistogramContent {
    /// Non-empty buckets.
    buckets: u64,
    /// Iterations outside the fullest bucket.
    spread: u64,
    /// Bytes of the listed amounts with their iterations.
    listed_bytes: u64,
}

/// What results hold whose size depends on the amounts.
struct ResultContent {
    total: HistogramContent,
    largest: HistogramContent,
    quantities: Vec<HistogramContent>,
    /// Classes of the allocation.
    allocation: u64,
    /// Bytes of the sums of all classes of the allocation.
    sums: u64,
}

/// The size of an encoded result of this many iterations, if it is expected to exceed `limit`.
/// `digest` is the program's.
pub fn excess_size(program: &Program, digest: Digest, iterations: u64, limit: u64) -> Option<ResultSize> {
    if upper_bound(program, iterations).total() <= limit {
        return None;
    }
    Some(estimate(program, digest, iterations)).filter(|size| size.total() > limit)
}

/// Upper bound on the size of an encoded result of this many iterations.
pub fn upper_bound(program: &Program, iterations: u64) -> ResultSize {
    let content = |resolution: Resolution| HistogramContent {
        buckets: iterations.min(resolution.buckets() as u64).max(1),
        spread: iterations,
        listed_bytes: listed_bytes(iterations.min(MAX_LISTED_AMOUNTS as u64), MAX_AMOUNT, iterations),
    };
    let (fine, coarse) = (content(Resolution::FINE), content(Resolution::COARSE));
    let in_bucket = u128::from(iterations / coarse.buckets + 1) * u128::from(MAX_AMOUNT);
    let content = ResultContent {
        total: fine,
        largest: fine,
        quantities: vec![coarse; program.quantities().len()],
        allocation: coarse.buckets,
        sums: coarse.buckets * parts(program) * (varint_length(in_bucket) + 1),
    };
    size(program, iterations, &content)
}

/// The expected size of an encoded result of this many iterations, rather too large than too small:
/// in tests it is above the size, and at most twice the size and 8 KiB. Takes a fraction of a
/// second for a large portfolio.
pub fn estimate(program: &Program, digest: Digest, iterations: u64) -> ResultSize {
    let pilot_iterations = (PILOT_WORK / expected_work(program))
        .clamp(*PILOT_ITERATIONS.start(), *PILOT_ITERATIONS.end())
        .min(iterations.max(1));
    let pilot = scalar::execute_range(program, digest, 0..pilot_iterations);
    let expected = size(program, iterations, &expected_content(&pilot, iterations));
    let bound = upper_bound(program, iterations);
    let with_margin = |bytes: u64| bytes + bytes.div_ceil(MARGIN_SHARE);
    ResultSize {
        distributions: with_margin(expected.distributions).min(bound.distributions),
        allocation: with_margin(expected.allocation).min(bound.allocation),
        figures: expected.figures,
    }
}

/// The work of an iteration with the expected number of amounts, in the unit of
/// [`Program::max_work`].
fn expected_work(program: &Program) -> u64 {
    let expected_count = |group: &Group| {
        let beyond = group.counts.thresholds.iter().map(|&threshold| u128::from(u64::MAX - threshold));
        u64::from(group.counts.offset) + (beyond.sum::<u128>() >> 64) as u64 + 1
    };
    let amounts = program.groups.iter().map(|group| match group.occurrence {
        Occurrence::Claim { .. } => expected_count(group),
        Occurrence::Strike => expected_count(group) * group.components.len() as u64,
        Occurrence::Annual => group.components.len() as u64,
    });
    let work_of_amount = program.max_work() / (program.max_amounts() + 1);
    (amounts.sum::<u64>() + 1) * work_of_amount
}

/// Upper bound on the memory of the merged details of a program's results, in bytes.
pub fn merged_details_bytes(program: &Program) -> u64 {
    let buckets = Resolution::COARSE.buckets() as u64;
    let allocation = if program.allocation { ALLOCATION_BUCKET_BYTES + 16 * parts(program) } else { 0 };
    let quantities = program.quantities().len() as u64;
    buckets * (quantities * MAP_ENTRY_BYTES + allocation) + quantities * 16 * MAX_LISTED_AMOUNTS as u64
}

/// Lines and treaties that the total is allocated to; 0 without an allocation.
fn parts(program: &Program) -> u64 {
    if program.allocation { u64::from(program.lines) + program.treaties.len() as u64 } else { 0 }
}

fn varint_length(value: u128) -> u64 {
    u64::from((128 - value.leading_zeros()).div_ceil(7).max(1))
}

fn size(program: &Program, iterations: u64, content: &ResultContent) -> ResultSize {
    let count = varint_length(iterations.into());
    let fine_marks = program.marks().len() as u64 * count;
    let fine = |histogram| fine_marks + histogram_bytes(histogram, iterations, Resolution::FINE);
    let quantities = program.quantities();
    let coarse = quantities.iter().zip(&content.quantities).map(|(&quantity, &histogram)| {
        let marks = program.marks_of(quantity).len() as u64 * count;
        50 + marks + histogram_bytes(histogram, iterations, Resolution::COARSE)
    });
    let gaps = gap_bytes(content.allocation, Resolution::COARSE) + content.total.listed_bytes;
    let allocation = if program.allocation { gaps + content.allocation + content.sums } else { 0 };
    let reinstatements =
        program.treaties.iter().map(|treaty| TreatyTally::of(treaty).reinstated.len() as u64);
    let treaties: u64 = reinstatements.map(|reinstatements| 90 + 16 * reinstatements).sum();
    ResultSize {
        distributions: fine(content.total) + fine(content.largest) + coarse.sum::<u64>(),
        allocation,
        figures: 200 + 20 * program.component_count() as u64 + 100 * program.groups.len() as u64 + treaties,
    }
}

/// Bytes of an encoded histogram. Few counts are large, because they add up to the iterations.
fn histogram_bytes(histogram: HistogramContent, iterations: u64, resolution: Resolution) -> u64 {
    let HistogramContent { buckets, spread, listed_bytes } = histogram;
    let longer = (1..9).map(|length| buckets.min(spread >> (7 * length)));
    let fullest = varint_length(iterations.into());
    20 + gap_bytes(buckets, resolution) + buckets + longer.sum::<u64>() + fullest + listed_bytes
}

/// Largest number of bytes of a list of this number of amounts up to `max`, with their iterations.
fn listed_bytes(amounts: u64, max: u64, iterations: u64) -> u64 {
    let each = |all: u64| varint_length((all / amounts.max(1)).into());
    amounts * (each(max) + each(iterations)) + 10
}

/// Bytes of the gaps between this many non-empty buckets. A gap of 128 takes a second byte.
fn gap_bytes(buckets: u64, resolution: Resolution) -> u64 {
    let all = resolution.buckets() as u64;
    buckets + buckets.min(all >> 7) + buckets.min(all >> 14)
}

fn expected_content(pilot: &ShardResult, iterations: u64) -> ResultContent {
    let scale = iterations.div_ceil(pilot.iterations.max(1));
    let expected = |distribution: &Distribution, resolution: Resolution| {
        let buckets = expected_buckets(&distribution.histogram, resolution.buckets() as u64, scale);
        let fullest = distribution.histogram.iter().map(|&(_, count)| count).max().unwrap_or(0);
        HistogramContent {
            buckets: buckets.iter().sum::<u64>().min(iterations.max(1)),
            spread: (pilot.iterations - fullest).saturating_mul(scale),
            listed_bytes: listed_bytes(expected_listed(distribution, scale), distribution.max, iterations),
        }
    };
    let details = pilot.details.as_ref();
    let quantities = details.map_or(&[][..], |details| &details.quantities);
    let allocation = details.map_or(&[][..], |details| &details.allocation);
    let buckets = expected_buckets(&pilot.coarse_totals(), Resolution::COARSE.buckets() as u64, scale);
    let listed = expected_listed(&pilot.total, scale);
    let (classes, sums) = if listed > 0 {
        let single = single_amounts(&pilot.total);
        let copies =
            (listed + single).saturating_sub(pilot.total.listed.len() as u64).div_ceil(single.max(1));
        let classes = allocation.iter().zip(&pilot.total.listed);
        let bytes = classes.map(|(class, &(_, iterations))| {
            let sums = class.sums.iter();
            let of_class = sums.map(|&sum| varint_length(sum.saturating_mul(scale.into()))).sum::<u64>();
            of_class * if iterations == 1 { copies } else { 1 }
        });
        (listed, bytes.sum())
    } else {
        (buckets.iter().sum(), sum_bytes(&by_bucket(pilot, allocation), &buckets, scale))
    };
    ResultContent {
        total: expected(&pilot.total, Resolution::FINE),
        largest: expected(&pilot.largest, Resolution::FINE),
        quantities: quantities.iter().map(|q| expected(&q.distribution, Resolution::COARSE)).collect(),
        allocation: classes,
        sums,
    }
}

/// Listed amounts that only one iteration has.
fn single_amounts(distribution: &Distribution) -> u64 {
    distribution.listed.iter().filter(|&&(_, iterations)| iterations == 1).count() as u64
}

/// The expected number of listed amounts, where a shard has `scale` times the iterations of the
/// pilot. An amount that one iteration of the pilot has stands for `scale` amounts.
fn expected_listed(pilot: &Distribution, scale: u64) -> u64 {
    let single = single_amounts(pilot);
    let expected = pilot.listed.len() as u64 - single + single.saturating_mul(scale);
    let most = MAX_LISTED_AMOUNTS as u64;
    // Where twice as many are expected, it is all but certain that none is listed.
    if expected <= 2 * most { expected.min(most) } else { 0 }
}

/// The allocation of a pilot by coarse bucket of the total.
fn by_bucket(pilot: &ShardResult, allocation: &[AllocationClass]) -> Vec<AllocationClass> {
    if pilot.total.listed.is_empty() {
        return allocation.to_vec();
    }
    let mut buckets = BTreeMap::<usize, Vec<u128>>::new();
    for AllocationClass { number, sums } in allocation {
        let bucket = Resolution::COARSE.bucket_of(*number);
        add_sums(buckets.entry(bucket).or_default(), sums.iter().copied());
    }
    buckets.into_iter().map(|(bucket, sums)| AllocationClass { number: bucket as u64, sums }).collect()
}

/// Bytes of the sums of an allocation, from that of a pilot and the number of buckets that are
/// expected in the place of each of its buckets.
fn sum_bytes(pilot: &[AllocationClass], buckets: &[u64], scale: u64) -> u64 {
    let parts = pilot.first().map_or(0, |bucket| bucket.sums.len());
    let (mut bytes, mut start) = (0, 0);
    for octave in pilot.chunk_by(|a, b| a.number / OCTAVE_BUCKETS == b.number / OCTAVE_BUCKETS) {
        let expected: u64 = buckets[start..start + octave.len()].iter().sum();
        start += octave.len();
        for part in 0..parts {
            let sums = || octave.iter().map(|bucket| bucket.sums[part]);
            let non_zero = sums().filter(|&sum| sum > 0).count() as u64;
            let filled = non_zero.saturating_mul(scale).min(expected);
            let sum = sums().sum::<u128>() * u128::from(scale) / u128::from(filled.max(1));
            bytes += expected + filled * (varint_length(sum) - 1);
        }
    }
    let is_unseen = |part: &usize| pilot.iter().all(|bucket| bucket.sums[*part] == 0);
    let unseen_parts = (0..parts).filter(is_unseen).count() as u64;
    bytes + unseen_parts * scale.min(buckets.iter().sum()) * UNSEEN_PART_BYTES
}
