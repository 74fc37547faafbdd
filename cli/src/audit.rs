//! `forge audit`: checks everything that a completed job stored, offline, and reports the outcome
//! of every check.
//!
//! Reading order: [`audit`](self) → [`evidence`] → the checks ([`document_checks`],
//! [`shard_checks`], [`signature_checks`], [`reexecution`]) → [`report`].

mod document_checks;
mod evidence;
mod reexecution;
mod report;
mod sampling;
mod shard_checks;
mod shard_merge;
mod signature_checks;

use std::path::PathBuf;

use clap::Args;

use self::{evidence::Evidence, reexecution::ReexecutionOptions, report::AuditReport};
use crate::{
    engine::core_count,
    error::CommandError,
    output::{self, OutputFormat, TextStyle},
    stored_job::StoredJob,
};

const EXAMPLES: &str = "\
Examples:
  forge audit forge-out/jobs/quickstart-001/manifest.json
  forge audit forge-out/jobs/quickstart-001 --reexecute 3
  forge audit s3://forge/jobs/quickstart-001 --format json | jq .passed

Exits with code 4 if a check fails. A check whose artifacts were not kept is reported as not possible, which
is not a failure. `forge run --keep-shards` keeps everything that an audit can use; `forge replay` recomputes
the whole job.";

/// Check the stored artifacts of a completed job, offline
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    /// The job: its manifest.json or its directory jobs/<job_id>, locally or in a bucket as s3://…
    manifest: PathBuf,
    /// Also re-execute N randomly drawn shards on the scalar reference
    #[arg(long, value_name = "N", default_value_t = 0)]
    reexecute: usize,
    /// Seed that draws the shards to re-execute, to repeat an audit [default: random]
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
    /// Number of threads that re-execute shards [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Output format: text is one line per check, json is one object
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// Runs the command.
///
/// # Errors
/// The job cannot be read, or a check failed.
pub fn execute(args: &AuditArgs) -> Result<(), CommandError> {
    let stored = StoredJob::open(&args.manifest)?;
    let mut report = AuditReport::new(stored.manifest.job_id.clone());
    let evidence = Evidence::collect(&stored, &mut report);
    document_checks::check_envelope(&evidence, &mut report);
    document_checks::check_result(&evidence, &mut report);
    document_checks::check_plan(&evidence, &mut report);
    shard_checks::check_executions(&evidence, &mut report);
    signature_checks::check_result_signatures(&evidence, &mut report);
    shard_checks::check_merkle_root(&evidence, &mut report);
    shard_checks::check_reduction(&evidence, &mut report);
    signature_checks::check_verification(&evidence, &mut report);
    signature_checks::check_manifest_signature(&evidence, &mut report);
    if args.reexecute > 0 {
        let seed = args.seed.clone().map_or_else(random_seed, Ok)?;
        let threads = args.threads.map_or_else(core_count, usize::from);
        let options = ReexecutionOptions { shard_count: args.reexecute, seed, threads };
        reexecution::check_reexecution(&evidence, &options, &mut report)?;
    }
    let text = match args.format {
        OutputFormat::Text => report.render(TextStyle::of_stdout()),
        OutputFormat::Json => report.to_json(),
    };
    output::print(text.as_bytes())?;
    match report.failed_count() {
        0 => Ok(()),
        failed => Err(CommandError::Mismatch(format!("{failed} of {} checks failed", report.check_count()))),
    }
}

fn random_seed() -> Result<String, CommandError> {
    let random = getrandom::u64().map_err(|error| {
        CommandError::Input(format!("the system provides no random numbers ({error}); give --seed"))
    })?;
    Ok(format!("{random:016x}"))
}
