//! `forge context`: named sets of the settings with which clients reach a deployment, and their
//! use. A context holds names, URLs and paths, never a secret.
//!
//! Reading order: [`settings`] → [`file`] → [`selection`].

mod file;
mod selection;
mod settings;

use clap::{Args, Subcommand};
use serde::Serialize;

pub use self::selection::{ContextArgs, apply_context};
use self::{
    file::ContextFile,
    settings::{ContextName, ContextSettings},
};
use crate::{
    error::CommandError,
    output::{self, OutputFormat},
    text::table,
};

const EXAMPLES: &str = "\
Examples:
  forge context add prod --nats tls://nats.example.com --credentials prod.creds --store s3://forge
  forge context use prod
  forge jobs
  forge status quickstart-001 --context test

Contexts are kept in $XDG_CONFIG_HOME/forge/contexts.json, or else in ~/.config/forge/contexts.json, readable
only by you. They hold paths of credentials, not their content. An option precedes a variable, and a variable
precedes the context. The settings of NATS belong together: if an option or a variable gives one of them, the
context gives none.";

/// Name deployments, and choose the one that client commands use
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ContextCommandArgs {
    #[command(subcommand)]
    command: ContextCommand,
}

#[derive(Debug, Subcommand)]
enum ContextCommand {
    /// Add a context, or replace the one of this name; the first one is used from then on
    Add {
        /// Name: 1 to 64 letters, digits, `_`, `.` and `-`
        name: ContextName,
        #[command(flatten)]
        settings: Box<ContextSettings>,
    },
    /// Use a context where neither --context nor FORGE_CONTEXT names another
    Use {
        /// Name of the context
        name: ContextName,
    },
    /// List contexts; the one in use is marked
    List {
        /// Output format: text is a table, json is one context per line
        #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
        format: OutputFormat,
    },
    /// Show the settings of a context
    Show {
        /// Name of the context [default: the one in use]
        name: Option<ContextName>,
        /// Output format: text is a line per setting, json is one object
        #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
        format: OutputFormat,
    },
    /// Remove a context; files that it names stay
    Remove {
        /// Name of the context
        name: ContextName,
    },
}

/// A context in the output.
#[derive(Serialize)]
struct ContextLine<'a> {
    name: &'a ContextName,
    /// Whether it is used where nothing names another.
    current: bool,
    #[serde(flatten)]
    settings: &'a ContextSettings,
}

/// Runs the command.
///
/// # Errors
/// The file of contexts cannot be read or written, there is no such context, or a setting cannot be
/// used.
pub fn execute(args: &ContextCommandArgs) -> Result<(), CommandError> {
    let mut file = ContextFile::read()?;
    match &args.command {
        ContextCommand::Add { name, settings } => {
            file.contexts.insert(name.clone(), settings.resolved()?);
            let is_first = file.current.is_none();
            file.current.get_or_insert_with(|| name.clone());
            file.write()?;
            if is_first {
                eprintln!("{name} is the current context now: client commands use it unless told otherwise");
            }
            Ok(())
        }
        ContextCommand::Use { name } => {
            file.context(name)?;
            file.current = Some(name.clone());
            file.write()
        }
        ContextCommand::List { format } => list(&file, *format),
        ContextCommand::Show { name, format } => show(&file, name.as_ref(), *format),
        ContextCommand::Remove { name } => {
            file.context(name)?;
            file.contexts.remove(name);
            file.current.take_if(|current| current == name);
            file.write()
        }
    }
}

fn list(file: &ContextFile, format: OutputFormat) -> Result<(), CommandError> {
    let is_current = |name: &ContextName| file.current.as_ref() == Some(name);
    let text = match format {
        OutputFormat::Json => {
            let contexts = file.contexts.iter();
            output::to_json_lines(contexts.map(|(name, settings)| ContextLine {
                name,
                current: is_current(name),
                settings,
            }))
        }
        OutputFormat::Text if file.contexts.is_empty() => {
            "no contexts: add one with `forge context add NAME --nats URL`\n".to_owned()
        }
        OutputFormat::Text => {
            let row = |(name, settings): (&ContextName, &ContextSettings)| {
                let mark = if is_current(name) { "*" } else { "" };
                let store = settings.store.as_deref().unwrap_or("-");
                [mark, name.as_str(), &settings.nats, store].map(str::to_owned).to_vec()
            };
            let rows: Vec<_> = file.contexts.iter().map(row).collect();
            let lines =
                table::render_text_table(&["", "Context", "NATS", "Store"], &rows, table::output_width());
            format!("{}\n", lines.join("\n"))
        }
    };
    output::print(text.as_bytes())
}

fn show(file: &ContextFile, name: Option<&ContextName>, format: OutputFormat) -> Result<(), CommandError> {
    let Some(name) = name.or(file.current.as_ref()) else {
        return Err(CommandError::Input("no context is in use: give its name".to_owned()));
    };
    let settings = file.context(name)?;
    let text = match format {
        OutputFormat::Json => {
            let current = file.current.as_ref() == Some(name);
            output::to_json_document(&ContextLine { name, current, settings })
        }
        OutputFormat::Text => {
            let facts = settings.variables().into_iter();
            let facts: Vec<_> = facts.map(|(variable, value)| (variable.to_owned(), value)).collect();
            format!("context {name}\n{}\n", table::render_facts(&facts).join("\n"))
        }
    };
    output::print(text.as_bytes())
}
