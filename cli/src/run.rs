//! `forge run`: executes an envelope in this process and stores what it asks to keep.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};
use forge_aggregator::JobCompletion;
use forge_contract::{artifact::Phase, error::FailureCode};
use forge_documents::Job;
use forge_service::model_cache::ModelCache;
use forge_store::Store;

use crate::{
    engine::{Engine, EngineArgs},
    failure::{Failure, JobFailure},
    inprocess::{Local, Stage},
    input,
    output::{self, Style},
    text::summary::View,
};

const EXAMPLES: &str = "\
Examples:
  forge run examples/insurance.json
  forge run examples/insurance.json --format json | jq .output.mean_loss
  forge envelope new | forge run - --out /tmp/out --keep-shards

The result depends on op, args and seed alone: not on threads, backend or machine.";

/// Execute an envelope here and store its artifacts
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The envelope: a file, or - for standard input
    envelope: PathBuf,
    /// Directory that holds the artifacts; created if there is none
    #[arg(long, value_name = "DIR", default_value = "forge-out")]
    out: PathBuf,
    /// What is written to standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    engine: EngineArgs,
    /// Keep every shard's result (shards.bin, some 40 kB a shard), so that an audit can merge them again
    #[arg(long)]
    keep_shards: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A summary for people
    Text,
    /// Exactly the bytes of result.json
    Json,
}

/// Carries out the command.
///
/// # Errors
/// The envelope is invalid, or the job failed.
pub fn execute(args: &RunArgs) -> Result<(), Failure> {
    // The model is compiled here, once for all services.
    let models = Arc::new(ModelCache::new(1));
    let job = Job::new(input::request(&args.envelope, models.as_ref())?);
    let engine = Engine::new(&args.engine, &job.request)?;
    let stage = Stage::new()?;
    let archive = match job.request.envelope.artifacts.persist {
        true => Some(Archive::open(&stage, &args.out, &job)?),
        false => None,
    };
    let store = archive.as_ref().map_or_else(|| Arc::new(Store::in_memory()), |a| Arc::clone(&a.store));
    let request = &job.request;
    let confined = engine.confined(&request.envelope.policy, request.plan.shard_count());
    let Engine { backend, threads, .. } = confined.map_err(|failure| match &archive {
        Some(archive) => archive.record(failure),
        None => failure.into(),
    })?;
    let local = Local { backend, threads, store, models, keep_shards: args.keep_shards };
    match local.execute(&stage, &job, !args.engine.no_progress) {
        Ok(completed) => report(args, &completed, threads),
        Err(Failure::Job(failure)) => Err(match archive {
            Some(archive) => archive.name_record(failure),
            None => failure.into(),
        }),
        Err(other) => Err(other),
    }
}

/// The store as one job sees it before and after its run.
struct Archive<'a> {
    stage: &'a Stage,
    store: Arc<Store>,
    job: &'a Job,
}

impl<'a> Archive<'a> {
    /// Opens the store, and looks whether the job's id is taken.
    fn open(stage: &'a Stage, root: &Path, job: &'a Job) -> Result<Self, Failure> {
        let storage = |error| JobFailure::storage(&error);
        let store = stage.block_on(Store::create_local(root)).map_err(storage)?;
        let earlier = stage.block_on(store.get_manifest(&job.id)).map_err(storage)?;
        if earlier.is_none_or(|earlier| earlier.request == job.envelope_digest) {
            return Ok(Self { stage, store: Arc::new(store), job });
        }
        let message = format!(
            "{} is the manifest of another envelope under the job id {}: choose another ctx.job_id, or another --out",
            store.locate(&Store::manifest_key(&job.id)),
            job.id
        );
        Err(JobFailure::new(FailureCode::Conflict, Phase::Validate, message).into())
    }

    /// Records an attempt that failed before anything was run, and answers the failure that says where.
    fn record(&self, mut failure: JobFailure) -> Failure {
        let document = self.job.error_document(failure.code, failure.phase, &failure.message, Vec::new());
        match self.stage.block_on(self.store.put_error(&document)) {
            Ok(true) => self.name_record(failure),
            Ok(false) => failure.into(),
            Err(error) => {
                failure.message = format!("{} (not recorded: {error})", failure.message);
                failure.into()
            }
        }
    }

    /// Says where a failure is recorded, if it is. An earlier run's other result is no failure of this one.
    fn name_record(&self, mut failure: JobFailure) -> Failure {
        if (failure.code, failure.phase) == (FailureCode::VerificationFailed, Phase::Store) {
            return Failure::Mismatch(format!("{}: {}", failure.code, failure.message));
        }
        let recorded = self.stage.block_on(self.store.get_error(&self.job.id)).ok().flatten();
        if recorded.is_some_and(|recorded| recorded.message == failure.message) {
            let place = self.store.locate(&Store::error_key(&self.job.id));
            failure.message = format!("{} (recorded in {place})", failure.message);
        }
        failure.into()
    }
}

fn report(args: &RunArgs, completed: &JobCompletion, threads: usize) -> Result<(), Failure> {
    if args.format == Format::Json {
        return output::print(&completed.job_result.json);
    }
    let view = View { completed, threads, artifacts: places(completed) };
    output::print(view.text(Style::of_stdout()).as_bytes())
}

/// Where the artifacts are and what can be done with them: label and text.
fn places(completed: &JobCompletion) -> Vec<(String, String)> {
    let mut places = vec![
        ("SHA-256 of result.json", completed.job_result.hash.to_string()),
        ("Replay key", completed.job.request.replay_key.to_string()),
    ];
    match &completed.manifest {
        None => places.push(("Stored", "nothing: artifacts.persist is false".to_owned())),
        Some(manifest) => {
            let path = quoted(manifest);
            places.push(("Manifest", manifest.clone()));
            if completed.stored_before {
                places.push(("", "same result as stored by an earlier run; nothing was written".to_owned()));
            }
            places.push(("Compute again", format!("forge replay {path}")));
            places.push(("Check", format!("forge audit {path} --reexecute 3")));
        }
    }
    places.into_iter().map(|(label, text)| (label.to_owned(), text)).collect()
}

/// A path as a shell reads it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
