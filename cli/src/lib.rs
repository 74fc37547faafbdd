//! The `forge` command as a library: parses the command line, runs the command, and maps its error
//! to an exit code. Every command has a module of its own; `client` and `cluster` hold several.
//!
//! The items that are exported besides [`main`] are for programs that do the same without a command
//! line, such as the Python package. They install no signal handler and write no output.

mod archive;
mod artifact_limits;
mod audit;
mod bench;
mod client;
mod cluster;
mod completions;
mod context;
mod credentials;
mod devices;
mod diff;
mod engine;
mod envelope;
mod envelope_run;
mod environment;
mod error;
mod example;
mod exit_code;
mod explain;
mod export;
mod foreign_text;
mod gpu;
mod in_process;
mod input;
mod interrupt;
mod job_host;
mod local_path;
mod operator;
mod output;
mod progress;
mod recomputation;
#[cfg(test)]
mod reference;
mod replay;
mod report;
mod run;
mod runtime;
mod schema;
mod shard_retention;
mod store_args;
mod stored_job;
mod text;
mod version;
mod year_pass;
mod year_record;
mod year_table;
mod years;

use std::{env, process::ExitCode};

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use crate::{
    audit::{AuditReport, JobAuditArgs, audit_manifest},
    client::{ClientConnection, fetch_artifacts, follow_job, read_artifact},
    engine::EngineArgs,
    envelope_run::{EnvelopeRun, FinishedRun, RunSettings},
    error::{CommandError, JobFailure},
    job_host::{JobControl, JobHost},
    store_args::StoreArgs,
};

const EXAMPLES: &str = "\
Examples:
  forge envelope new > job.json
  forge run job.json
  forge audit forge-out/jobs/<job_id>/manifest.json --full";

/// Deterministic Monte Carlo: the same envelope gives the same bytes on every machine
#[derive(Debug, Parser)]
#[command(
    name = "forge",
    version,
    long_version = version::LONG_VERSION.as_str(),
    after_help = format!("{EXAMPLES}\n\n{}", exit_code::help_section())
)]
struct Cli {
    #[command(subcommand)]
    command: ForgeCommand,
}

#[derive(Debug, Subcommand)]
enum ForgeCommand {
    Run(run::RunArgs),
    Replay(replay::ReplayArgs),
    Diff(diff::DiffArgs),
    Audit(audit::AuditArgs),
    Report(report::StoredReportArgs),
    Export(export::ExportArgs),
    Explain(explain::ExplainArgs),
    Years(years::YearsArgs),
    Devices(devices::DevicesArgs),
    Bench(bench::BenchArgs),
    Envelope(envelope::EnvelopeArgs),
    Schema(schema::SchemaArgs),
    Submit(client::SubmitArgs),
    Watch(client::WatchArgs),
    Status(client::StatusArgs),
    Jobs(client::JobsArgs),
    Cancel(client::CancelArgs),
    Artifacts(client::ArtifactsArgs),
    Agents(operator::AgentsArgs),
    Quarantine(operator::QuarantineArgs),
    Console(cluster::ConsoleArgs),
    Context(context::ContextCommandArgs),
    Credentials(credentials::CredentialsArgs),
    Up(cluster::UpArgs),
    Planner(cluster::PlannerArgs),
    Worker(cluster::WorkerArgs),
    Verifier(cluster::VerifierArgs),
    Aggregator(cluster::AggregatorArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
    #[command(hide = true)]
    ExecuteShard(cluster::ExecuteShardArgs),
}

/// Runs the command that the arguments of this process name.
///
/// # Safety
/// No other thread may exist, because variables of the environment are changed.
#[must_use]
pub unsafe fn main() -> ExitCode {
    // Mesa's device selection layer looks for a display and prints to standard error if there is
    // none.
    // SAFETY: the caller warrants it.
    unsafe { env::set_var("NODEVICE_SELECT", "1") };
    // SAFETY: the caller warrants it.
    unsafe { environment::normalise() };
    let result = match Cli::command().try_get_matches() {
        // SAFETY: the caller warrants it.
        Ok(matches) => unsafe { with_context(matches) }.and_then(|matches| execute_or_print_config(&matches)),
        Err(error) if error.use_stderr() => error.exit(),
        // Help and version.
        Err(error) => output::print_help(&error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Standard output says it.
        Err(error @ CommandError::ResultsDiffer) => error.exit_code(),
        Err(error) => {
            output::print_to_stderr(&format!("error: {error}"));
            error.exit_code()
        }
    }
}

/// Reads the command line again if the command uses a context, whose settings are variables then.
///
/// # Safety
/// No other thread may exist.
unsafe fn with_context(matches: ArgMatches) -> Result<ArgMatches, CommandError> {
    // SAFETY: the caller warrants it.
    let is_changed = unsafe { context::apply_context(&matches) }?;
    Ok(if is_changed { Cli::command().get_matches() } else { matches })
}

fn execute_or_print_config(matches: &ArgMatches) -> Result<(), CommandError> {
    if cluster::print_config(&Cli::command(), matches)? { Ok(()) } else { execute(matches) }
}

fn execute(matches: &ArgMatches) -> Result<(), CommandError> {
    let cli = Cli::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        ForgeCommand::Run(args) => run::execute(&args),
        ForgeCommand::Replay(args) => replay::execute(&args),
        ForgeCommand::Diff(args) => diff::execute(&args),
        ForgeCommand::Audit(args) => audit::execute(&args),
        ForgeCommand::Report(args) => report::execute(&args),
        ForgeCommand::Export(args) => export::execute(&args),
        ForgeCommand::Explain(args) => explain::execute(&args),
        ForgeCommand::Years(args) => years::execute(&args),
        ForgeCommand::Devices(args) => devices::execute(&args),
        ForgeCommand::Bench(args) => bench::execute(&args),
        ForgeCommand::Envelope(args) => envelope::execute(&args),
        ForgeCommand::Schema(args) => schema::execute(&args),
        ForgeCommand::Submit(args) => client::commands::submit(&args),
        ForgeCommand::Watch(args) => client::commands::watch(&args),
        ForgeCommand::Status(args) => client::commands::status(&args),
        ForgeCommand::Jobs(args) => client::commands::jobs(&args),
        ForgeCommand::Cancel(args) => client::commands::cancel(&args),
        ForgeCommand::Artifacts(args) => client::commands::artifacts(&args),
        ForgeCommand::Agents(args) => operator::commands::agents(&args),
        ForgeCommand::Quarantine(args) => operator::commands::quarantine(&args),
        ForgeCommand::Console(args) => cluster::commands::console(&args),
        ForgeCommand::Context(args) => context::execute(&args),
        ForgeCommand::Credentials(args) => credentials::execute(&args),
        ForgeCommand::Up(args) => cluster::commands::up(&args, cluster::is_default(matches, "nats_url")),
        ForgeCommand::Planner(args) => cluster::commands::planner(&args),
        ForgeCommand::Worker(args) => cluster::commands::worker(&args),
        ForgeCommand::Verifier(args) => cluster::commands::verifier(&args),
        ForgeCommand::Aggregator(args) => cluster::commands::aggregator(&args),
        ForgeCommand::Completions(args) => completions::print_completions(&args, Cli::command()),
        ForgeCommand::Man(args) => completions::write_manual(&args, Cli::command()),
        ForgeCommand::ExecuteShard(args) => cluster::commands::execute_shard(&args),
    }
}
