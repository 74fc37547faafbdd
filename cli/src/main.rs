//! The binary `forge`: reads the command line, calls the command, and turns its end into an exit code. One file a
//! command.

mod audit;
mod bench;
mod client;
mod cluster;
mod devices;
mod engine;
mod envelope;
mod failure;
mod gpu;
mod inprocess;
mod input;
mod interrupt;
mod output;
mod progress;
#[cfg(test)]
mod reference;
mod replay;
mod run;
mod schema;
mod text;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::failure::{EXIT_CODES, Failure};

const EXAMPLES: &str = "\
Examples:
  forge envelope new > job.json
  forge run job.json
  forge audit forge-out/jobs/<job_id>/manifest.json --reexecute 3";

/// Deterministic Monte Carlo: the same envelope gives the same bytes on every machine
#[derive(Debug, Parser)]
#[command(name = "forge", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Replay(replay::ReplayArgs),
    Audit(audit::AuditArgs),
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
    Up(cluster::UpArgs),
    Planner(cluster::PlannerArgs),
    Worker(cluster::WorkerArgs),
    Verifier(cluster::VerifierArgs),
    Aggregator(cluster::AggregatorArgs),
}

fn main() -> ExitCode {
    quieten_drivers();
    let matches = Cli::command().get_matches();
    let ended = match cluster::print_config(&Cli::command(), &matches) {
        Ok(true) => Ok(()),
        Ok(false) => execute(&matches),
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&format!("error: {failure}"));
            failure.exit_code()
        }
    }
}

/// Keeps a layer of Mesa's Vulkan drivers from looking for a display: without one, it says so on standard error.
fn quieten_drivers() {
    // SAFETY: nothing has started a thread yet.
    unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
}

fn execute(matches: &ArgMatches) -> Result<(), Failure> {
    let cli = Cli::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        Command::Run(args) => run::execute(&args),
        Command::Replay(args) => replay::execute(&args),
        Command::Audit(args) => audit::execute(&args),
        Command::Devices(args) => devices::execute(&args),
        Command::Bench(args) => bench::execute(&args),
        Command::Envelope(args) => envelope::execute(&args),
        Command::Schema(args) => schema::execute(&args),
        Command::Submit(args) => client::commands::submit(&args),
        Command::Watch(args) => client::commands::watch(&args),
        Command::Status(args) => client::commands::status(&args),
        Command::Jobs(args) => client::commands::jobs(&args),
        Command::Cancel(args) => client::commands::cancel(&args),
        Command::Artifacts(args) => client::commands::artifacts(&args),
        Command::Up(args) => cluster::commands::up(&args, cluster::is_default(matches, "nats_url")),
        Command::Planner(args) => cluster::commands::planner(&args),
        Command::Worker(args) => cluster::commands::worker(&args),
        Command::Verifier(args) => cluster::commands::verifier(&args),
        Command::Aggregator(args) => cluster::commands::aggregator(&args),
    }
}
