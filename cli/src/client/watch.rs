//! `forge watch`: follows a job until it has ended.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use forge_bus::topology::Bucket;
use forge_contract::{ids::JobId, job::JobRecord};
use forge_service::NatsArgs;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    connection::{ClientConnection, RecordBucketArgs, to_command_error},
    record_text,
};
use crate::{
    error::CommandError,
    output::{self, OutputFormat, TextStyle},
};

/// Number of steps of the progress bar.
const BAR_STEPS: u64 = 1000;
/// Interval between two redraws of the progress bar.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// Follow a job until it has ended
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Id of the job
    job: JobId,
    /// Output format: text is a summary at the end, json is every version of the job record, one
    /// per line
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    records: RecordBucketArgs,
    #[command(flatten)]
    nats: NatsArgs,
}

/// Runs the command.
///
/// # Errors
/// There is no such job, NATS is unreachable, or the job failed or was cancelled.
pub fn execute(args: &WatchArgs) -> Result<(), CommandError> {
    let connection = ClientConnection::open(&args.nats)?;
    let bucket = args.records.bucket();
    connection.record(&bucket, &args.job)?;
    let record = match args.format {
        OutputFormat::Text => {
            let record = wait_for_end(&connection, &bucket, &args.job, true)?;
            output::print(record_text::render_record(&record, TextStyle::of_stdout()).as_bytes())?;
            record
        }
        OutputFormat::Json => {
            let print = |record: &JobRecord| output::print(&record_text::to_json_line(record));
            follow(&connection, &bucket, &args.job, print)?
        }
    };
    record_text::require_success(&record)
}

/// Waits until a job has ended and returns its last record. Shows a progress bar on a terminal if
/// `show_progress`.
///
/// # Errors
/// NATS is unreachable, or the job's record was removed.
pub fn wait_for_end(
    connection: &ClientConnection,
    bucket: &Bucket,
    job: &JobId,
    show_progress: bool,
) -> Result<JobRecord, CommandError> {
    let bar = if show_progress && io::stderr().is_terminal() {
        ProgressBar::with_draw_target(Some(BAR_STEPS), ProgressDrawTarget::stderr())
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(REDRAW_INTERVAL);
    let result = follow(connection, bucket, job, |record| {
        bar.set_position((record_text::done_share(record) * BAR_STEPS as f64) as u64);
        bar.set_message(record_text::state_label(record));
        Ok(())
    });
    bar.finish_and_clear();
    result
}

/// Calls `on_change` with every record of a job until the job has ended.
fn follow(
    connection: &ClientConnection,
    bucket: &Bucket,
    job: &JobId,
    mut on_change: impl FnMut(&JobRecord) -> Result<(), CommandError>,
) -> Result<JobRecord, CommandError> {
    connection.block_on(async {
        let changes = connection.bus.watch(bucket, job.as_str()).await;
        let mut changes = changes.map_err(to_command_error)?;
        while let Some(entry) = changes.next().await {
            let Some(value) = entry.value else { break };
            let Ok(record) = serde_json::from_slice::<JobRecord>(&value) else { continue };
            on_change(&record)?;
            if record.state.is_terminal() {
                return Ok(record);
            }
        }
        Err(CommandError::Input(format!("the record of job {job} was removed")))
    })
}
