//! The plan: the shards of a run, as a pure function of op and args. The kernel computes it; this
//! module only defines the document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{digest::Digest, ids::ReplayKey};

/// Document `plan.json`: how a run is divided, fixed before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Forge plan")]
#[serde(deny_unknown_fields)]
pub struct PlanDocument {
    /// Always `forge.plan.v1`.
    pub schema: String,
    /// Kernel version. Results are comparable only within one kernel version.
    pub kernel: u32,
    /// Identifies the computation.
    pub replay_key: ReplayKey,
    /// SHA-256 of the program's canonical bytes.
    pub program: Digest,
    /// Number of iterations requested. Convergence may end the run earlier.
    pub iterations: u64,
    /// Number of iterations in a leaf of the seed tree.
    pub leaf_iterations: u64,
    /// Height of the largest shards, each of which holds 2^height leaves.
    pub shard_height: u32,
    /// Number of shards.
    pub shards: u64,
    /// Iteration counts at which convergence is tested; empty without `args.convergence`.
    pub checkpoints: Vec<u64>,
}
