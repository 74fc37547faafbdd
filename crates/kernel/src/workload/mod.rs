//! Workloads: what an op computes. One file a profile; everything a profile needs is behind [`WorkloadModel`] and [`Profile`],
//! so a new one touches this list and nothing of execution, reduction or services.

use std::fmt;

use forge_contract::{
    envelope::Op,
    error::InvalidDocument,
    program::{MAX_AMOUNT, Program},
    strict::{Errors, ObjectReader},
};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

use crate::{
    convergence::Convergence, double_double::DoubleDouble, plan::MAX_ITERATIONS, summary::Summary, tables,
};

pub mod eta_v1;
pub mod insurance_v1;

/// Draws that a run may be expected to take at most: 2^52, so that all counts stay exact in JSON.
const MAX_DRAWS: u64 = 1 << 52;

/// The profiles this kernel executes.
pub const PROFILES: [&Profile; 2] = [&insurance_v1::PROFILE, &eta_v1::PROFILE];

/// A profile of an op: what its args mean and what its result looks like.
pub struct Profile {
    /// Name of the op, as in `mc`.
    pub op: &'static str,
    /// Version of the op.
    pub version: u32,
    /// Name of the profile, as in `insurance.v1`.
    pub name: &'static str,
    /// How people call what is computed.
    pub vocabulary: Vocabulary,
    /// Reads and checks args; errors go to the object's collector.
    pub read_args: fn(ObjectReader<'_, '_>) -> Box<dyn WorkloadModel>,
    /// JSON Schema of the args.
    pub args_schema: fn(&mut SchemaGenerator) -> Schema,
    /// JSON Schema of the result document's `output`.
    pub output_schema: fn(&mut SchemaGenerator) -> Schema,
    /// Args to start from: the required ones, with plausible values.
    pub example_args: fn() -> Value,
}

/// How people call what a profile computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    /// One iteration, in the plural: "years".
    pub iterations: &'static str,
    /// One occurrence, in the plural: "losses".
    pub occurrences: &'static str,
    /// The total: "annual loss".
    pub quantity: &'static str,
    /// Its unit: "s", or empty for the currency of the args.
    pub unit: &'static str,
    /// Whether return periods are usual for it.
    pub return_periods: bool,
}

/// Args that have been read: a model, and how long to run it.
pub trait WorkloadModel: fmt::Debug + Send + Sync {
    /// The args in normal form: defaults filled in, absent optional ones left out.
    fn model_args(&self) -> Map<String, Value>;
    /// How long to run.
    fn budget(&self) -> &Budget;
    /// The components' names, in draw order.
    fn component_names(&self) -> Vec<&'static str>;
    /// Expected draws of an iteration, rounded up.
    fn expected_draws(&self) -> u64;
    /// Compiles the model to integers.
    ///
    /// # Errors
    /// Args that are valid one by one but make no sense together.
    fn compile(&self) -> Result<Program, InvalidDocument>;
    /// The result document's `output`.
    fn output(&self, summary: &Summary) -> Value;
}

/// How long a run may be, and what ends it earlier.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Iterations asked for: 1 to 2^48.
    pub iterations: u64,
    /// The condition that ends the run before.
    pub convergence: Option<Convergence>,
}

impl Budget {
    /// Reads `iterations` and `convergence`.
    pub fn read(args: &mut ObjectReader<'_, '_>) -> Self {
        let iterations = args.required_integer("iterations", 1..=MAX_ITERATIONS);
        let convergence = args.node("convergence").is_some().then(|| args.optional_object("convergence"));
        Self { iterations, convergence: convergence.map(Convergence::read) }
    }

    /// Records an error when a run of this length would take too many draws.
    pub fn check_draws(&self, draws: u64, args: &mut ObjectReader<'_, '_>) {
        if self.iterations.saturating_mul(draws) > MAX_DRAWS {
            args.error(
                "iterations",
                format!(
                    "must be at most {} with this many occurrences an iteration (2^52 draws in all); it is {}",
                    MAX_DRAWS / draws.max(1),
                    self.iterations
                ),
            );
        }
    }
}

/// The profile of an op; records an error that says what exists where there is none.
pub fn find_profile(op: &Op, errors: &mut Errors) -> Option<&'static Profile> {
    let listed = |values: Vec<String>| values.join(", ");
    let named: Vec<_> = PROFILES.into_iter().filter(|p| p.op == op.name).collect();
    if named.is_empty() {
        let mut names: Vec<_> = PROFILES.iter().map(|p| format!("`{}`", p.op)).collect();
        names.dedup();
        errors.push("/op/name", format!("is unknown; this kernel has {}", listed(names)));
        return None;
    }
    let versioned: Vec<_> = named.iter().copied().filter(|p| p.version == op.version).collect();
    if versioned.is_empty() {
        let mut versions: Vec<_> = named.iter().map(|p| p.version.to_string()).collect();
        versions.dedup();
        let message = format!("is unknown; `{}` exists in version {}", op.name, listed(versions));
        errors.push("/op/version", message);
        return None;
    }
    let found = versioned.iter().copied().find(|p| p.name == op.profile);
    if found.is_none() {
        let profiles = listed(versioned.iter().map(|p| format!("`{}`", p.name)).collect());
        let message = format!("is unknown; `{}` version {} has {profiles}", op.name, op.version);
        errors.push("/op/profile", message);
    }
    found
}

/// `⌊units·x + 1/2⌋`: a limit or a base in minor units. `x` is 0 to 10^15.
fn to_minor_units(x: f64, units: u32) -> u64 {
    (DoubleDouble::product(x, f64::from(units)) + DoubleDouble::from(0.5))
        .floor()
        .unsigned_abs()
        .min(MAX_AMOUNT)
}

/// A limit in minor units; [`MAX_AMOUNT`] when there is none.
fn cap_of_limit(limit: Option<f64>, units: u32) -> u64 {
    limit.map_or(MAX_AMOUNT, |limit| to_minor_units(limit, units))
}

/// An undecided table entry, as an error of the parameter it comes from.
fn undecided_floor(pointer: &str) -> impl Fn(tables::UndecidedFloor) -> InvalidDocument {
    move |error| InvalidDocument::single(pointer, error.to_string())
}
