//! The report: from a merged result to the figures that people read, and the result document (docs/determinism.md,
//! sections 9 and 11).

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

/// Document `result.json`: a pure function of op, args and seed. Its canonical bytes are what is hashed and compared.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, title = "Forge result")]
pub struct ResultDocument {
    /// Always `forge.result.v1`.
    pub schema: &'static str,
    /// Kernel version: results are equal only under one kernel version.
    pub kernel: u32,
    /// Names the computation.
    pub replay_key: ReplayKey,
    /// The operation.
    pub op: Op,
    /// The args in normal form.
    pub args: Map<String, Value>,
    /// Where the random numbers come from.
    pub seed: SeedReport,
    /// SHA-256 of the program's canonical bytes.
    pub program: Digest,
    /// How many iterations, and why no more.
    pub iterations: IterationReport,
    /// What was executed.
    pub work: WorkReport,
    /// The figures, as the profile defines them.
    #[schemars(schema_with = "output_schema")]
    pub output: Value,
}

fn output_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let outputs: Vec<_> = PROFILES.iter().map(|profile| (profile.output_schema)(generator)).collect();
    schemars::json_schema!({ "description": "The figures, as the profile defines them.", "oneOf": outputs })
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

/// How many iterations were executed, and why no more.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Iterations")]
pub struct IterationReport {
    /// Iterations asked for.
    pub requested: u64,
    /// Iterations the result stands on.
    pub performed: u64,
    /// Why the run ended.
    pub stop_reason: StopReason,
}

/// What was executed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Work")]
pub struct WorkReport {
    /// Occurrences of all components.
    pub occurrences: u64,
    /// Amounts and totals that exceeded the largest amount and were cut to it: the result understates them. 0 as a rule.
    pub saturated: u64,
    /// The same by component.
    pub components: Vec<ComponentReport>,
}

/// Occurrences of one component.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "ComponentWork")]
pub struct ComponentReport {
    /// Name of the component.
    pub name: &'static str,
    /// Its occurrences.
    pub occurrences: u64,
    /// Those whose amount reached the component's limit (without a limit: saturated).
    pub capped: u64,
}

impl WorkReport {
    /// Counts the work of a result; `names` are those of the program's components.
    pub fn new(result: &ShardResult, program: &Program, names: &[&'static str]) -> Self {
        let unlimited =
            program.components.iter().zip(&result.components).filter(|(c, _)| c.cap == MAX_AMOUNT);
        let amounts: u64 = unlimited.map(|(_, tally)| tally.capped).sum();
        let totals = if program.cap == MAX_AMOUNT { result.capped } else { 0 };
        let component = |(&name, tally): (&&'static str, &Tally)| ComponentReport {
            name,
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
