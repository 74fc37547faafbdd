//! `forge envelope`: an example to start from, and a check before submitting.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use forge_contract::envelope::{Artifacts, Context, Envelope, Op, Policy, Seed};
use forge_documents::{Job, number_format::format_count};
use forge_kernel::workload::{PROFILES, Profile};
use serde::Serialize;
use serde_json::Value;

use crate::{failure::Failure, input, output, text::table};

const EXAMPLES: &str = "\
Examples:
  forge envelope new > job.json
  forge envelope new --profile eta.v1
  forge envelope check job.json
  forge envelope check job.json --print";

/// Write an example envelope, or check one
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
        /// The model
        #[arg(long, value_name = "NAME", default_value = PROFILES[0].name)]
        profile: String,
    },
    /// Check an envelope without running it: prints every error as `pointer: message`, and exits with 2 if there is one
    Check {
        /// The envelope: a file, or - for standard input
        file: PathBuf,
        /// Print its normal form, in which every default is written out
        #[arg(long)]
        print: bool,
    },
}

/// Carries out the command.
///
/// # Errors
/// There is no such profile, or the envelope is invalid.
pub fn execute(args: &EnvelopeArgs) -> Result<(), Failure> {
    match &args.command {
        EnvelopeCommand::New { profile } => output::print(pretty(&example(profile)?).as_bytes()),
        EnvelopeCommand::Check { file, print } => check(file, *print),
    }
}

fn example(name: &str) -> Result<Envelope, Failure> {
    let Some(profile) = PROFILES.into_iter().find(|profile| profile.name == name) else {
        let names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        return Err(Failure::Input(format!("there is no profile {name:?}; there are {}", names.join(", "))));
    };
    Ok(Envelope {
        ctx: Context::default(),
        op: op(profile),
        args: match (profile.example_args)() {
            Value::Object(args) => args,
            _ => serde_json::Map::new(),
        },
        policy: Policy::default(),
        seed: Seed::Explicit { value: "change-me".to_owned() },
        artifacts: Artifacts::default(),
    })
}

fn op(profile: &Profile) -> Op {
    Op { name: profile.op.to_owned(), version: profile.version, profile: profile.name.to_owned() }
}

fn check(file: &Path, print: bool) -> Result<(), Failure> {
    let request = input::request(file, &()).map_err(|failure| match failure {
        Failure::Invalid { name, errors } => {
            errors.errors().iter().for_each(|error| output::note(&error.to_string()));
            let count = errors.errors().len();
            Failure::Input(format!("{name} is not a valid envelope: {count} error{}", plural(count)))
        }
        other => other,
    })?;
    let job = Job::new(request);
    if print {
        return output::print(pretty(&job.request.envelope).as_bytes());
    }
    let (plan, words) = (&job.request.plan, job.request.profile().vocabulary);
    let shards = plan.shard_count();
    let mut facts = vec![
        ("Job id", job.id.to_string()),
        ("Replay key", job.request.replay_key.to_string()),
        (
            "Plan",
            format!(
                "{} {} in {} shard{}",
                format_count(plan.iterations()),
                words.iterations,
                format_count(shards),
                plural(shards as usize)
            ),
        ),
    ];
    if !plan.checkpoints().is_empty() {
        facts.push(("Convergence", format!("tested at up to {} checkpoints", plan.checkpoints().len())));
    }
    let facts: Vec<_> = facts.into_iter().map(|(label, text)| (label.to_owned(), text)).collect();
    output::print(format!("valid\n{}\n", table::facts(&facts).join("\n")).as_bytes())
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn pretty(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("an envelope is plain data");
    format!("{text}\n")
}
