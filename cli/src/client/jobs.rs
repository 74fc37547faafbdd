//! `forge jobs`: lists jobs, page by page from the planners' API.

use clap::Args;
use forge_contract::{
    job::{JobRecord, JobState},
    job_list::JobListRequest,
};
use forge_documents::state_label;
use forge_service::NatsArgs;

use super::connection::ClientConnection;
use crate::{
    context::ContextArgs,
    error::CommandError,
    output::{self, OutputFormat},
    text::table,
};

/// The column of submitters is shown only if no line becomes longer than this.
const MAX_LINE_WIDTH: usize = 100;

/// List jobs, most recent first
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Show only jobs in this state, such as running or failed
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    state: Option<JobState>,
    /// Show only jobs whose id starts with this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Maximum number of jobs to show
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Output format: text is a table, json is one job record per line
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    /// Key-value bucket of the job records [default: the planners' first]
    #[arg(long, env = "FORGE_KV_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    _context: ContextArgs,
}

fn parse_state(text: &str) -> Result<JobState, String> {
    let state = JobState::ALL.into_iter().find(|state| state.as_str() == text);
    state.ok_or_else(|| format!("must be one of {}", JobState::ALL.map(JobState::as_str).join(", ")))
}

/// Runs the command.
///
/// # Errors
/// A setting cannot be used, or no planner answers.
pub fn execute(args: &JobsArgs) -> Result<(), CommandError> {
    let connection = ClientConnection::open(&args.nats)?;
    let records = read_records(&connection, args)?;
    match args.format {
        OutputFormat::Json => output::print(output::to_json_lines(&records).as_bytes()),
        OutputFormat::Text => output::print(format!("{}\n", render_jobs(&records).join("\n")).as_bytes()),
    }
}

/// The table of jobs. It has a column of submitters if at least one is not the default and there is
/// room for it.
fn render_jobs(records: &[JobRecord]) -> Vec<String> {
    let header = ["Job", "State", "Done", "Submitted", "Submitter"];
    let row = |record: &JobRecord| {
        let done = format!("{:.0}%", 100.0 * record.progress.done_share());
        let (job, submitter) = (record.job_id.to_string(), record.submitter.to_string());
        vec![job, state_label(record), done, record.submitted_at.clone(), submitter]
    };
    let mut rows: Vec<_> = records.iter().map(row).collect();
    let lines = table::render_table(&header, &rows);
    let fits = lines.iter().all(|line| line.chars().count() <= MAX_LINE_WIDTH);
    if fits && records.iter().any(|record| !record.submitter.is_default()) {
        return lines;
    }
    rows.iter_mut().for_each(|row| drop(row.pop()));
    table::render_table(&header[..header.len() - 1], &rows)
}

/// The most recent jobs of all pages, at most `args.limit`.
fn read_records(connection: &ClientConnection, args: &JobsArgs) -> Result<Vec<JobRecord>, CommandError> {
    let (namespace, prefix) = (args.namespace.clone(), args.prefix.clone());
    let mut request = JobListRequest { namespace, prefix, state: args.state, ..JobListRequest::default() };
    let mut records = Vec::new();
    loop {
        let page = connection.request_page(&request)?;
        records.extend(page.jobs);
        records.sort_by(|a, b| (&b.submitted_at, &b.job_id).cmp(&(&a.submitted_at, &a.job_id)));
        records.truncate(args.limit);
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(records),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(job: &str, submitter: &str) -> JobRecord {
        let json = json!({"schema": JobRecord::SCHEMA, "job_id": job, "uid": "ab".repeat(16), "submitter": submitter, "state": "planned",
            "persist": true, "submission": 1, "submitted_at": "2026-11-23T04:21:23.123Z",
            "updated_at": "2026-11-23T04:21:23.123Z", "progress": {"iterations": 0, "iterations_done": 0, "shards": 0,
            "shards_done": 0, "shards_verified": 0}});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_waiting_job_is_listed_with_its_reason_until_it_has_ended() {
        let mut waiting = record("a", "default");
        waiting.waiting = Some("it needs 1 live worker for target gpu, and there are 0".to_owned());
        let lines = render_jobs(&[waiting.clone(), record("b", "default")]);
        assert!(
            lines.iter().any(|line| line.contains("waiting: it needs 1 live worker for target gpu")),
            "{lines:?}"
        );
        assert!(lines.iter().any(|line| line.contains("planned")), "{lines:?}");
        waiting.state = JobState::Cancelled;
        let lines = render_jobs(&[waiting]);
        assert!(lines.iter().any(|line| line.contains("cancelled")), "{lines:?}");
    }

    #[test]
    fn submitters_are_listed_if_any_is_not_the_default_and_the_lines_fit() {
        let lists_submitters = |records: &[JobRecord]| {
            let lines = render_jobs(records);
            assert!(lines[0].starts_with("  Job") && lines[1].contains("planned"), "{lines:?}");
            lines[0].contains("Submitter")
        };
        assert!(!lists_submitters(&[record("a", "default")]));
        assert!(lists_submitters(&[record("a", "default"), record("b", "alice")]));
        assert!(render_jobs(&[record("b", "alice")])[1].ends_with("alice"));
        assert!(!lists_submitters(&[record(&"b".repeat(64), "alice")]));
    }
}
