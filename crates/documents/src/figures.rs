//! What a merged result says: everything that is a function of it and its request alone, however it was executed.

use forge_contract::{digest::Digest, shard_result::ShardResult};
use forge_kernel::{
    converge::StopReason,
    report::{ResultDocument, Summary},
    request::Request,
};

use crate::document::canonical;

/// The figures of a run.
#[derive(Debug)]
pub struct Figures {
    /// The merge of its shards.
    pub merged: ShardResult,
    /// Its statistics.
    pub summary: Summary,
    /// Document `result.json`.
    pub document: ResultDocument,
    /// Its bytes.
    pub json: Vec<u8>,
    /// Their SHA-256: the result hash.
    pub hash: Digest,
}

impl Figures {
    /// The figures of a merge of at least one iteration.
    pub fn new(request: &Request, merged: ShardResult, stop_reason: StopReason) -> Self {
        let summary = request.summary(&merged);
        let document = request.result_document(&merged, stop_reason);
        let json = canonical(&document);
        let hash = Digest::of(&[&json]);
        Self { merged, summary, document, json, hash }
    }
}
