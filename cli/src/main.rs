//! The binary `forge`: reads the command line, calls the command, and turns its end into an exit code. One file a
//! command.

mod audit;
mod engine;
mod envelope;
mod failure;
mod input;
mod local;
mod output;
mod progress;
mod replay;
mod run;
mod schema;
mod text;

use std::{process::ExitCode, time::Instant};

use clap::{Parser, Subcommand};

use crate::failure::EXIT_CODES;

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
    Envelope(envelope::EnvelopeArgs),
    Schema(schema::SchemaArgs),
}

fn main() -> ExitCode {
    let start = Instant::now();
    let ended = match Cli::parse().command {
        Command::Run(args) => run::execute(&args, start),
        Command::Replay(args) => replay::execute(&args),
        Command::Audit(args) => audit::execute(&args),
        Command::Envelope(args) => envelope::execute(&args),
        Command::Schema(args) => schema::execute(&args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&format!("error: {failure}"));
            failure.exit_code()
        }
    }
}
