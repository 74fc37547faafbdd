//! Workloads: what an op computes. Each profile has one file and is reached through [`Profile`] and
//! [`WorkloadModel`] only, so a new profile changes this module and nothing in execution, reduction
//! or the services.

use std::{collections::BTreeMap, fmt};

use forge_contract::{
    envelope::Op,
    error::InvalidDocument,
    occurrence_subject::OccurrenceSubject,
    program::{MAX_AMOUNT, Program},
    shard_result::ShardResult,
    strict::{Errors, Node, ObjectReader, nearest_name},
};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

use crate::{
    convergence::Convergence,
    double_double::DoubleDouble,
    plan::MAX_ITERATIONS,
    statistics::Level,
    summary::{HighestMoment, ReportedTails, Summary},
    workload::warning::Warning,
};

pub mod eta_v1;
pub mod insurance_v1;
pub mod reported_tails;
pub mod risk_compound_v1;
pub mod warning;

/// Upper bound on the expected draws of a run: 2^52, so that all counts stay exact in JSON.
const MAX_RUN_DRAWS: u64 = 1 << 52;

/// Runs of this many draws cause a warning.
const LONG_RUN_DRAWS: f64 = 1e12;

/// Where fewer iterations are expected beyond a level, its figures say little.
pub(crate) const MIN_EXPECTED_BEYOND: u64 = 10;

/// Objects within each other in which args have meanings.
const MAX_ARG_DEPTH: usize = 3;

/// The profiles of this kernel.
pub const PROFILES: [&Profile; 3] = [&insurance_v1::PROFILE, &eta_v1::PROFILE, &risk_compound_v1::PROFILE];

/// A profile of an op: the meaning of its args and the form of its output.
pub struct Profile {
    /// Name of the op, as in `mc`.
    pub op: &'static str,
    /// Version of the op.
    pub version: u32,
    /// Name of the profile, as in `insurance.v1`.
    pub name: &'static str,
    /// Terms for what it computes.
    pub vocabulary: Vocabulary,
    /// The model in words and as a formula, in paragraphs.
    pub formula: &'static [&'static str],
    /// Reads and validates args; errors go to the collector of the object. The model of args with
    /// errors is never used.
    pub read_args: fn(ObjectReader<'_, '_>) -> Box<dyn WorkloadModel>,
    /// JSON Schema of the args.
    pub args_schema: fn(&mut SchemaGenerator) -> Schema,
    /// JSON Schema of the result document's `output`.
    pub output_schema: fn(&mut SchemaGenerator) -> Schema,
    /// Args with plausible values, as a template.
    pub example_args: fn() -> Value,
    /// Further templates, each with its name.
    pub examples: &'static [NamedExample],
}

/// A template of args with a name.
#[derive(Debug, Clone, Copy)]
pub struct NamedExample {
    /// Name.
    pub name: &'static str,
    /// Args with plausible values.
    pub args: fn() -> Value,
}

/// The terms in which a profile's result is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    /// One iteration, in the plural: "years".
    pub iterations: &'static str,
    /// One occurrence, in the plural: "losses".
    pub occurrences: &'static str,
    /// The total: "annual loss".
    pub quantity: &'static str,
    /// Unit of the total: "s", or empty for the currency of the args.
    pub unit: &'static str,
    /// Whether results are presented by return period.
    pub return_periods: bool,
}

/// The model that valid args describe, and its budget.
pub trait WorkloadModel: fmt::Debug + Send + Sync {
    /// The model args in normal form: defaults filled in, absent optional args left out, without
    /// `iterations` and `convergence`.
    fn model_args(&self) -> Map<String, Value>;
    /// Iterations to run, and what ends the run earlier.
    fn budget(&self) -> &Budget;
    /// Names of the components of all groups, in order.
    fn component_names(&self) -> Vec<String>;
    /// The lines, groups and treaties of the program. By default there is one line, and each group
    /// has one component.
    fn parts(&self) -> ModelParts {
        let part = |name| ModelPart { name, highest: HighestMoment::Variance };
        ModelParts {
            lines: vec![part("all".to_owned())],
            groups: self.component_names().into_iter().map(part).collect(),
            treaties: Vec::new(),
            gross: HighestMoment::Variance,
            net: HighestMoment::Variance,
        }
    }
    /// The highest moment of the largest occurrence of a subject.
    fn largest_moment(&self, _subject: OccurrenceSubject) -> HighestMoment {
        HighestMoment::Variance
    }
    /// For each treaty of the program, the standard errors of its mean commissions.
    fn commission_errors(&self, _result: &ShardResult, program: &Program) -> Vec<CommissionErrors> {
        vec![CommissionErrors::default(); program.treaties.len()]
    }
    /// Expected draws of an iteration, rounded up.
    fn expected_draws(&self) -> u64;
    /// Expected occurrences of an iteration.
    fn expected_occurrences(&self) -> f64;
    /// What is valid in the args, which were compiled to this program, but probably unintended.
    fn warnings(&self, _program: &Program) -> Vec<Warning> {
        Vec::new()
    }
    /// The levels and return periods that results report.
    fn reported_tails(&self) -> ReportedTails {
        ReportedTails::default()
    }
    /// Compiles the model to a program of integers.
    ///
    /// # Errors
    /// Args that are each in range but have no usable program together.
    fn compile(&self) -> Result<Program, InvalidDocument>;
    /// The `output` of the result document: of a merged result of at least one iteration, and its
    /// summary.
    fn output(&self, result: &ShardResult, program: &Program, summary: &Summary) -> Value;
}

/// The parts of a model, in the order of its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelParts {
    /// The lines.
    pub lines: Vec<ModelPart>,
    /// The groups.
    pub groups: Vec<ModelPart>,
    /// The treaties.
    pub treaties: Vec<ModelPart>,
    /// The highest moment of the sum of all lines before treaties.
    pub gross: HighestMoment,
    /// The highest moment of the total.
    pub net: HighestMoment,
}

/// A line, a group or a treaty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPart {
    /// Name.
    pub name: String,
    /// The highest moment of its amount of a year.
    pub highest: HighestMoment,
}

/// Standard errors of the mean commissions of a treaty, in units of the args.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CommissionErrors {
    /// Of the commission; `None` where it is the same in every year, and for a single year.
    pub commission: Option<f64>,
    /// Of the profit commission; `None` without one, and for a single year.
    pub profit_commission: Option<f64>,
}

/// The iterations of a run, and what ends it earlier.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Requested iterations: 1 to 2^48.
    pub iterations: u64,
    /// The condition under which the run ends earlier.
    pub convergence: Option<Convergence>,
}

impl Budget {
    /// Reads `iterations` and `convergence`; errors go to the collector of `args`.
    pub fn read(args: &mut ObjectReader<'_, '_>) -> Self {
        let iterations = args.required_integer("iterations", 1..=MAX_ITERATIONS);
        let convergence = args.node("convergence").is_some().then(|| args.optional_object("convergence"));
        Self { iterations, convergence: convergence.map(Convergence::read) }
    }

    /// A warning about a run of `draws` expected draws an iteration that takes hours on most
    /// machines, and that nothing ends earlier. It states no time: `forge envelope check` measures
    /// it.
    pub fn length_warning(&self, draws: u64) -> Option<Warning> {
        let draws = self.iterations as f64 * draws as f64;
        (self.convergence.is_none() && draws >= LONG_RUN_DRAWS).then(|| Warning {
            pointer: "/args/iterations".to_owned(),
            message: format!(
                "asks for {draws:.0e} draws, which take hours or days on most machines: `forge envelope check` measures how \
                 long on this one, and `convergence` ends a run once a figure is precise enough"
            ),
        })
    }

    /// Records an error if a run of `draws` expected draws an iteration would exceed 2^52 draws in
    /// all.
    pub fn check_draws(&self, draws: u64, args: &mut ObjectReader<'_, '_>) {
        if self.iterations.saturating_mul(draws) > MAX_RUN_DRAWS {
            args.error(
                "iterations",
                format!(
                    "must be at most {} with this many occurrences an iteration (2^52 draws in all); it is {}",
                    MAX_RUN_DRAWS / draws.max(1),
                    self.iterations
                ),
            );
        }
    }
}

/// The profile to which args belong that were given for another one: every name among them is known
/// to it, and none to the given profile. Names that several profiles share prove nothing.
pub fn profile_of_args(members: &[(String, Node)], given: &Profile) -> Option<&'static Profile> {
    const SHARED: [&str; 3] = ["iterations", "convergence", "report"];
    let names = || members.iter().map(|(name, _)| name.as_str()).filter(|name| !SHARED.contains(name));
    let known = arg_meanings(given);
    if names().next().is_none() || names().any(|name| known.contains_key(name)) {
        return None;
    }
    PROFILES.into_iter().find(|profile| {
        let known = arg_meanings(profile);
        names().all(|name| known.contains_key(name))
    })
}

/// The names of a profile's args with their meanings, as its schema describes them. The args inside
/// an object have its name and a dot before theirs, as in `capital.level`; those of the objects in
/// a list are left out.
pub fn arg_meanings(profile: &Profile) -> BTreeMap<String, String> {
    let mut generator = SchemaGenerator::default();
    let schema = (profile.args_schema)(&mut generator);
    let mut meanings = BTreeMap::new();
    collect_meanings("", schema.as_value(), generator.definitions(), &mut meanings);
    meanings
}

fn collect_meanings(
    prefix: &str,
    schema: &Value,
    definitions: &Map<String, Value>,
    meanings: &mut BTreeMap<String, String>,
) {
    let reference = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    if let Some(definition) = reference.and_then(|name| definitions.get(name)) {
        collect_meanings(prefix, definition, definitions, meanings);
    }
    for variant in schema["anyOf"].as_array().into_iter().flatten() {
        collect_meanings(prefix, variant, definitions, meanings);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let name = format!("{prefix}{name}");
        let meaning = property["description"].as_str().unwrap_or_default().to_owned();
        // An object that contains itself would never end.
        if meanings.insert(name.clone(), meaning).is_none() && name.matches('.').count() < MAX_ARG_DEPTH {
            collect_meanings(&format!("{name}."), property, definitions, meanings);
        }
    }
}

/// The profile of an op. If there is none, records an error that lists what exists.
pub fn find_profile(op: &Op, errors: &mut Errors) -> Option<&'static Profile> {
    let list = |values: Vec<String>| values.join(", ");
    let of_name: Vec<_> = PROFILES.into_iter().filter(|p| p.op == op.name).collect();
    if of_name.is_empty() {
        let mut names: Vec<_> = PROFILES.iter().map(|p| format!("`{}`", p.op)).collect();
        names.dedup();
        errors.push("/op/name", format!("is unknown: this kernel has {}", list(names)));
        return None;
    }
    let of_version: Vec<_> = of_name.iter().copied().filter(|p| p.version == op.version).collect();
    if of_version.is_empty() {
        let mut versions: Vec<_> = of_name.iter().map(|p| p.version.to_string()).collect();
        versions.dedup();
        let message = format!("is unknown: this kernel has `{}` in version {}", op.name, list(versions));
        errors.push("/op/version", message);
        return None;
    }
    let found = of_version.iter().copied().find(|p| p.name == op.profile);
    if found.is_none() {
        let profiles = list(of_version.iter().map(|p| format!("`{}`", p.name)).collect());
        let mut message = format!("is unknown: `{}` version {} has {profiles}", op.name, op.version);
        if let Some(nearest) = nearest_name(&op.profile, of_version.iter().map(|profile| profile.name)) {
            message += &format!("; did you mean `{nearest}`?");
        }
        errors.push("/op/profile", message);
    }
    found
}

/// Whether fewer than [`MIN_EXPECTED_BEYOND`] iterations are expected beyond a level.
pub(crate) fn is_scarce(level: Level, iterations: u64) -> bool {
    let beyond = u128::from(iterations) * u128::from(level.denominator - level.numerator);
    beyond < u128::from(MIN_EXPECTED_BEYOND) * u128::from(level.denominator)
}

/// A limit or base in minor units: `⌊units·x + 1/2⌋`, for `x` from 0 to 10^15.
fn to_minor_units(x: f64, units: u32) -> u64 {
    (DoubleDouble::product(x, f64::from(units)) + DoubleDouble::from(0.5))
        .floor()
        .unsigned_abs()
        .min(MAX_AMOUNT)
}

/// The cap that a limit gives, in minor units; [`MAX_AMOUNT`] without a limit.
fn cap_of_limit(limit: Option<f64>, units: u32) -> u64 {
    limit.map_or(MAX_AMOUNT, |limit| to_minor_units(limit, units))
}

/// Converts the error of a table to an error of the arg at `pointer`, which the table is made from.
fn table_error<E: std::fmt::Display>(pointer: &str) -> impl Fn(E) -> InvalidDocument {
    move |error| InvalidDocument::single(pointer, error.to_string())
}
