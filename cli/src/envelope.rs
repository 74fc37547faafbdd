//! `forge envelope`: prints an example envelope to start from, and checks one before it is
//! submitted.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use forge_documents::{Job, number_format::format_count};
use forge_kernel::workload::{PROFILES, Profile};
use serde::Serialize;

use crate::{
    error::CommandError,
    example::example_envelope,
    input, output,
    text::{count_of, table},
};

const EXAMPLES: &str = "\
Examples:
  forge envelope new > job.json
  forge envelope new --profile eta.v1
  forge envelope check job.json
  forge envelope check job.json --print";

/// Print an example envelope, or check one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EnvelopeArgs {
    #[command(subcommand)]
    command: EnvelopeCommand,
}

#[derive(Debug, Subcommand)]
enum EnvelopeCommand {
    /// Print a complete example envelope
    New {
        /// Profile of the example
        #[arg(long, value_name = "NAME", default_value = PROFILES[0].name)]
        profile: String,
    },
    /// Check an envelope without running it
    ///
    /// Prints its job id, replay key and plan. If the envelope is invalid, prints every error as
    /// `pointer: message` on standard error and exits with code 2.
    Check {
        /// Envelope file, or - for standard input
        file: PathBuf,
        /// Print the envelope in normal form, with every default filled in, instead of the plan
        #[arg(long)]
        print: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// There is no such profile, or the envelope is invalid.
pub fn execute(args: &EnvelopeArgs) -> Result<(), CommandError> {
    match &args.command {
        EnvelopeCommand::New { profile } => {
            output::print(to_pretty_json(&example_envelope(find_profile(profile)?)).as_bytes())
        }
        EnvelopeCommand::Check { file, print } => check(file, *print),
    }
}

fn find_profile(name: &str) -> Result<&'static Profile, CommandError> {
    PROFILES.into_iter().find(|profile| profile.name == name).ok_or_else(|| {
        let names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        let names = names.join(", ");
        CommandError::Input(format!("--profile: unknown profile {name:?}; available profiles: {names}"))
    })
}

fn check(file: &Path, print: bool) -> Result<(), CommandError> {
    let request = input::read_request(file, &()).map_err(|error| match error {
        CommandError::InvalidEnvelope { source_name, errors } => {
            errors.errors().iter().for_each(|error| output::print_to_stderr(&error.to_string()));
            let count = count_of(errors.errors().len() as u64, "error");
            CommandError::Input(format!("{source_name} is not a valid envelope: {count}"))
        }
        other => other,
    })?;
    let job = Job::new(request);
    if print {
        return output::print(to_pretty_json(&job.request.envelope).as_bytes());
    }
    let (plan, words) = (&job.request.plan, job.request.profile().vocabulary);
    let shards = count_of(plan.shard_count(), "shard");
    let mut facts = vec![
        ("Job id", job.id.to_string()),
        ("Replay key", job.request.replay_key.to_string()),
        ("Plan", format!("{} {} in {shards}", format_count(plan.iterations()), words.iterations)),
    ];
    if !plan.checkpoints().is_empty() {
        let checkpoints = count_of(plan.checkpoints().len() as u64, "checkpoint");
        facts.push(("Convergence", format!("tested at up to {checkpoints}")));
    }
    let facts: Vec<_> = facts.into_iter().map(|(label, text)| (label.to_owned(), text)).collect();
    output::print(format!("valid\n{}\n", table::render_facts(&facts).join("\n")).as_bytes())
}

fn to_pretty_json(envelope: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(envelope).expect("an envelope always serialises");
    format!("{text}\n")
}
