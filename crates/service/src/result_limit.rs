//! The largest result of a shard that workers can send, and what refuses envelopes whose shards
//! have larger ones. `forge run` has no such limit: its bus is memory.

use forge_contract::digest::Digest;
use forge_kernel::{request::Request, result_size::ResultSize};
use quick_cache::sync::Cache;

/// Bytes of a result's message besides the result: the attestation, the subject and headers.
const MESSAGE_OVERHEAD: usize = 8 << 10;

/// Answers in [`ExcessSizes`], of some 100 bytes each.
const CACHED_ANSWERS: usize = 1024;

/// Caches whether the results of shards are too large: the answer may execute a part of the model.
#[derive(Debug)]
pub struct ExcessSizes(Cache<ShardSize, Option<ResultSize>>);

/// What determines the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ShardSize {
    program: Digest,
    iterations: u64,
    shard_height: u32,
    /// Largest result, in bytes.
    limit: u64,
}

impl ShardSize {
    fn new(request: &Request, limit: u64) -> Self {
        let (iterations, shard_height) = (request.plan.iterations(), request.plan.shard_height());
        Self { program: request.program_digest, iterations, shard_height, limit }
    }
}

impl Default for ExcessSizes {
    fn default() -> Self {
        Self(Cache::new(CACHED_ANSWERS))
    }
}

impl ExcessSizes {
    /// The cached answer of [`Request::excess_result_size`]; `None` if it has to be computed.
    pub fn get(&self, request: &Request, limit: u64) -> Option<Option<ResultSize>> {
        self.0.get(&ShardSize::new(request, limit))
    }

    /// The answer of [`Request::excess_result_size`].
    pub fn get_or_compute(&self, request: &Request, limit: u64) -> Option<ResultSize> {
        self.get(request, limit).unwrap_or_else(|| {
            let excess = request.excess_result_size(limit);
            self.0.insert(ShardSize::new(request, limit), excess);
            excess
        })
    }
}

/// The largest encoded result of a shard, for a bus with this largest payload.
pub fn max_result_bytes(max_payload: usize) -> u64 {
    max_payload.saturating_sub(MESSAGE_OVERHEAD) as u64
}

/// Says that results of shards do not fit into a message, why, and what helps.
pub fn describe_excess(request: &Request, size: &ResultSize, limit: u64) -> String {
    let kib = |bytes: u64| bytes.div_ceil(1 << 10);
    let program = &request.program;
    let (lines, treaties, steps) = (program.lines, program.treaties.len(), program.steps().len());
    let (allocation, remedy) = if program.allocation {
        let part = format!(", and their allocation {} KiB", kib(size.allocation));
        (part, "set report.allocation to false, or use fewer lines, treaties or steps")
    } else {
        (String::new(), "use fewer lines, treaties or steps")
    };
    format!(
        "the results of its shards would have about {} KiB, but a message holds at most {} KiB: the distributions of \
         {lines} lines, {treaties} treaties and {steps} steps take {} KiB{allocation}; {remedy}. `forge run` has no \
         such limit",
        kib(size.total()),
        limit >> 10,
        kib(size.distributions)
    )
}
