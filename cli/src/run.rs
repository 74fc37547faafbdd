//! `forge run`: executes an envelope in this process and stores the artifacts that it asks for.

use std::{path::PathBuf, sync::Arc};

use clap::{Args, builder::TypedValueParser};
use forge_aggregator::JobCompletion;
use forge_contract::{artifact::Phase, error::FailureCode, ids::JobId};
use forge_documents::Job;
use forge_service::model_cache::ModelCache;
use forge_store::{Store, StoreLocation};

use crate::{
    engine::{Engine, EngineArgs},
    error::{CommandError, JobFailure},
    in_process::InProcessCluster,
    input,
    output::{self, OutputFormat, TextStyle},
    runtime::DetachedRuntime,
    shard_retention::ShardRetention,
    store_args::{s3_options, store_location},
    text::summary::RunSummary,
};

const EXAMPLES: &str = "\
Examples:
  forge run examples/insurance.json
  forge run examples/insurance.json --format json | jq .output.mean_loss
  forge run examples/insurance.json --as quickstart-002
  forge envelope new | forge run - --out /tmp/out --keep-shards=0

The result depends only on the envelope's op, args and seed, not on threads, backend or machine.";

/// Execute an envelope in this process and store its artifacts
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Envelope file, or - for standard input
    envelope: PathBuf,
    /// Run under this job id instead of the envelope's ctx.job_id
    #[arg(long = "as", value_name = "JOB_ID")]
    job_id: Option<JobId>,
    /// Store for the artifacts: a directory, which is created if missing, or s3://bucket[/prefix],
    /// with the settings of the AWS tools
    #[arg(long, value_name = "LOCATION", default_value = "forge-out", value_parser = output_location())]
    out: StoreLocation,
    /// Output format: text is a summary, json is exactly the bytes of result.json
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    engine: EngineArgs,
    /// Keep the shard results of a job, so that an audit can merge them again (shards.bin, about
    /// 40 kB per shard), if they take at most this many MiB together; 0 keeps none, unlimited (or
    /// no value) keeps all
    #[arg(
        long,
        value_name = "MIB",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = ShardRetention::default(),
        default_missing_value = "unlimited"
    )]
    keep_shards: ShardRetention,
}

/// The parser of `--out`: a store that outlives the process.
fn output_location() -> impl TypedValueParser<Value = StoreLocation> {
    store_location().try_map(|location| match location {
        StoreLocation::Memory => {
            Err("memory: keeps nothing: set artifacts.persist in the envelope to false instead")
        }
        other => Ok(other),
    })
}

/// Runs the command.
///
/// # Errors
/// The envelope is invalid, or the job failed.
pub fn execute(args: &RunArgs) -> Result<(), CommandError> {
    // The model is compiled here once; the services of this process share it.
    let models = Arc::new(ModelCache::new(1));
    let mut request = input::read_request(&args.envelope, models.as_ref())?;
    if let Some(job_id) = &args.job_id {
        request.envelope.ctx.job_id = Some(job_id.clone());
    }
    let job = Job::new(request);
    input::print_warnings(&job.request);
    let engine = Engine::new(&args.engine, &job.request)?;
    let runtime = DetachedRuntime::new()?;
    let archive = match job.request.envelope.artifacts.persist {
        true => Some(JobArchive::open(&runtime, &args.out, &job)?),
        false => None,
    };
    let store = archive.as_ref().map_or_else(|| Arc::new(Store::in_memory()), |a| Arc::clone(&a.store));
    let request = &job.request;
    let limited = engine.limited_by(&request.envelope.policy, request.plan.shard_count());
    let Engine { backend, threads, .. } = limited.map_err(|failure| match &archive {
        Some(archive) => archive.record_failure(failure),
        None => failure.into(),
    })?;
    let max_kept_bytes = args.keep_shards.max_bytes();
    let cluster = InProcessCluster { backend, threads, store, models, max_kept_bytes };
    match cluster.execute(&runtime, &job, !args.engine.no_progress) {
        Ok(completion) => print_result(args, &completion, threads),
        Err(CommandError::Job(failure)) => Err(match archive {
            Some(archive) => archive.describe_failure(failure),
            None => failure.into(),
        }),
        Err(other) => Err(other),
    }
}

/// The store from the perspective of one job, before and after its run.
struct JobArchive<'a> {
    runtime: &'a DetachedRuntime,
    store: Arc<Store>,
    job: &'a Job,
}

impl<'a> JobArchive<'a> {
    /// Opens the store and checks that no other envelope has completed under the job's id.
    fn open(
        runtime: &'a DetachedRuntime,
        location: &StoreLocation,
        job: &'a Job,
    ) -> Result<Self, CommandError> {
        let storage = |error| JobFailure::storage(&error);
        let store = runtime.block_on(Store::open(location, &s3_options(location)?)).map_err(storage)?;
        let earlier = runtime.block_on(store.get_manifest(&job.id)).map_err(storage)?;
        if earlier.is_none_or(|earlier| earlier.request == job.envelope_digest) {
            return Ok(Self { runtime, store: Arc::new(store), job });
        }
        let message = format!(
            "{} is the manifest of another envelope with job id {}; choose another job id with --as, or another --out",
            store.locate(&Store::manifest_key(&job.id)),
            job.id
        );
        Err(JobFailure::new(FailureCode::Conflict, Phase::Validate, message).into())
    }

    /// Records a failure that occurred before the job was executed, and adds the location of the
    /// record to its message.
    fn record_failure(&self, mut failure: JobFailure) -> CommandError {
        let document = self.job.error_document(failure.code, failure.phase, &failure.message, Vec::new());
        match self.runtime.block_on(self.store.put_error(&document)) {
            Ok(true) => self.describe_failure(failure),
            Ok(false) => failure.into(),
            Err(error) => {
                failure.message = format!("{} (not recorded: {error})", failure.message);
                failure.into()
            }
        }
    }

    /// Adds the location of the failure's record to its message, if it was recorded. If an earlier
    /// run stored a different result, that is a mismatch rather than a failure of this job.
    fn describe_failure(&self, mut failure: JobFailure) -> CommandError {
        if (failure.code, failure.phase) == (FailureCode::VerificationFailed, Phase::Store) {
            return CommandError::Mismatch(format!("{}: {}", failure.code, failure.message));
        }
        let recorded = self.runtime.block_on(self.store.get_error(&self.job.id)).ok().flatten();
        if recorded.is_some_and(|recorded| recorded.message == failure.message) {
            let location = self.store.locate(&Store::error_key(&self.job.id));
            failure.message = format!("{} (recorded in {location})", failure.message);
        }
        failure.into()
    }
}

fn print_result(args: &RunArgs, completion: &JobCompletion, threads: usize) -> Result<(), CommandError> {
    match args.format {
        OutputFormat::Json => output::print(&completion.job_result.json),
        OutputFormat::Text => {
            let summary = RunSummary { completion, threads, artifacts: artifact_facts(completion) };
            output::print(summary.render(TextStyle::of_stdout()).as_bytes())
        }
    }
}

/// Where the artifacts are and which commands check them: label and text.
fn artifact_facts(completion: &JobCompletion) -> Vec<(String, String)> {
    let mut facts = vec![
        ("SHA-256 of result.json", completion.job_result.hash.to_string()),
        ("Replay key", completion.job.request.replay_key.to_string()),
    ];
    match &completion.manifest {
        None => facts.push(("Stored", "nothing: artifacts.persist is false".to_owned())),
        Some(manifest) => {
            let path = shell_quoted(manifest);
            facts.push(("Manifest", manifest.clone()));
            if completion.stored_before {
                facts.push(("", "same result as stored by an earlier run, which is kept".to_owned()));
            }
            facts.push(("Recompute", format!("forge replay {path}")));
            facts.push(("Check", format!("forge audit {path} --full")));
        }
    }
    facts.into_iter().map(|(label, text)| (label.to_owned(), text)).collect()
}

/// A path as an argument of a POSIX shell, quoted if necessary.
fn shell_quoted(path: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,".contains(c);
    if path.chars().all(is_plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
