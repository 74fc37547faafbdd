//! The request: a valid envelope, and everything a run derives from it before execution. Must
//! depend on nothing else.

use std::sync::Arc;

use forge_contract::{
    canonical::to_canonical_json,
    digest::Digest,
    envelope::{ArtifactKind, Artifacts, Envelope, Seed, Target},
    error::InvalidDocument,
    ids::ReplayKey,
    occurrence_subject::OccurrenceSubject,
    plain_program::PlainProgram,
    plan::PlanDocument,
    program::Program,
    shard::{LEAF_ITERATIONS, Shard, ShardId},
    shard_result::ShardResult,
    strict::{self, Errors, Node, ObjectReader},
};
use serde_json::{Map, Value, json};

use crate::{
    KERNEL,
    convergence::{ConvergenceMonitor, StopReason},
    plan::Plan,
    result_document::{IterationReport, ResultDocument, SeedReport, WorkReport},
    result_size::{self, ResultSize},
    seed_tree,
    statistics::Level,
    summary::{DEFAULT_RETURN_PERIODS, HighestMoment, ReportedTails, Summary},
    workload::{
        self, CommissionErrors, MIN_EXPECTED_BEYOND, ModelParts, Profile, WorkloadModel, is_scarce,
        reported_tails::DEFAULT_LEVELS,
        warning::{self, Warning},
    },
};

/// A model compiled to a program.
#[derive(Debug, Clone)]
pub struct CompiledModel {
    /// The program that backends execute.
    pub program: Arc<Program>,
    /// SHA-256 of the program's bytes.
    pub digest: Digest,
}

/// Compiles models, or returns the program of an equal model that it compiled before. Compiling
/// takes milliseconds, and many requests share a model.
pub trait ModelCompiler {
    /// The compiled model with this digest: a cached one, or else the value of `compile`. `model`
    /// is the SHA-256 of the canonical JSON of the op and the model's args.
    ///
    /// # Errors
    /// Returns any error of `compile`; an error is not cached.
    fn get_or_compile(
        &self,
        model: Digest,
        compile: &mut dyn FnMut() -> Result<CompiledModel, InvalidDocument>,
    ) -> Result<CompiledModel, InvalidDocument>;
}

/// Caches nothing.
impl ModelCompiler for () {
    fn get_or_compile(
        &self,
        _: Digest,
        compile: &mut dyn FnMut() -> Result<CompiledModel, InvalidDocument>,
    ) -> Result<CompiledModel, InvalidDocument> {
        compile()
    }
}

/// A valid envelope with its compiled model and its plan. A pure function of the envelope.
#[derive(Debug)]
pub struct Request {
    /// The envelope in normal form, args included.
    pub envelope: Envelope,
    /// The program that backends execute.
    pub program: Arc<Program>,
    /// SHA-256 of the program's bytes.
    pub program_digest: Digest,
    /// The shards and checkpoints of the run.
    pub plan: Plan,
    /// Identifies the computation: kernel version, op, args and seed.
    pub replay_key: ReplayKey,
    /// Root of the seed tree.
    pub root_seed: Digest,
    profile: &'static Profile,
    model: Box<dyn WorkloadModel>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Profile({})", self.name)
    }
}

impl Request {
    /// Reads a submitted envelope, compiling its model.
    ///
    /// # Errors
    /// Every error of the document, at once, each with its JSON pointer.
    pub fn from_json(json: &[u8]) -> Result<Self, InvalidDocument> {
        Self::from_json_with(json, &())
    }

    /// Reads a submitted envelope; `compiler` supplies the compiled model.
    ///
    /// # Errors
    /// As [`Request::from_json`].
    pub fn from_json_with(json: &[u8], compiler: &dyn ModelCompiler) -> Result<Self, InvalidDocument> {
        let root = strict::parse(json)?;
        let mut errors = Errors::new();
        let draft = Envelope::read(&root, &mut errors);
        Self::read(draft.envelope, draft.args, errors, compiler)
    }

    /// Builds the request of an envelope that has been read before, compiling its model. Only the
    /// op and the args are checked again: the rest has to be in normal form, as in
    /// [`Request::envelope`].
    ///
    /// # Errors
    /// Every error of the op and the args, the same as [`Request::from_json`] returns.
    pub fn from_envelope(envelope: Envelope) -> Result<Self, InvalidDocument> {
        Self::from_envelope_with(envelope, &())
    }

    /// As [`Request::from_envelope`]; `compiler` supplies the compiled model.
    ///
    /// # Errors
    /// As [`Request::from_envelope`].
    pub fn from_envelope_with(
        envelope: Envelope,
        compiler: &dyn ModelCompiler,
    ) -> Result<Self, InvalidDocument> {
        let args = strict::from_object(&envelope.args, "/args")?;
        Self::read(envelope, Some(&args), Errors::new(), compiler)
    }

    /// Reads the op and args of an envelope; `errors` holds the errors of its other fields.
    fn read(
        mut envelope: Envelope,
        args: Option<&Node>,
        mut errors: Errors,
        compiler: &dyn ModelCompiler,
    ) -> Result<Self, InvalidDocument> {
        let profile =
            if errors.has_error_at("/op") { None } else { workload::find_profile(&envelope.op, &mut errors) };
        let model = profile.zip(args).and_then(|(profile, args)| {
            let object = ObjectReader::open(args, "/args", &mut errors)?;
            Some((profile, (profile.read_args)(object)))
        });
        if let (Some(profile), Some(Node::Object(members))) = (profile, args)
            && errors.has_error_within("/args")
            && let Some(owner) = workload::profile_of_args(members, profile)
        {
            errors.discard_within("/args");
            let (name, owner) = (profile.name, owner.name);
            errors.push(
                "/op/profile",
                format!("is `{name}`, but the args are those of `{owner}`: change one of them"),
            );
        }
        let Some((profile, model)) = errors.into_result(model)? else {
            return Err(InvalidDocument::single("/args", "must be an object"));
        };
        envelope.args = normalised_args(model.as_ref());
        Self::new(envelope, profile, model, compiler)
    }

    fn new(
        envelope: Envelope,
        profile: &'static Profile,
        model: Box<dyn WorkloadModel>,
        compiler: &dyn ModelCompiler,
    ) -> Result<Self, InvalidDocument> {
        let model_digest = Digest::hash_parts(&[&canonical_model(&envelope, model.as_ref())]);
        let CompiledModel { program, digest: program_digest } =
            compiler.get_or_compile(model_digest, &mut || compile(model.as_ref()))?;
        if envelope.policy.target == Target::Gpu && PlainProgram::new(&program).is_none() {
            let message = format!("must be cpu or any: {} is not executed on GPUs", profile.name);
            return Err(InvalidDocument::single("/policy/target", message));
        }
        let budget = model.budget();
        let min = budget.convergence.as_ref().map(|convergence| convergence.min_iterations);
        let plan = Plan::new(budget.iterations, model.expected_draws(), min);
        let root_seed = root_seed(&envelope, model.as_ref());
        let replay_key = replay_key(&envelope);
        Ok(Self { envelope, program, program_digest, plan, replay_key, root_seed, profile, model })
    }

    /// What is valid but probably unintended.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = self.model.warnings(&self.program);
        warnings.extend(self.model.budget().length_warning(self.model.expected_draws()));
        warnings.extend(self.scarce_tail_warnings());
        let include = &self.envelope.artifacts.include;
        // The default list is that of all profiles.
        if include.contains(&ArtifactKind::EptCsv)
            && *include != Artifacts::default().include
            && !self.profile.vocabulary.return_periods
        {
            let message =
                format!("has ept_csv, which is not written: {} has no return periods", self.profile.name);
            warnings.push(Warning { pointer: "/artifacts/include".to_owned(), message });
        }
        warning::group_alike(warnings)
    }

    /// Warnings about return periods and levels that were asked for, and beyond which too few
    /// iterations are expected.
    fn scarce_tail_warnings(&self) -> Vec<Warning> {
        let (iterations, reported) = (self.plan.iterations(), self.model.reported_tails());
        let noun = self.profile.vocabulary.iterations;
        let warning = |name: &str, subject: String| Warning {
            pointer: format!("/args/report/{name}"),
            message: format!(
                "has {subject}: of {iterations} {noun}, fewer than {MIN_EXPECTED_BEYOND} are expected beyond it, so \
                 its figures say little; use more iterations"
            ),
        };
        let mut warnings = Vec::new();
        // Lists that are the defaults were not asked for.
        if reported.return_periods != DEFAULT_RETURN_PERIODS
            && let Some(&longest) = reported.return_periods.iter().max()
            && is_scarce(Level::new(longest - 1, longest), iterations)
        {
            warnings.push(warning("return_periods", format!("a return period of {longest} {noun}")));
        }
        let levels = reported.levels.iter().map(|level| level.to_f64());
        if !levels.eq(DEFAULT_LEVELS)
            && let Some(&highest) = reported.levels.last()
            && is_scarce(highest, iterations)
        {
            warnings.push(warning("levels", format!("a level of {}", highest.to_f64())));
        }
        warnings
    }

    /// Expected occurrences of an iteration.
    pub fn expected_occurrences(&self) -> f64 {
        self.model.expected_occurrences()
    }

    /// The lines, groups and treaties of the program.
    pub fn parts(&self) -> ModelParts {
        self.model.parts()
    }

    /// The highest moment of the largest occurrence of a subject.
    pub fn largest_moment(&self, subject: OccurrenceSubject) -> HighestMoment {
        self.model.largest_moment(subject)
    }

    /// For each treaty, the standard errors of its mean commissions in a merged result of at least
    /// one iteration.
    pub fn commission_errors(&self, result: &ShardResult) -> Vec<CommissionErrors> {
        self.model.commission_errors(result, &self.program)
    }

    /// The profile of the op.
    pub fn profile(&self) -> &'static Profile {
        self.profile
    }

    /// A shard of the plan with its seed, as a worker receives it.
    pub fn shard(&self, id: ShardId) -> Shard {
        let range = self.plan.range(id);
        let seed = seed_tree::shard_seed(self.root_seed, id);
        Shard { id, iterations: range.end - range.start, seed }
    }

    /// The expected size of the encoded results of the largest shards. Takes a fraction of a second
    /// for a large portfolio.
    pub fn result_size(&self) -> ResultSize {
        result_size::estimate(&self.program, self.program_digest, self.shard_iterations())
    }

    /// The size of the encoded results of the largest shards, if it is expected to exceed `limit`
    /// bytes. As fast as [`Request::result_size`], or faster.
    pub fn excess_result_size(&self, limit: u64) -> Option<ResultSize> {
        result_size::excess_size(&self.program, self.program_digest, self.shard_iterations(), limit)
    }

    /// Iterations of the largest shards.
    fn shard_iterations(&self) -> u64 {
        self.plan.iterations().min(LEAF_ITERATIONS << self.plan.shard_height())
    }

    /// A monitor that tests convergence; `None` without `args.convergence`.
    pub fn monitor(&self) -> Option<ConvergenceMonitor> {
        let convergence = self.model.budget().convergence.clone()?;
        Some(ConvergenceMonitor::new(convergence, self.program.marks()))
    }

    /// Document `plan.json`.
    pub fn plan_document(&self) -> PlanDocument {
        PlanDocument {
            schema: "forge.plan.v1".to_owned(),
            kernel: KERNEL,
            replay_key: self.replay_key,
            program: self.program_digest,
            iterations: self.plan.iterations(),
            leaf_iterations: LEAF_ITERATIONS,
            shard_height: self.plan.shard_height(),
            shards: self.plan.shard_count(),
            checkpoints: self.plan.checkpoints().to_vec(),
        }
    }

    /// The levels and return periods that results report.
    pub fn reported_tails(&self) -> ReportedTails {
        self.model.reported_tails()
    }

    /// Summarises a merged result of at least one iteration.
    pub fn summary(&self, result: &ShardResult) -> Summary {
        Summary::new(result, &self.program, &self.reported_tails())
    }

    /// Document `result.json` of a run whose shards were merged to `result`.
    pub fn result_document(&self, result: &ShardResult, stop_reason: StopReason) -> ResultDocument {
        let mode = match self.envelope.seed {
            Seed::Derived => "derived",
            Seed::Explicit { .. } => "explicit",
        };
        ResultDocument {
            schema: "forge.result.v1",
            kernel: KERNEL,
            replay_key: self.replay_key,
            op: self.envelope.op.clone(),
            args: self.envelope.args.clone(),
            seed: SeedReport { mode, root_seed: self.root_seed },
            program: self.program_digest,
            iterations: IterationReport {
                requested: self.plan.iterations(),
                performed: result.iterations,
                stop_reason,
            },
            work: WorkReport::new(result, &self.program, &self.model.component_names()),
            output: self.model.output(result, &self.program, &self.summary(result)),
        }
    }
}

/// The canonical JSON of a value whose numbers all have been read strictly.
fn canonical_bytes(value: &Value) -> Vec<u8> {
    to_canonical_json(value).expect("strictly read args and names have canonical JSON")
}

fn normalised_args(model: &dyn WorkloadModel) -> Map<String, Value> {
    let mut args = model.model_args();
    let budget = model.budget();
    args.insert("iterations".into(), budget.iterations.into());
    if let Some(convergence) = &budget.convergence {
        args.insert("convergence".into(), convergence.to_value());
    }
    args
}

fn compile(model: &dyn WorkloadModel) -> Result<CompiledModel, InvalidDocument> {
    let program = model.compile()?;
    program.validate().map_err(|rule| {
        InvalidDocument::single("/args", format!("cannot be compiled to a program: {rule}"))
    })?;
    let digest = program.digest();
    Ok(CompiledModel { program: Arc::new(program), digest })
}

/// Canonical JSON of the op and the model's args.
fn canonical_model(envelope: &Envelope, model: &dyn WorkloadModel) -> Vec<u8> {
    canonical_bytes(&json!({ "op": envelope.op, "args": model.model_args() }))
}

fn root_seed(envelope: &Envelope, model: &dyn WorkloadModel) -> Digest {
    match &envelope.seed {
        Seed::Derived => seed_tree::derived_root(&canonical_model(envelope, model)),
        Seed::Explicit { value } => seed_tree::explicit_root(value),
    }
}

fn replay_key(envelope: &Envelope) -> ReplayKey {
    let replay = json!({ "kernel": KERNEL, "op": envelope.op, "args": envelope.args, "seed": envelope.seed });
    ReplayKey(Digest::hash_parts(&[&canonical_bytes(&replay)]))
}
