//! `forge status`: what is known of a job.

use clap::Args;
use forge_bus::topology::API_STATUS_SUBJECT;
use forge_contract::ids::JobId;

use super::{
    connection::{Connection, ConnectionArgs},
    record,
    watch::{self, Format},
};
use crate::{
    failure::Failure,
    output::{self, Style},
};

/// Show what is known of a job
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The job
    job: JobId,
    /// What is written to standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Carries out the command.
///
/// # Errors
/// There is no such job, or nobody answers.
pub fn execute(args: &StatusArgs) -> Result<(), Failure> {
    let connection = Connection::open(&args.connection)?;
    let found = connection.ask(API_STATUS_SUBJECT, args.job.as_str().into())?;
    match args.format {
        Format::Json => output::print(&watch::json(&found)),
        Format::Text => output::print(record::text(&found, Style::of_stdout()).as_bytes()),
    }
}
