//! The largest result of a shard that workers can send, and what refuses envelopes whose shards
//! have larger ones. `forge run` has no such limit: its bus is memory.

use forge_bus::topology::TopologySettings;
use forge_contract::{
    digest::Digest,
    program::{Group, Occurrence},
};
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
    let has_occurrences = |group: &&Group| group.occurrence != Occurrence::Annual;
    let groups = program.groups.iter().filter(has_occurrences).count();
    let (lines, treaties, steps) = (program.lines, program.treaties.len(), program.steps().len());
    let (allocation, remedy) = if program.allocation {
        let part = format!(", and their allocation {} KiB", kib(size.allocation));
        (part, "set report.allocation to false, or use")
    } else {
        (String::new(), "use")
    };
    // Streams take no larger messages, whatever the server would accept.
    let server = match limit < max_result_bytes(TopologySettings::DEFAULT_MAX_MESSAGE_BYTES) {
        true => "raise `max_payload` of the NATS server to its default, 1 MiB, if it is lower; or ",
        false => "",
    };
    format!(
        "the results of its shards would have about {} KiB, but a message holds at most {} KiB{}: the distributions \
         of {lines} lines, {groups} groups with occurrences, {treaties} treaties and {steps} steps take {} \
         KiB{allocation}; {server}{remedy} fewer lines, groups, treaties or steps. `forge run` has no such limit",
        kib(size.total()),
        limit >> 10,
        if server.is_empty() { ", also where `max_payload` of the NATS server is larger" } else { "" },
        kib(size.distributions)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_refusal_names_what_takes_room_and_what_helps() {
        let group = |name: &str| {
            let claims = json!([{"line": "a", "severity": {"exponential": 100}}]);
            json!({"name": name, "count": {"poisson": 1}, "claims": claims})
        };
        let annual = json!({"name": "year", "annual": [{"line": "a", "amount": {"exponential": 100}}]});
        let groups: Vec<Value> = vec![group("g1"), group("g2"), annual];
        let text = |allocation: bool, limit: u64| {
            let envelope = json!({
                "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
                "args": {"iterations": 1000, "lines": ["a"], "groups": groups, "report": {"allocation": allocation}}
            });
            let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
            describe_excess(&request, &request.result_size(), limit)
        };
        let largest = max_result_bytes(TopologySettings::DEFAULT_MAX_MESSAGE_BYTES);
        let plain = text(false, largest);
        assert!(plain.contains("1 lines, 2 groups with occurrences, 0 treaties and 0 steps take"), "{plain}");
        assert!(plain.contains("at most 1016 KiB, also where `max_payload` of the NATS server is larger:"));
        assert!(plain.contains("KiB; use fewer lines, groups, treaties or steps."), "{plain}");
        let allocated = text(true, largest);
        assert!(allocated.contains("; set report.allocation to false, or use fewer lines, groups"));
        let small = text(false, largest - 1);
        assert!(
            small.contains("; raise `max_payload` of the NATS server to its default, 1 MiB, if"),
            "{small}"
        );
    }
}
