//! `forge status`: shows the record of a job.

use clap::Args;
use forge_contract::ids::JobId;
use forge_service::NatsArgs;

use super::{connection::ClientConnection, record_text};
use crate::{
    context::ContextArgs,
    error::CommandError,
    output::{self, OutputFormat, TextStyle},
};

/// Show the state of a job
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Id of the job
    job: JobId,
    /// Output format: text is a summary, json is the job record on one line
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    _context: ContextArgs,
}

/// Runs the command.
///
/// # Errors
/// There is no such job, or no planner answers.
pub fn execute(args: &StatusArgs) -> Result<(), CommandError> {
    let connection = ClientConnection::open(&args.nats)?;
    let record = connection.status(&args.job)?;
    match args.format {
        OutputFormat::Json => output::print(output::to_json_lines([&record]).as_bytes()),
        OutputFormat::Text => {
            output::print(record_text::render_record(&record, TextStyle::of_stdout()).as_bytes())
        }
    }
}
