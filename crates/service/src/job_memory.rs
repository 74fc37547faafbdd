//! How much memory an aggregator needs for a job, as an upper bound that is known before any
//! result. A test of the aggregator compares the figures with what it allocates.

use forge_kernel::{request::Request, result_size};

/// Memory for each shard: its attestation, a verdict on it, and the documents about both, with
/// texts of the greatest length. Results need no verdict in most jobs, but may in every one.
pub const BYTES_PER_SHARD: u64 = 8 << 10;
/// Memory for the request, its program, and the merged result, both without details.
const FIXED_BYTES: u64 = 3 << 20;
/// Copies of the merged details at the same time: the prefix, a result that is merged or tested for
/// convergence, and what the documents are made from.
const DETAILS_COPIES: u64 = 3;
/// Copies of a program: decoded, and encoded.
const PROGRAM_COPIES: u64 = 2;
/// Memory for the merge of one segment between two checkpoints.
const SEGMENT_BYTES: u64 = 768 << 10;
/// Upper bound on the segments that are merged at the same time. Planners dispatch shards up to
/// eight checkpoints ahead.
const MAX_OPEN_SEGMENTS: u64 = 10;

/// Upper bound on the memory that an aggregator takes to reduce and to publish a job, in bytes.
/// Kept and held results are extra.
pub fn aggregation_bytes(request: &Request) -> u64 {
    let plan = &request.plan;
    let segments = (plan.checkpoints().len() as u64).min(MAX_OPEN_SEGMENTS);
    let program = PROGRAM_COPIES * request.program.table_bytes();
    let details =
        if request.program.details { result_size::merged_details_bytes(&request.program) } else { 0 };
    FIXED_BYTES
        + program
        + DETAILS_COPIES * details
        + segments * (SEGMENT_BYTES + details)
        + plan.shard_count() * BYTES_PER_SHARD
}

/// Says that a job needs more memory than there is for all jobs.
pub fn describe_excess(shards: u64, bytes: u64, total: u64) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    format!(
        "the job has {shards} shards, for which an aggregator needs {} MiB of memory, but has {} MiB for \
         jobs (FORGE_JOB_MEMORY_MIB)",
        mib(bytes),
        mib(total)
    )
}
