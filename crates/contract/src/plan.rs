//! The plan: which shards a run consists of. A pure function of (op, args); how it is made is the kernel's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{digest::Digest, ids::ReplayKey};

/// Document `plan.json`: everything that fixes a run before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Forge plan")]
#[serde(deny_unknown_fields)]
pub struct PlanDocument {
    /// Always `forge.plan.v1`.
    pub schema: String,
    /// Kernel version: results are equal only under one kernel version.
    pub kernel: u32,
    /// Names the computation.
    pub replay_key: ReplayKey,
    /// SHA-256 of the program's canonical bytes.
    pub program: Digest,
    /// Iterations asked for; convergence may stop earlier.
    pub iterations: u64,
    /// Iterations in a leaf of the seed tree.
    pub leaf_iterations: u64,
    /// Height of the largest shards: they hold 2^height leaves.
    pub shard_height: u32,
    /// Number of shards.
    pub shards: u64,
    /// Iteration counts at which convergence is tested; empty without `args.convergence`.
    pub checkpoints: Vec<u64>,
}
