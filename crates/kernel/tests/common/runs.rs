//! Whole runs: an envelope, its shards executed by a backend, merged and reported.

use std::ops::Range;

use forge_contract::{
    canonical::to_canonical_json,
    digest::Digest,
    shard::{LEAF_ITERATIONS, Shard, ShardId, TREE_DEPTH},
    shard_result::ShardResult,
};
use forge_kernel::{
    backend::{Backend, simd::Simd},
    convergence::StopReason,
    reduction::Reduction,
    request::Request,
    result_document::ResultDocument,
    seed_tree::descendant,
};
use serde_json::{Value, json};

/// A completed run.
pub struct CompletedRun {
    pub request: Request,
    pub merged: ShardResult,
    pub document: Value,
}

impl CompletedRun {
    /// A number of the result's output.
    pub fn output(&self, name: &str) -> f64 {
        self.document["output"][name].as_f64().unwrap_or_else(|| panic!("no number {name}"))
    }

    /// Entries of a list of the result's output.
    pub fn list(&self, name: &str) -> &[Value] {
        self.document["output"][name].as_array().unwrap_or_else(|| panic!("no list {name}"))
    }

    /// Iterations performed.
    pub fn n(&self) -> f64 {
        self.merged.iterations as f64
    }
}

/// An envelope of `mc` version 1.
pub fn envelope(profile: &str, args: &Value, seed: &Value) -> Vec<u8> {
    let op = json!({"name": "mc", "version": 1, "profile": profile});
    json!({"op": op, "args": args, "seed": seed}).to_string().into_bytes()
}

/// The request of an envelope with an explicit seed.
pub fn request(profile: &str, args: &Value, seed: &str) -> Request {
    let seed = json!({"mode": "explicit", "value": seed});
    Request::from_json(&envelope(profile, args, &seed)).unwrap_or_else(|error| panic!("{error}"))
}

/// A whole run on the best backend.
pub fn run(profile: &str, args: &Value, seed: &str) -> CompletedRun {
    let request = request(profile, args, seed);
    let (merged, reason) = execute(&request, &Simd::new());
    let document = value(&request.result_document(&merged, reason));
    CompletedRun { request, merged, document }
}

/// Merges results in order until convergence or the end of the run. Each comes with the iteration
/// count at its end.
pub fn merge_until_end(
    request: &Request,
    results: impl IntoIterator<Item = (u64, ShardResult)>,
) -> (ShardResult, StopReason) {
    let mut reduction = Reduction::new(&request.program);
    let mut monitor = request.monitor();
    for (end, result) in results {
        reduction.add(&result).expect("the result is of this program");
        assert_eq!(reduction.iterations(), end, "a result is missing");
        let stop = match &mut monitor {
            Some(monitor) if request.plan.checkpoints().contains(&end) => monitor.test(&reduction.result()),
            _ => None,
        };
        if let Some(reason) = stop {
            return (reduction.result(), reason);
        }
    }
    assert_eq!(reduction.iterations(), request.plan.iterations());
    (reduction.result(), StopReason::BudgetExhausted)
}

/// Executes the shards of a plan one by one until the run ends.
pub fn execute(request: &Request, backend: &dyn Backend) -> (ShardResult, StopReason) {
    let results = request.plan.shards().map(|id| {
        let mut results = backend
            .execute(&request.program, &[request.shard(id)], &())
            .expect("the execution is not cancelled");
        (request.plan.range(id).end, results.remove(0))
    });
    merge_until_end(request, results)
}

/// A run of insurance.v1 under a fixed seed.
pub fn insurance(args: Value) -> CompletedRun {
    run("insurance.v1", &args, "moments")
}

/// A document as JSON.
pub fn value(document: &ResultDocument) -> Value {
    serde_json::to_value(document).expect("documents are plain data")
}

/// SHA-256 of a document's canonical bytes: the result hash.
pub fn hash(document: &ResultDocument) -> Digest {
    Digest::hash_parts(&[&to_canonical_json(document).expect("documents have canonical JSON")])
}

/// A leaf of a run as a separate shard, with its seed derived from the root.
pub fn leaf(request: &Request, leaf: u64) -> Shard {
    let iterations: Range<u64> = request.plan.range(ShardId { height: 0, index: leaf });
    assert!(iterations.start == leaf * LEAF_ITERATIONS && !iterations.is_empty());
    Shard {
        id: ShardId { height: 0, index: leaf },
        iterations: iterations.end - iterations.start,
        seed: descendant(request.root_seed, leaf, TREE_DEPTH),
    }
}
