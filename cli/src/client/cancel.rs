//! `forge cancel`: stops a job.

use clap::Args;
use forge_bus::topology::API_CANCEL_SUBJECT;
use forge_contract::{ids::JobId, job::JobState};

use super::{
    connection::{Connection, ConnectionArgs},
    record,
};
use crate::{
    failure::Failure,
    output::{self, Style},
};

/// Cancel a job
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The job
    job: JobId,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Carries out the command.
///
/// # Errors
/// There is no such job, nobody answers, or the job had ended otherwise.
pub fn execute(args: &CancelArgs) -> Result<(), Failure> {
    let connection = Connection::open(&args.connection)?;
    let ended = connection.ask(API_CANCEL_SUBJECT, args.job.as_str().into())?;
    output::print(record::text(&ended, Style::of_stdout()).as_bytes())?;
    if ended.state == JobState::Cancelled {
        return Ok(());
    }
    Err(Failure::Input(format!("job {} was not cancelled: it is {}", args.job, ended.state.as_str())))
}
