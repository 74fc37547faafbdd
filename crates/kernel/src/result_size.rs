//! How many bytes the results of a program's shards take, before a shard is executed: encoded, as
//! workers send them, and merged in memory.
//!
//! The upper bound counts every bucket as non-empty, which no portfolio comes near. So where it
//! exceeds a limit, a pilot of some hundred iterations tells which buckets are in use. Nothing else
//! depends on the pilot: it is no part of any result.

use forge_contract::{
    digest::Digest,
    distribution::{Distribution, Resolution},
    program::{MAX_AMOUNT, Program},
    result_details::TreatyTally,
    shard_result::ShardResult,
};

use crate::backend::scalar;

/// Work of a pilot, in the unit of [`Program::max_work`]: a fraction of a second.
const PILOT_WORK: u64 = 1 << 26;
/// Iterations of a pilot.
const PILOT_ITERATIONS: std::ops::RangeInclusive<u64> = 16..=1024;
/// Bytes of an entry of a sorted map from buckets to counts, whose nodes may be half empty.
const MAP_ENTRY_BYTES: u64 = 32;
/// Bytes of a bucket of an allocation in memory, besides its sums.
const ALLOCATION_BUCKET_BYTES: u64 = 96;
/// Octaves with this share of their iterations on one amount have an atom there.
const ATOM_SHARE: u64 = 2;

/// Bytes of an encoded result, by what takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultSize {
    /// The distributions of the total, the largest occurrence, lines, steps and treaties.
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

/// Numbers of non-empty buckets, and the bytes of the sums of one bucket of the allocation.
struct BucketNumbers {
    total: u64,
    largest: u64,
    quantities: Vec<u64>,
    allocation: u64,
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
    let buckets = |resolution: Resolution| iterations.min(resolution.buckets() as u64).max(1);
    let coarse = buckets(Resolution::COARSE);
    let in_bucket = u128::from(iterations / coarse + 1) * u128::from(MAX_AMOUNT);
    let numbers = BucketNumbers {
        total: buckets(Resolution::FINE),
        largest: buckets(Resolution::FINE),
        quantities: vec![coarse; program.quantities().len()],
        allocation: coarse,
        sums: parts(program) * (varint_length(in_bucket) + 1),
    };
    size(program, iterations, &numbers)
}

/// The expected size of an encoded result of this many iterations, rather too large than too small.
pub fn estimate(program: &Program, digest: Digest, iterations: u64) -> ResultSize {
    let pilot_iterations = (PILOT_WORK / program.max_work())
        .clamp(*PILOT_ITERATIONS.start(), *PILOT_ITERATIONS.end())
        .min(iterations.max(1));
    let pilot = scalar::execute_range(program, digest, 0..pilot_iterations);
    size(program, iterations, &expected_buckets(program, &pilot, iterations))
}

/// Upper bound on the memory of the merged details of a program's results, in bytes.
pub fn merged_details_bytes(program: &Program) -> u64 {
    let buckets = Resolution::COARSE.buckets() as u64;
    let allocation = if program.allocation { ALLOCATION_BUCKET_BYTES + 16 * parts(program) } else { 0 };
    buckets * (program.quantities().len() as u64 * MAP_ENTRY_BYTES + allocation)
}

/// Lines and treaties that the total is allocated to; 0 without an allocation.
fn parts(program: &Program) -> u64 {
    if program.allocation { u64::from(program.lines) + program.treaties.len() as u64 } else { 0 }
}

fn varint_length(value: u128) -> u64 {
    u64::from((128 - value.leading_zeros()).div_ceil(7).max(1))
}

fn size(program: &Program, iterations: u64, numbers: &BucketNumbers) -> ResultSize {
    let count = varint_length(iterations.into());
    let fine_marks = program.marks().len() as u64 * count;
    let fine = |buckets| fine_marks + histogram_bytes(buckets, iterations, Resolution::FINE);
    let quantities = program.quantities();
    let coarse = quantities.iter().zip(&numbers.quantities).map(|(&quantity, &buckets)| {
        let marks = program.marks_of(quantity).len() as u64 * count;
        50 + marks + histogram_bytes(buckets, iterations, Resolution::COARSE)
    });
    let gaps = gap_bytes(numbers.allocation, Resolution::COARSE);
    let allocation = if program.allocation { gaps + numbers.allocation * (1 + numbers.sums) } else { 0 };
    let reinstatements =
        program.treaties.iter().map(|treaty| TreatyTally::of(treaty).reinstated.len() as u64);
    let treaties: u64 = reinstatements.map(|reinstatements| 90 + 16 * reinstatements).sum();
    ResultSize {
        distributions: fine(numbers.total) + fine(numbers.largest) + coarse.sum::<u64>(),
        allocation,
        figures: 200 + 20 * program.component_count() as u64 + 100 * program.groups.len() as u64 + treaties,
    }
}

/// Bytes of an encoded histogram with this many non-empty buckets. Of the counts, which add up to
/// the iterations, few are large.
fn histogram_bytes(buckets: u64, iterations: u64, resolution: Resolution) -> u64 {
    let longer = (1..9).map(|length| buckets.min(iterations >> (7 * length)));
    20 + gap_bytes(buckets, resolution) + buckets + longer.sum::<u64>()
}

/// Bytes of the gaps between this many non-empty buckets. A gap of 128 takes a second byte.
fn gap_bytes(buckets: u64, resolution: Resolution) -> u64 {
    let all = resolution.buckets() as u64;
    buckets + buckets.min(all >> 7) + buckets.min(all >> 14)
}

fn expected_buckets(program: &Program, pilot: &ShardResult, iterations: u64) -> BucketNumbers {
    let scale = iterations.div_ceil(pilot.iterations.max(1));
    let expected = |distribution: &Distribution, resolution| {
        expected_buckets_of(distribution, resolution, scale).min(iterations.max(1))
    };
    let details = pilot.details.as_ref();
    let quantities = details.map_or(&[][..], |details| &details.quantities);
    let allocation = details.map_or(&[][..], |details| &details.allocation);
    let sums = allocation.iter().flat_map(|bucket| &bucket.sums);
    let sums: u64 = sums.map(|&sum| varint_length(sum * u128::from(scale))).sum();
    let coarse_total = Distribution {
        min: pilot.total.min,
        max: pilot.total.max,
        at_marks: Vec::new(),
        histogram: pilot.coarse_totals(),
    };
    BucketNumbers {
        total: expected(&pilot.total, Resolution::FINE),
        largest: expected(&pilot.largest, Resolution::FINE),
        quantities: quantities.iter().map(|q| expected(&q.distribution, Resolution::COARSE)).collect(),
        allocation: if program.allocation { expected(&coarse_total, Resolution::COARSE) } else { 0 },
        sums: sums.div_ceil((allocation.len() as u64).max(1)),
    }
}

/// The expected number of non-empty buckets in `scale` times as many iterations as a pilot had: in
/// every octave of the pilot, and beyond its ends.
fn expected_buckets_of(distribution: &Distribution, resolution: Resolution, scale: u64) -> u64 {
    let octave_buckets = resolution.bucket_of(MAX_AMOUNT).trailing_ones();
    let octave_of = |bucket: u32| bucket >> octave_buckets;
    let in_octave = 1_u64 << octave_buckets;
    let octaves = distribution.histogram.chunk_by(|a, b| octave_of(a.0) == octave_of(b.0));
    let within: u64 = octaves
        .map(|octave| {
            let count: u64 = octave.iter().map(|&(_, count)| count).sum();
            let largest = octave.iter().map(|&(_, count)| count).max().unwrap_or(0);
            let is_atom = largest > 4 && largest * ATOM_SHARE > count;
            let spread = if is_atom { count - largest } else { count };
            (u64::from(is_atom) + spread.saturating_mul(scale)).min(in_octave)
        })
        .sum();
    // Of a tail without a mean, half of the iterations beyond an amount are beyond twice that
    // amount.
    let tail: u64 = (0..64).map(|octave| (scale >> octave).min(in_octave)).sum();
    let tails = if distribution.min == 0 { 1 } else { 2 };
    (within + tails * tail).min(resolution.buckets() as u64)
}

#[cfg(test)]
mod tests {
    use forge_contract::shard::LEAF_ITERATIONS;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        backend::{Backend, scalar::Scalar},
        request::Request,
    };

    fn request(args: Value) -> Request {
        let envelope =
            json!({"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": args});
        Request::from_json(envelope.to_string().as_bytes()).unwrap()
    }

    /// As many lines as there may be, each with a claim of this spread, under this many quota
    /// shares in a step each.
    fn wide(sigma: f64, steps: u32, allocation: bool) -> Request {
        let lines: Vec<String> = (0..16).map(|line| format!("line {line}")).collect();
        let claims =
            |line: &String| json!({"line": line, "severity": {"lognormal": {"mu": 9, "sigma": sigma}}});
        let treaty = |step: u32| {
            json!({"name": format!("share {step}"), "step": step, "kind": "quota_share", "covers": lines,
                "cession": 0.05})
        };
        request(json!({
            "iterations": LEAF_ITERATIONS, "lines": lines, "report": {"allocation": allocation},
            "groups": [{"name": "all", "count": {"poisson": 2},
                "strikes": lines.iter().map(claims).collect::<Vec<_>>()}],
            "treaties": (1..=steps).map(treaty).collect::<Vec<_>>()
        }))
    }

    fn encoded_length(request: &Request) -> u64 {
        let shard = request.shard(request.plan.shards().next().unwrap());
        Scalar.execute(&request.program, &[shard], &()).unwrap()[0].encode().len() as u64
    }

    #[test]
    fn the_estimate_is_near_the_length_and_below_the_bound() {
        for request in [wide(5.0, 32, false), wide(1.0, 2, true), wide(5.0, 4, true), wide(2.0, 0, false)] {
            let (length, iterations) = (encoded_length(&request), request.plan.iterations());
            let expected = estimate(&request.program, request.program_digest, iterations);
            let bound = upper_bound(&request.program, iterations).total();
            assert!((length..2 * length).contains(&expected.total()), "{length}: {expected:?}");
            assert!(length <= bound, "{length}, {bound}");
            assert_eq!(request.excess_result_size(length - 1), Some(expected));
            assert_eq!(request.excess_result_size(2 * length), None);
        }
    }

    #[test]
    fn small_results_need_no_pilot() {
        let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "args":
            {"iterations": 281474976710656, "claim_freq": 3, "claim_severity_mu": 8, "claim_severity_sig": 2}}"#;
        let request = Request::from_json(envelope).unwrap();
        assert!(upper_bound(&request.program, 1 << 28).total() < 1 << 19);
        assert_eq!(request.excess_result_size(1 << 19), None);
    }
}
