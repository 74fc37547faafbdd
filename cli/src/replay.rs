//! `forge replay`: recomputes a completed job from its stored envelope and compares the results' hashes.

use std::{path::PathBuf, time::Instant};

use anyhow::Context;
use clap::Args;
use forge_documents::{Job, document, number::duration};

use crate::{
    engine::{Engine, EngineArgs},
    failure::Failure,
    input::Completed,
    local::{run, stop::Stop},
    output,
    progress::Progress,
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
    /// The job: its manifest.json, or the directory jobs/<job_id>
    manifest: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Carries out the command.
///
/// # Errors
/// The job cannot be read or executed, or its result is another one.
pub fn execute(args: &ReplayArgs) -> Result<(), Failure> {
    let Engine { backend, threads } = Engine::new(&args.engine)?;
    let completed = Completed::open(&args.manifest)?;
    let job = stored_job(&completed)?;
    let request = &job.request;
    // The policy's timeout was for the job; a replay takes the time it takes.
    let stop = Stop::new(Instant::now(), 0);
    stop.on_signals().context("signals cannot be handled")?;
    let progress = Progress::new(!args.engine.no_progress, request, request.plan.iterations());
    let run = progress.during(&stop, || run::run(request, &*backend, threads, &stop, false))?;
    let (stored, computed) = (completed.manifest.result, run.figures.hash);
    let verdict = if stored == computed { "same result" } else { "DIFFERENT result" };
    output::print(
        format!(
            "Job        {}\nStored     {stored}\nRecomputed {computed}\n{verdict} ({} on {}, {})\n",
            job.id,
            backend.name(),
            if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") },
            duration(run.wall)
        )
        .as_bytes(),
    )?;
    if stored == computed {
        return Ok(());
    }
    Err(Failure::Mismatch(format!("job {} has another result than stored", job.id)))
}

/// The job whose envelope is stored with the manifest.
fn stored_job(completed: &Completed) -> Result<Job, Failure> {
    let name = document::ENVELOPE;
    let reference = completed.reference(name);
    let reference = reference.ok_or_else(|| Failure::Mismatch(format!("the manifest names no {name}")))?;
    let bytes = completed.get(reference).map_err(|error| Failure::Mismatch(error.to_string()))?;
    completed.job(&bytes).map_err(|reason| Failure::Mismatch(format!("{name}: {reason}")))
}
