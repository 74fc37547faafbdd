//! The largest result of a shard that workers can send, and what refuses envelopes whose shards
//! have larger ones. `forge run` has no such limit: its bus is memory.

use forge_kernel::{request::Request, result_size::ResultSize};

/// Bytes of a result's message besides the result: the attestation, the subject and headers.
const MESSAGE_OVERHEAD: usize = 8 << 10;

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
