//! `forge quarantine`: lists and lifts quarantines.

use clap::{Args, Subcommand};
use forge_service::{NatsArgs, registry::listing::Quarantines};
use serde_json::json;

use super::registry::RegistryConnection;
use crate::{
    context::ContextArgs,
    error::CommandError,
    output::{self, OutputFormat},
    text::{count_of, table},
};

const EXAMPLES: &str = "\
Examples:
  forge quarantine ls
  forge quarantine lift UA3KNSQF…
  forge quarantine lift pool-b

Lift a quarantine only after the cause of the wrong result has been removed. An agent does not return by
itself: restart it afterwards.";

/// List or lift quarantines; needs the NATS credential of an operator
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List quarantined agents and pools
    Ls {
        /// Output format: text is a table, json is one quarantine record per line, or key and error
        /// of a record that cannot be read
        #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
        format: OutputFormat,
        #[command(flatten)]
        nats: NatsArgs,
        #[command(flatten)]
        _context: ContextArgs,
    },
    /// Readmit an agent or a pool
    Lift {
        /// Id of the agent, or name of the pool
        #[arg(value_name = "AGENT|POOL")]
        name: String,
        /// Output format: text is a sentence, json is one object
        #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
        format: OutputFormat,
        #[command(flatten)]
        nats: NatsArgs,
        #[command(flatten)]
        _context: ContextArgs,
    },
}

/// Runs the command.
///
/// # Errors
/// NATS is unreachable or refuses access to the registry, or nothing of that name is in quarantine.
pub fn execute(args: &QuarantineArgs) -> Result<(), CommandError> {
    match &args.command {
        QuarantineCommand::Ls { format, nats, .. } => {
            let quarantines = RegistryConnection::open(nats)?.quarantines()?;
            let text = match format {
                OutputFormat::Json => to_json_lines(&quarantines),
                OutputFormat::Text => {
                    // Ids are never cut: `lift` needs them.
                    let header = ["Quarantined", "Pool", "Reason"];
                    let lines = table::render_text_table(&header, &quarantines.rows(), usize::MAX);
                    format!("{}\n", lines.join("\n"))
                }
            };
            output::print(text.as_bytes())
        }
        QuarantineCommand::Lift { name, format, nats, .. } => {
            lift(&RegistryConnection::open(nats)?, name, *format)
        }
    }
}

fn lift(connection: &RegistryConnection, name: &str, format: OutputFormat) -> Result<(), CommandError> {
    if !connection.lift(name)? {
        return Err(CommandError::Input(format!("neither an agent nor a pool {name} is in quarantine")));
    }
    // Otherwise the next refutation in the pool would close it again at once.
    let remaining = connection.quarantines()?;
    let count = remaining.agents.values().filter(|record| record.pool.as_str() == name).count();
    let text = match format {
        OutputFormat::Json => {
            let document =
                json!({"schema": "forge.quarantine-lift.v1", "lifted": name, "agents_left": count});
            output::to_json_document(&document)
        }
        OutputFormat::Text => format!("the quarantine of {name} is lifted\n"),
    };
    output::print(text.as_bytes())?;
    if count > 0 {
        let agents = count_of(count as u64, "agent");
        output::print_to_stderr(&format!("{agents} of pool {name} still in quarantine: forge quarantine ls"));
    }
    Ok(())
}

fn to_json_lines(quarantines: &Quarantines) -> String {
    let unreadable = quarantines
        .unreadable
        .iter()
        .map(|(key, error)| json!({"schema": "forge.unreadable-quarantine.v1", "key": key, "error": error}));
    [
        output::to_json_lines(quarantines.pools.values()),
        output::to_json_lines(quarantines.agents.values()),
        output::to_json_lines(unreadable),
    ]
    .concat()
}
