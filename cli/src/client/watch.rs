//! `forge watch`: follows a job until it has ended, by polling the planners' API. The notice of the
//! job's end triggers the last poll at once.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use forge_bus::{BusError, topology::job_ended_subject};
use forge_contract::{ids::JobId, job::JobRecord};
use forge_documents::state_label;
use forge_service::{NatsArgs, job_records::MISSING_RECORD_GRACE_PERIOD};
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep};

use super::{
    connection::{ClientConnection, to_command_error},
    record_text,
};
use crate::{
    context::ContextArgs,
    error::CommandError,
    foreign_text::quote_value,
    output::{self, OutputFormat, TextStyle},
    progress::{BAR_TEMPLATE, LINE_INTERVAL},
};

/// Number of steps of the progress bar.
const BAR_STEPS: u64 = 1000;
/// Interval between two redraws of the progress bar.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// First and longest interval between two polls of the record.
const POLL_INTERVALS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// The command fails once no poll has succeeded for this long.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(120);

/// Follow a job until it has ended
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Id of the job
    job: JobId,
    /// Output format: text is a summary at the end, json is the job record whenever it was seen
    /// to change, one per line
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
/// There is no such job, NATS is unreachable, or the job failed or was cancelled.
pub fn execute(args: &WatchArgs) -> Result<(), CommandError> {
    let connection = ClientConnection::open(&args.nats)?;
    let record = connection.status(&args.job)?;
    let record = match args.format {
        OutputFormat::Text => {
            let record = wait_for_end(&connection, record, true)?;
            output::print(record_text::render_record(&record, TextStyle::of_stdout()).as_bytes())?;
            record
        }
        OutputFormat::Json => follow_job(&connection, record, |record, has_changed| match has_changed {
            true => output::print(output::to_json_lines([record]).as_bytes()),
            false => Ok(()),
        })?,
    };
    record_text::require_success(&record)
}

/// Waits until the job of `record` has ended and returns its last record. Shows a progress bar on a
/// terminal if `show_progress`.
///
/// # Errors
/// No planner has answered for [`OUTAGE_PATIENCE`], or the job's record was removed.
pub fn wait_for_end(
    connection: &ClientConnection,
    record: JobRecord,
    show_progress: bool,
) -> Result<JobRecord, CommandError> {
    let bar = if show_progress && io::stderr().is_terminal() {
        ProgressBar::with_draw_target(Some(BAR_STEPS), ProgressDrawTarget::stderr())
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template(BAR_TEMPLATE);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(REDRAW_INTERVAL);
    let mut lines = ProgressLines::new(Instant::now());
    let result = follow_job(connection, record, |record, _| {
        // Without a progress bar, nothing would say why nothing happens.
        if show_progress && bar.is_hidden() {
            lines.update(record, Instant::now()).iter().for_each(|line| output::print_to_stderr(line));
        }
        bar.set_position((record.progress.done_share() * BAR_STEPS as f64) as u64);
        bar.set_message(quote_value(&state_label(record)));
        Ok(())
    });
    bar.finish_and_clear();
    result
}

/// The progress of a job as lines, where there is no terminal.
struct ProgressLines {
    /// Why the job was seen to wait last.
    waiting: Option<String>,
    last_line: Instant,
}

impl ProgressLines {
    fn new(now: Instant) -> Self {
        Self { waiting: None, last_line: now }
    }

    /// The line about a record: whenever the job begins to wait for something, and at every
    /// interval.
    fn update(&mut self, record: &JobRecord, now: Instant) -> Option<String> {
        if record.waiting != self.waiting {
            self.waiting.clone_from(&record.waiting);
            if let Some(reason) = &self.waiting {
                self.last_line = now;
                return Some(format!("job {} is waiting: {reason}", record.job_id));
            }
        }
        if now - self.last_line < LINE_INTERVAL || record.state.is_terminal() {
            return None;
        }
        self.last_line = now;
        let percent = 100.0 * record.progress.done_share();
        Some(format!("job {}: {percent:.0}%, {}", record.job_id, state_label(record)))
    }
}

/// Calls `on_poll` with `record`, and with the job's record whenever it is read, until the job has
/// ended. The flag is whether the record is the first or has changed.
///
/// # Errors
/// No planner has answered for [`OUTAGE_PATIENCE`], the job's record was removed, or any error of
/// `on_poll`.
pub fn follow_job(
    connection: &ClientConnection,
    mut record: JobRecord,
    mut on_poll: impl FnMut(&JobRecord, bool) -> Result<(), CommandError>,
) -> Result<JobRecord, CommandError> {
    connection.block_on(async {
        on_poll(&record, true)?;
        let notices = connection.bus.subscribe(&job_ended_subject(record.uid)).await;
        let mut notices = notices.map_err(to_command_error)?;
        let mut interval = POLL_INTERVALS.0;
        let mut last_answer = Instant::now();
        // Polls once more before waiting: the job may have ended before the subscription.
        while !record.state.is_terminal() {
            match connection.poll_record(&record.job_id).await {
                Ok(found) => {
                    last_answer = Instant::now();
                    let has_changed = found != record;
                    record = found;
                    on_poll(&record, has_changed)?;
                    if record.state.is_terminal() {
                        break;
                    }
                }
                Err(error) => check_patience(&error, last_answer.elapsed())?,
            }
            tokio::select! {
                Some(_) = notices.next() => interval = POLL_INTERVALS.0,
                () = sleep(interval) => interval = (2 * interval).min(POLL_INTERVALS.1),
            }
        }
        Ok(record)
    })
}

/// Decides whether a failed poll is repeated, `outage` after the last successful one.
///
/// # Errors
/// The error, if repeating the poll is no use.
fn check_patience(error: &BusError, outage: Duration) -> Result<(), CommandError> {
    let patience = match error {
        // The replica of the bucket that answered may lag behind.
        BusError::Refused { status: 404, .. } => MISSING_RECORD_GRACE_PERIOD,
        BusError::Refused { status: 503, .. } | BusError::NoResponse(_) | BusError::Unavailable(_) => {
            OUTAGE_PATIENCE
        }
        _ => Duration::ZERO,
    };
    if outage < patience { Ok(()) } else { Err(to_command_error(error.clone())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_say_why_a_job_waits_and_how_far_it_is() {
        let (mut record, mut now) = (record_of_a_job(), Instant::now());
        let mut lines = ProgressLines::new(now);
        assert_eq!(lines.update(&record, now), None);
        record.waiting = Some("it needs a worker".to_owned());
        assert_eq!(lines.update(&record, now).as_deref(), Some("job a is waiting: it needs a worker"));
        assert_eq!(lines.update(&record, now), None);
        now += LINE_INTERVAL;
        assert_eq!(lines.update(&record, now).as_deref(), Some("job a: 25%, waiting: it needs a worker"));
        record.waiting = None;
        assert_eq!(lines.update(&record, now), None);
        now += LINE_INTERVAL;
        assert_eq!(lines.update(&record, now).as_deref(), Some("job a: 25%, running"));
        record.state = forge_contract::job::JobState::Completed;
        assert_eq!(lines.update(&record, now + LINE_INTERVAL), None);
    }

    fn record_of_a_job() -> JobRecord {
        let json = serde_json::json!({"schema": JobRecord::SCHEMA, "job_id": "a", "uid": "ab".repeat(16),
            "submitter": "default", "state": "running", "persist": true, "submission": 1,
            "submitted_at": "2026-11-23T04:21:23.123Z", "updated_at": "2026-11-23T04:21:23.123Z",
            "progress": {"iterations": 4, "iterations_done": 1, "shards": 4, "shards_done": 1, "shards_verified": 0}});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn outages_are_outlasted_and_refusals_are_not() {
        let is_repeated =
            |error: &BusError, seconds| check_patience(error, Duration::from_secs(seconds)).is_ok();
        let refused = |status| BusError::Refused { status, reason: String::new() };
        for outage in
            [refused(503), BusError::NoResponse(String::new()), BusError::Unavailable(String::new())]
        {
            assert!(is_repeated(&outage, 100) && !is_repeated(&outage, 121), "{outage:?}");
        }
        assert!(is_repeated(&refused(404), 5) && !is_repeated(&refused(404), 11));
        assert!(!is_repeated(&refused(400), 0) && !is_repeated(&BusError::Unusable(String::new()), 0));
    }
}
