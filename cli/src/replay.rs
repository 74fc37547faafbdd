//! `forge replay`: recomputes a completed job from its stored envelope and compares the result
//! hashes.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use forge_contract::envelope::{Artifacts, Policy};
use forge_documents::{Job, document, number_format::format_duration};
use forge_kernel::request::Request;
use forge_service::model_cache::ModelCache;
use forge_store::Store;

use crate::{
    engine::{Engine, EngineArgs},
    error::CommandError,
    in_process::InProcessCluster,
    output,
    runtime::DetachedRuntime,
    stored_job::{ArtifactProblem, JobLocation, StoredJob},
    text::count_of,
};

const EXAMPLES: &str = "\
Examples:
  forge replay forge-out/jobs/quickstart-001/manifest.json
  forge replay forge-out/jobs/quickstart-001 --backend scalar
  forge replay s3://forge/jobs/quickstart-001

Exits with code 4 if the recomputed result differs from the stored one.";

/// Recompute a completed job and compare the result
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// The job: its manifest.json or its directory jobs/<job_id>, locally or in a bucket as s3://…
    manifest: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command.
///
/// # Errors
/// The job cannot be read or executed, or its result differs from the stored one.
pub fn execute(args: &ReplayArgs) -> Result<(), CommandError> {
    let stored = StoredJob::open(&JobLocation::from_path(&args.manifest)?)?;
    check_result_reference(&stored)?;
    let models = Arc::new(ModelCache::new(1));
    let job = replay_job(&read_job(&stored, &models)?, &models)?;
    let Engine { backend, threads, .. } = Engine::new(&args.engine, &job.request)?;
    let backend_name = backend.name().to_owned();
    let store = Arc::new(Store::in_memory());
    let cluster = InProcessCluster { backend, threads, store, models, max_kept_bytes: 0 };
    let replayed = cluster.execute(&DetachedRuntime::new()?, &job, !args.engine.no_progress)?;
    let job_id = &stored.manifest.job_id;
    let (stored_hash, hash) = (stored.manifest.result, replayed.job_result.hash);
    let verdict = if stored_hash == hash { "same result" } else { "DIFFERENT result" };
    let threads = count_of(threads as u64, "thread");
    let elapsed = format_duration(replayed.execution_duration);
    let text = format!(
        "Job        {job_id}\nStored     {stored_hash}\nRecomputed {hash}\n{verdict} ({backend_name} on {threads}, {elapsed})\n"
    );
    output::print(text.as_bytes())?;
    if stored_hash == hash {
        return Ok(());
    }
    Err(CommandError::Mismatch(format!("the recomputed result of job {job_id} differs from the stored one")))
}

/// The result hash that the manifest states is that of its result.json, if it names one.
fn check_result_reference(stored: &StoredJob) -> Result<(), CommandError> {
    let (name, stated) = (document::RESULT_JSON, stored.manifest.result);
    match stored.artifact_reference(name) {
        Some(reference) if reference.sha256 != stated => Err(CommandError::Mismatch(format!(
            "the manifest's result is {stated}, but its {name} has the hash {}",
            reference.sha256
        ))),
        _ => Ok(()),
    }
}

/// The same computation as a job of its own: it stores nothing, and it drops the policy, whose
/// limits on time and agents applied to the original job.
fn replay_job(job: &Job, models: &ModelCache) -> Result<Job, CommandError> {
    let mut envelope = job.request.envelope.clone();
    envelope.policy = Policy::default();
    envelope.artifacts = Artifacts { persist: false, ..Artifacts::default() };
    Request::from_envelope_with(envelope, models)
        .map(Job::new)
        .map_err(|errors| CommandError::Mismatch(format!("the stored envelope is not valid: {errors}")))
}

/// The job of the envelope stored with the manifest.
fn read_job(stored: &StoredJob, models: &ModelCache) -> Result<Job, CommandError> {
    let name = document::ENVELOPE_JSON;
    let reference = stored
        .artifact_reference(name)
        .ok_or_else(|| CommandError::Mismatch(format!("the manifest names no {name}")))?;
    let bytes = stored.read_artifact(reference, 0).map_err(|problem| match problem {
        ArtifactProblem::Wrong(reason) => CommandError::Mismatch(reason),
        ArtifactProblem::Unreadable(reason) => CommandError::Input(reason),
    })?;
    stored
        .job_of_envelope(&bytes, models)
        .map_err(|reason| CommandError::Mismatch(format!("{name}: {reason}")))
}
