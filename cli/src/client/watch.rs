//! `forge watch`: follows a job until it has ended.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::{Args, ValueEnum};
use forge_contract::{ids::JobId, job::JobRecord};
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    connection::{Connection, ConnectionArgs, failed},
    record,
};
use crate::{
    failure::Failure,
    output::{self, Style},
};

/// Follow a job until it has ended
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The job
    job: JobId,
    /// What is written to standard output: a summary at the end, or every record as a line of JSON
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// What is written to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A summary for people
    Text,
    /// The job's record
    Json,
}

/// Carries out the command.
///
/// # Errors
/// There is no such job, NATS does not answer, or the job failed.
pub fn execute(args: &WatchArgs) -> Result<(), Failure> {
    let connection = Connection::open(&args.connection)?;
    connection.record(&args.job)?;
    let ended = match args.format {
        Format::Text => {
            let ended = until_ended(&connection, &args.job, true)?;
            output::print(record::text(&ended, Style::of_stdout()).as_bytes())?;
            ended
        }
        Format::Json => follow(&connection, &args.job, |record| output::print(&json(record)))?,
    };
    record::outcome(&ended)
}

/// A record as a line of JSON.
pub fn json(record: &JobRecord) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("a record is made of strings and numbers");
    line.push(b'\n');
    line
}

/// Waits until a job has ended, with a bar on a terminal if one is wanted.
///
/// # Errors
/// NATS does not answer.
pub fn until_ended(connection: &Connection, job: &JobId, bar: bool) -> Result<JobRecord, Failure> {
    let bar = if bar && io::stderr().is_terminal() {
        ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr())
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    let ended = follow(connection, job, |record| {
        bar.set_position((record::done(record) * 1000.0) as u64);
        bar.set_message(record::state(record));
        Ok(())
    });
    bar.finish_and_clear();
    ended
}

/// Shows every record of a job until it has ended.
fn follow(
    connection: &Connection,
    job: &JobId,
    mut show: impl FnMut(&JobRecord) -> Result<(), Failure>,
) -> Result<JobRecord, Failure> {
    connection.wait(async {
        let watched = connection.bus.watch(&connection.bucket, job.as_str()).await;
        let mut changes = watched.map_err(failed)?;
        while let Some(entry) = changes.next().await {
            let Some(value) = entry.value else { break };
            let Ok(record) = serde_json::from_slice::<JobRecord>(&value) else { continue };
            show(&record)?;
            if record.state.is_terminal() {
                return Ok(record);
            }
        }
        Err(Failure::Input(format!("the record of job {job} was removed")))
    })
}
