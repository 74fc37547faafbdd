//! The result document, `result.json` (docs/determinism.md, section 11). It must not contain
//! anything that depends on how the run was executed.

use forge_contract::{
    digest::Digest,
    envelope::Op,
    ids::ReplayKey,
    program::{MAX_AMOUNT, Program},
    shard_result::{ShardResult, Tally},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{convergence::StopReason, workload::PROFILES};

/// Document `result.json`: a pure function of op, args and seed. The SHA-256 of its canonical JSON
/// is the result hash.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, title = "Forge result")]
pub struct ResultDocument {
    /// Always `forge.result.v1`.
    pub schema: &'static str,
    /// Kernel version. Results are comparable within one version only.
    pub kernel: u32,
    /// Identifies the computation: kernel version, op, args and seed.
    pub replay_key: ReplayKey,
    /// The operation that was computed.
    pub op: Op,
    /// The args in normal form.
    pub args: Map<String, Value>,
    /// Where the random numbers come from.
    pub seed: SeedReport,
    /// SHA-256 of the program's canonical bytes.
    pub program: Digest,
    /// How many iterations were executed, and why the run ended.
    pub iterations: IterationReport,
    /// Occurrences by component.
    pub work: WorkReport,
    /// The figures of the result, as the profile defines them.
    #[schemars(schema_with = "output_schema")]
    pub output: Value,
}

fn output_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let outputs: Vec<_> = PROFILES.iter().map(|profile| (profile.output_schema)(generator)).collect();
    schemars::json_schema!({ "description": "The figures of the result, as the profile defines them.", "oneOf": outputs })
}

/// Where the random numbers come from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SeedReport {
    /// `derived` from op and args, or `explicit`.
    pub mode: &'static str,
    /// Root of the seed tree.
    pub root_seed: Digest,
}

/// How many iterations were executed, and why the run ended.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Iterations")]
pub struct IterationReport {
    /// Requested iterations.
    pub requested: u64,
    /// Iterations that the result is made of.
    pub performed: u64,
    /// Why the run ended.
    pub stop_reason: StopReason,
}

/// The occurrences that were drawn.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Work")]
pub struct WorkReport {
    /// Occurrences of all components.
    pub occurrences: u64,
    /// Amounts and totals that exceeded the largest representable amount and were reduced to it, so
    /// that the result understates them. Usually 0.
    pub saturated: u64,
    /// Counts by component, in draw order.
    pub components: Vec<ComponentReport>,
}

/// Occurrences of one component.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "ComponentWork")]
pub struct ComponentReport {
    /// Name of the component in its profile.
    pub name: String,
    /// Occurrences of the component.
    pub occurrences: u64,
    /// Occurrences whose amount reached the component's limit, or the largest representable amount
    /// if it has none.
    pub capped: u64,
}

impl WorkReport {
    /// Counts the occurrences of a result; `names` are the names of the program's components, in
    /// order.
    pub fn new(result: &ShardResult, program: &Program, names: &[String]) -> Self {
        let without_limit =
            program.components().zip(&result.components).filter(|(c, _)| c.terms.limit == MAX_AMOUNT);
        let amounts: u64 = without_limit.map(|(_, tally)| tally.capped).sum();
        let totals = if program.cap == MAX_AMOUNT { result.capped } else { 0 };
        let component = |(name, tally): (&String, &Tally)| ComponentReport {
            name: name.clone(),
            occurrences: tally.occurrences,
            capped: tally.capped,
        };
        Self {
            occurrences: result.components.iter().map(|tally| tally.occurrences).sum(),
            saturated: amounts + totals,
            components: names.iter().zip(&result.components).map(component).collect(),
        }
    }
}
