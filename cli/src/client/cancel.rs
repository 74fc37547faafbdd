//! `forge cancel`: cancels a job.

use clap::Args;
use forge_contract::{ids::JobId, job::JobState};
use forge_service::NatsArgs;

use super::{connection::ClientConnection, record_text};
use crate::{
    context::ContextArgs,
    error::CommandError,
    output::{self, OutputFormat, TextStyle},
};

/// Cancel a job
#[derive(Debug, Args)]
pub struct CancelArgs {
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
/// There is no such job, no planner answers, or the job had already ended in another state.
pub fn execute(args: &CancelArgs) -> Result<(), CommandError> {
    let connection = ClientConnection::open(&args.nats)?;
    let record = connection.cancel(&args.job)?;
    let text = match args.format {
        OutputFormat::Json => output::to_json_lines([&record]),
        OutputFormat::Text => record_text::render_record(&record, TextStyle::of_stdout()),
    };
    output::print(text.as_bytes())?;
    if record.state == JobState::Cancelled {
        return Ok(());
    }
    Err(CommandError::Input(format!("job {} was not cancelled: it is {}", args.job, record.state.as_str())))
}
