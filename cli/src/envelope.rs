//! `forge envelope`: prints an example envelope to start from, and checks one before it is
//! submitted.

mod check;
mod source_text;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use forge_kernel::workload::{PROFILES, Profile};
use serde_json::Value;

use crate::{
    error::CommandError,
    example::envelope_of,
    output::{self, OutputFormat},
};

const EXAMPLES: &str = "\
Examples:
  forge envelope new > job.json
  forge envelope new --profile eta.v1
  forge envelope new --profile risk.compound.v1 --example tower
  forge envelope check job.json
  forge envelope check job.json --print
  forge envelope check job.json --format json | jq '.errors[], .warnings[]'";

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
        /// A named example of the profile. risk.compound.v1 has portfolio (the default), tower,
        /// capital and mixture
        #[arg(long, value_name = "NAME")]
        example: Option<String>,
    },
    /// Check an envelope without running it
    ///
    /// Prints its job id, replay key, plan, sizes and cost, and a warning for everything that is
    /// valid but probably unintended. The time is measured: the program runs for an instant on one
    /// thread. If the envelope is invalid, or the results of its shards are too large for services,
    /// prints every error as `file:line:column: pointer: message` on standard error (with `--format
    /// json`, as a list on standard output) and exits with code 2. Columns count characters.
    Check {
        /// Envelope file, or - for standard input
        file: PathBuf,
        /// Print the envelope in normal form, with every default filled in, instead of the plan
        #[arg(long)]
        print: bool,
        /// Output format: text is for people, json is one object with all of it
        #[arg(long, value_enum, default_value_t = OutputFormat::Text, conflicts_with = "print")]
        format: OutputFormat,
    },
}

/// Runs the command.
///
/// # Errors
/// There is no such profile, or the envelope is invalid.
pub fn execute(args: &EnvelopeArgs) -> Result<(), CommandError> {
    match &args.command {
        EnvelopeCommand::New { profile, example } => {
            let profile = find_profile(profile)?;
            let args = example_args(profile, example.as_deref())?;
            output::print(output::to_json_document(&envelope_of(profile, args)).as_bytes())
        }
        EnvelopeCommand::Check { file, print, format } => check::execute(file, *print, *format),
    }
}

fn find_profile(name: &str) -> Result<&'static Profile, CommandError> {
    PROFILES.into_iter().find(|profile| profile.name == name).ok_or_else(|| {
        let names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        let names = names.join(", ");
        CommandError::Input(format!("--profile: unknown profile {name:?}; available profiles: {names}"))
    })
}

/// The args of an example, by its name; those of the profile without a name.
fn example_args(profile: &Profile, name: Option<&str>) -> Result<Value, CommandError> {
    let Some(name) = name else { return Ok((profile.example_args)()) };
    let found = profile.examples.iter().find(|example| example.name == name);
    found.map(|example| (example.args)()).ok_or_else(|| {
        let names: Vec<_> = profile.examples.iter().map(|example| example.name).collect();
        let message = match names.as_slice() {
            [] => format!("--example: {} has no named examples; leave --example out", profile.name),
            names => {
                format!("--example: unknown example {name:?}; {} has: {}", profile.name, names.join(", "))
            }
        };
        CommandError::Input(message)
    })
}
