//! `forge audit`: checks everything that a completed job left behind, offline, and says of each check whether it holds.

mod checks;
mod draw;
mod evidence;
mod fold;
mod reexecution;
mod report;
mod shards;
mod signatures;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use self::{evidence::Evidence, reexecution::Reexecution, report::Report};
use crate::{
    engine::cores,
    failure::Failure,
    input::Completed,
    output::{self, Style},
};

const EXAMPLES: &str = "\
Examples:
  forge audit forge-out/jobs/quickstart-001/manifest.json
  forge audit forge-out/jobs/quickstart-001 --reexecute 3
  forge audit forge-out/jobs/quickstart-001 --format json | jq .passed

Exits with 4 if a check fails. What was not kept cannot be checked and is no failure;
`forge run --keep-shards` keeps all that an audit can use, and `forge replay` recomputes all.";

/// Check everything that a completed job left behind, offline
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    /// The job: its manifest.json, or the directory jobs/<job_id>; in a directory, or in a bucket as s3://…
    manifest: PathBuf,
    /// Also execute N shards again, drawn at random, on the scalar reference
    #[arg(long, value_name = "N", default_value_t = 0)]
    reexecute: usize,
    /// Draw those shards by this text, to repeat an audit [default: the system's randomness]
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
    /// Threads that execute shards [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// What is written to standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each check
    Text,
    /// One JSON object
    Json,
}

/// Carries out the command.
///
/// # Errors
/// The job cannot be read, or a check fails.
pub fn execute(args: &AuditArgs) -> Result<(), Failure> {
    let completed = Completed::open(&args.manifest)?;
    let mut report = Report::new(completed.manifest.job_id.clone());
    let evidence = Evidence::collect(&completed, &mut report);
    checks::envelope(&evidence, &mut report);
    checks::result(&evidence, &mut report);
    checks::plan(&evidence, &mut report);
    shards::executions(&evidence, &mut report);
    signatures::executions(&evidence, &mut report);
    shards::merkle_root(&evidence, &mut report);
    shards::reduction(&evidence, &mut report);
    signatures::verification(&evidence, &mut report);
    signatures::manifest(&evidence, &mut report);
    if args.reexecute > 0 {
        let seed = args.seed.clone().map_or_else(random_seed, Ok)?;
        let threads = args.threads.map_or_else(cores, usize::from);
        reexecution::check(&evidence, &Reexecution { count: args.reexecute, seed, threads }, &mut report)?;
    }
    let text = match args.format {
        Format::Text => report.text(Style::of_stdout()),
        Format::Json => report.json(),
    };
    output::print(text.as_bytes())?;
    match report.failed() {
        0 => Ok(()),
        failed => Err(Failure::Mismatch(format!("{failed} of {} checks failed", report.len()))),
    }
}

fn random_seed() -> Result<String, Failure> {
    let random = getrandom::u64()
        .map_err(|error| Failure::Input(format!("there is no randomness: {error}; give --seed")))?;
    Ok(format!("{random:016x}"))
}
