//! The result of a job: everything that depends on the request and the merged shards alone, and not
//! on which machines executed them.

use forge_contract::{digest::Digest, shard_result::ShardResult};
use forge_kernel::{
    convergence::StopReason, request::Request, result_document::ResultDocument, summary::Summary,
};

use crate::document::canonical_json;

/// The merged shards of a job, their statistics, and `result.json` with its hash.
#[derive(Debug)]
pub struct JobResult {
    /// The merge of all shard results.
    pub merged: ShardResult,
    /// Statistics of the merge, in units of the args; the amounts of `merged` are in minor units.
    pub summary: Summary,
    /// `result.json` before serialisation.
    pub document: ResultDocument,
    /// `result.json` as canonical JSON.
    pub json: Vec<u8>,
    /// The result hash: SHA-256 of `json`.
    pub hash: Digest,
}

impl JobResult {
    /// Computes the result from the merged shards, which must hold at least one iteration.
    pub fn new(request: &Request, merged: ShardResult, stop_reason: StopReason) -> Self {
        let summary = request.summary(&merged);
        let document = request.result_document(&merged, stop_reason);
        let json = canonical_json(&document);
        let hash = Digest::hash_parts(&[&json]);
        Self { merged, summary, document, json, hash }
    }
}
