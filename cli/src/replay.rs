//! `forge replay`: recomputes a completed job from its stored envelope and compares the result
//! hashes.

use std::path::PathBuf;

use clap::Args;
use forge_documents::number_format::format_duration;

use serde_json::json;

use crate::{
    engine::EngineArgs,
    error::CommandError,
    output::{self, OutputFormat},
    recomputation::Recomputation,
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
    /// Output format: text is the hashes and whether they are equal, json is one object
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command.
///
/// # Errors
/// The job cannot be read or executed, or its result differs from the stored one.
pub fn execute(args: &ReplayArgs) -> Result<(), CommandError> {
    let recomputed = Recomputation::of_job(&args.manifest, &args.engine)?;
    let Recomputation { stored, completion, backend, threads, .. } = &recomputed;
    let job_id = &stored.manifest.job_id;
    let (stored_hash, hash) = (stored.manifest.result, completion.job_result.hash);
    let is_same_result = stored_hash == hash;
    let text = match args.format {
        OutputFormat::Json => output::to_json_document(&json!({
            "schema": "forge.replay.v1",
            "job_id": job_id,
            "stored": stored_hash,
            "recomputed": hash,
            "same_result": is_same_result,
            "backend": backend,
            "threads": threads,
            "seconds": completion.execution_duration.as_secs_f64(),
        })),
        OutputFormat::Text => {
            let verdict = if is_same_result { "same result" } else { "DIFFERENT result" };
            let threads = count_of(*threads as u64, "thread");
            let elapsed = format_duration(completion.execution_duration);
            format!(
                "Job        {job_id}\nStored     {stored_hash}\nRecomputed {hash}\n{verdict} ({backend} on \
                 {threads}, {elapsed})\n"
            )
        }
    };
    output::print(text.as_bytes())?;
    recomputed.require_same_result()
}
