//! `forge replay`: recomputes a completed job from its stored envelope and compares the results' hashes.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use forge_contract::envelope::{Artifacts, Policy};
use forge_documents::{Job, document, number_format::format_duration};
use forge_kernel::request::Request;
use forge_service::model_cache::ModelCache;
use forge_store::Store;

use crate::{
    engine::{Engine, EngineArgs},
    failure::Failure,
    inprocess::{Local, Stage},
    input::Completed,
    output,
};

const EXAMPLES: &str = "\
Examples:
  forge replay forge-out/jobs/quickstart-001/manifest.json
  forge replay forge-out/jobs/quickstart-001 --backend scalar

Exits with 4 if the result is another one than stored.";

/// Recompute a completed job and compare the result
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// The job: its manifest.json, or the directory jobs/<job_id>; in a directory, or in a bucket as s3://…
    manifest: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Carries out the command.
///
/// # Errors
/// The job cannot be read or executed, or its result is another one.
pub fn execute(args: &ReplayArgs) -> Result<(), Failure> {
    let completed = Completed::open(&args.manifest)?;
    let models = Arc::new(ModelCache::new(1));
    let job = recomputation(&stored_job(&completed)?, &models)?;
    let Engine { backend, threads, .. } = Engine::new(&args.engine, &job.request)?;
    let name = backend.name().to_owned();
    let store = Arc::new(Store::in_memory());
    let local = Local { backend, threads, store, models, keep_shards: false };
    let recomputed = local.execute(&Stage::new()?, &job, !args.engine.no_progress)?;
    let (stored, computed) = (completed.manifest.result, recomputed.job_result.hash);
    let verdict = if stored == computed { "same result" } else { "DIFFERENT result" };
    output::print(
        format!(
            "Job        {}\nStored     {stored}\nRecomputed {computed}\n{verdict} ({name} on {}, {})\n",
            completed.manifest.job_id,
            if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") },
            format_duration(recomputed.executing)
        )
        .as_bytes(),
    )?;
    if stored == computed {
        return Ok(());
    }
    Err(Failure::Mismatch(format!("job {} has another result than stored", completed.manifest.job_id)))
}

/// The same computation as a job of its own: nothing of it is stored, and the policy, which was for the job, is left out; a
/// replay takes the time it takes.
fn recomputation(job: &Job, models: &ModelCache) -> Result<Job, Failure> {
    let mut envelope = job.request.envelope.clone();
    envelope.policy = Policy::default();
    envelope.artifacts = Artifacts { persist: false, ..Artifacts::default() };
    let request = Request::from_envelope_with(envelope, models);
    request.map(Job::new).map_err(|errors| Failure::Mismatch(format!("the stored envelope: {errors}")))
}

/// The job whose envelope is stored with the manifest.
fn stored_job(completed: &Completed) -> Result<Job, Failure> {
    let name = document::ENVELOPE_JSON;
    let reference = completed.reference(name);
    let reference = reference.ok_or_else(|| Failure::Mismatch(format!("the manifest names no {name}")))?;
    let bytes = completed.get(reference).map_err(|error| Failure::Mismatch(error.to_string()))?;
    completed.job(&bytes).map_err(|reason| Failure::Mismatch(format!("{name}: {reason}")))
}
