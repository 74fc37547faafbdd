//! `forge run`: executes an envelope in this process and stores the artifacts that it asks for.

use std::path::PathBuf;

use clap::{Args, builder::TypedValueParser};
use forge_aggregator::JobCompletion;
use forge_contract::ids::JobId;
use forge_store::StoreLocation;

use crate::{
    engine::EngineArgs,
    envelope_run::{FinishedRun, RunSettings},
    error::CommandError,
    input,
    job_host::JobHost,
    output::{self, OutputFormat, TextStyle},
    shard_retention::ShardRetention,
    store_args::store_location,
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
    let run = input::read_run(&args.envelope, args.job_id.clone())?;
    input::print_warnings(run.request());
    let settings = RunSettings {
        engine: args.engine.clone(),
        store: args.out.clone(),
        max_kept_bytes: args.keep_shards.max_bytes(),
    };
    let host = JobHost::Command { show_progress: !args.engine.no_progress };
    let FinishedRun { completion, threads } = run.execute(&settings, &host)?;
    print_result(args, &completion, threads)
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
