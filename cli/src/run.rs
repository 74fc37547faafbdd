//! `forge run`: executes an envelope in this process and stores what it asks to keep.

use std::{
    path::{Path, PathBuf},
    slice,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use forge_contract::{
    artifact::{ArtifactReference, Execution, ManifestDocument, Phase, VerificationDocument},
    digest::Digest,
    error::FailureCode,
};
use forge_documents::{Document, Job, Outcome};
use forge_store::{Artifact, Completion, Store, shards};
use tokio::runtime::Runtime;

use crate::{
    engine::{Engine, EngineArgs},
    failure::{Failure, JobFailure},
    input,
    local::{
        run::{self, Run},
        stop::Stop,
        verify,
    },
    output::{self, Style},
    progress::Progress,
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

/// What has been computed.
struct Computed {
    run: Run,
    /// The record of its shards.
    executions: Vec<Execution>,
    verification: VerificationDocument,
    backend: String,
    threads: usize,
    planning: Duration,
}

/// Carries out the command; `start` is when the process started.
///
/// # Errors
/// The envelope is invalid, or the job failed.
pub fn execute(args: &RunArgs, start: Instant) -> Result<(), Failure> {
    let job = Job::new(input::request(&args.envelope)?);
    let engine = Engine::new(&args.engine)?;
    let runtime = input::runtime()?;
    let archive = match job.request.envelope.artifacts.persist {
        true => Some(Archive::open(&runtime, &args.out, &job)?),
        false => None,
    };
    let attempt = compute(args, &job, engine, start).and_then(|computed| {
        let kept = archive
            .as_ref()
            .map(|archive| archive.store(&computed.outcome(&job), computed.run.kept.as_deref()))
            .transpose()?;
        Ok((computed, kept))
    });
    match attempt {
        Ok((computed, kept)) => report(args, &job, &computed, kept),
        Err(Failure::Job(failure)) => {
            Err(archive.map_or(Failure::Job(failure.clone()), |a| a.record(failure)))
        }
        Err(other) => Err(other),
    }
}

fn compute(args: &RunArgs, job: &Job, engine: Engine, start: Instant) -> Result<Computed, Failure> {
    let request = &job.request;
    let policy = &request.envelope.policy;
    let Engine { backend, threads } = engine.confined(policy, request.plan.shard_count())?;
    let stop = Stop::new(start, policy.timeout_ms);
    stop.on_signals().context("signals cannot be handled")?;
    let progress = |iterations| Progress::new(!args.engine.no_progress, request, iterations);
    let planning = start.elapsed();
    let run = progress(request.plan.iterations())
        .during(&stop, || run::run(request, &*backend, threads, &stop, args.keep_shards))?;
    let again = (verify::share(policy) * run.figures.merged.iterations as f64) as u64;
    let verification =
        progress(again).during(&stop, || verify::verify(job, &run, backend.name(), threads, &stop))?;
    let executions = run.executions(request, backend.name());
    Ok(Computed { run, executions, verification, backend: backend.name().to_owned(), threads, planning })
}

impl Computed {
    fn outcome<'a>(&'a self, job: &'a Job) -> Outcome<'a> {
        Outcome {
            job,
            figures: &self.run.figures,
            executions: &self.executions,
            verification: &self.verification,
            backends: slice::from_ref(&self.backend),
            threads: self.threads as u64,
            planning: self.planning,
            executing: self.run.wall,
        }
    }
}

/// The store as one job sees it.
struct Archive<'a> {
    runtime: &'a Runtime,
    store: Store,
    job: &'a Job,
    /// The manifest of an earlier run of the same job.
    earlier: Option<ManifestDocument>,
}

/// What became of the artifacts.
struct Kept {
    manifest: String,
    /// Whether an earlier run had stored them.
    before: bool,
}

impl<'a> Archive<'a> {
    /// Opens the store, and looks whether the job's id is taken.
    fn open(runtime: &'a Runtime, root: &Path, job: &'a Job) -> Result<Self, Failure> {
        let storage = |error| JobFailure::storage(&error);
        let store = runtime.block_on(Store::create_local(root)).map_err(storage)?;
        let earlier = runtime.block_on(store.manifest(&job.id)).map_err(storage)?;
        let archive = Self { runtime, store, job, earlier };
        archive.earlier.as_ref().map_or(Ok(()), |earlier| archive.same_request(earlier))?;
        Ok(archive)
    }

    fn same_request(&self, earlier: &ManifestDocument) -> Result<(), JobFailure> {
        if earlier.request == self.job.digest {
            return Ok(());
        }
        let message = format!(
            "{} is the manifest of another envelope under the job id {}: choose another ctx.job_id, or another --out",
            self.manifest(),
            self.job.id
        );
        Err(JobFailure::new(FailureCode::Conflict, Phase::Validate, message))
    }

    fn manifest(&self) -> String {
        self.store.locate(&Store::manifest_key(&self.job.id))
    }

    /// Stores the artifacts, `shards` (all shard results as one object) among them, and then the manifest; or, if an
    /// earlier run has, compares with what it stored.
    fn store(&self, outcome: &Outcome<'_>, shards: Option<&[u8]>) -> Result<Kept, Failure> {
        if let Some(earlier) = &self.earlier {
            return self.compare(outcome, earlier);
        }
        let storage = |error| JobFailure::storage(&error);
        let stored = self.runtime.block_on(async {
            let references = self.store.put_artifacts(artifacts(outcome, shards)).await?;
            self.store.complete(&outcome.manifest(references), &outcome.headline()).await
        });
        match stored.map_err(storage)? {
            Completion::Stored => Ok(Kept { manifest: self.manifest(), before: false }),
            Completion::AlreadyComplete(earlier) => {
                self.same_request(&earlier)?;
                self.compare(outcome, &earlier)
            }
        }
    }

    /// Compares with what an earlier run stored: its result, and that its objects are all there and whole.
    fn compare(&self, outcome: &Outcome<'_>, earlier: &ManifestDocument) -> Result<Kept, Failure> {
        let result = outcome.figures.hash;
        if result != earlier.result {
            return Err(Failure::Mismatch(format!(
                "{}: {} stores the result {}, and this run computed {result}",
                FailureCode::VerificationFailed,
                self.manifest(),
                earlier.result
            )));
        }
        let whole = |reference: &ArtifactReference| self.runtime.block_on(self.store.get_artifact(reference));
        for reference in &earlier.artifacts {
            whole(reference).map_err(|error| JobFailure::storage(&error))?;
        }
        Ok(Kept { manifest: self.manifest(), before: true })
    }

    /// Records a failed attempt, and answers the failure that says where.
    fn record(&self, mut failure: JobFailure) -> Failure {
        let document = self.job.error_document(failure.code, failure.phase, &failure.message, Vec::new());
        match self.runtime.block_on(self.store.put_error(&document)) {
            Ok(true) => {
                let place = self.store.locate(&Store::error_key(&self.job.id));
                failure.message = format!("{} (recorded in {place})", failure.message);
            }
            Ok(false) => {}
            Err(error) => failure.message = format!("{} (not recorded: {error})", failure.message),
        }
        failure.into()
    }
}

/// The documents of a job as objects to be stored, and its shard results if the run kept them.
fn artifacts(outcome: &Outcome<'_>, shards: Option<&[u8]>) -> Vec<Artifact> {
    let artifact = |name: &str, media_type: &str, bytes| Artifact {
        name: name.to_owned(),
        media_type: media_type.to_owned(),
        bytes,
    };
    let documents = outcome.documents().into_iter();
    let documents = documents.map(|Document { name, media_type, bytes }| artifact(name, media_type, bytes));
    let shards = shards.map(|bytes| artifact(shards::NAME, shards::MEDIA_TYPE, bytes.to_vec()));
    documents.chain(shards).collect()
}

fn report(args: &RunArgs, job: &Job, computed: &Computed, kept: Option<Kept>) -> Result<(), Failure> {
    if args.format == Format::Json {
        return output::print(&computed.run.figures.json);
    }
    let view = View {
        job,
        run: &computed.run,
        backend: &computed.backend,
        threads: computed.threads,
        verification: &computed.verification,
        artifacts: places(job, computed.run.figures.hash, kept),
    };
    output::print(view.text(Style::of_stdout()).as_bytes())
}

/// Where the artifacts are and what can be done with them: label and text.
fn places(job: &Job, result: Digest, kept: Option<Kept>) -> Vec<(String, String)> {
    let mut places = vec![
        ("SHA-256 of result.json", result.to_string()),
        ("Replay key", job.request.replay_key.to_string()),
    ];
    match kept {
        None => places.push(("Stored", "nothing: artifacts.persist is false".to_owned())),
        Some(Kept { manifest, before }) => {
            let path = quoted(&manifest);
            places.push(("Manifest", manifest));
            if before {
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
