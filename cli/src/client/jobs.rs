//! `forge jobs`: the jobs there are.

use clap::Args;
use forge_contract::{
    ids::JobId,
    job::{JobRecord, JobState},
};
use forge_service::job_records;
use futures_util::{StreamExt, stream};

use super::{
    connection::{Connection, ConnectionArgs, failed},
    record,
    watch::{self, Format},
};
use crate::{failure::Failure, output, text::table};

/// Records that are asked for at once.
const AT_ONCE: usize = 32;
/// Characters of a line, at most, if submitters are shown.
const WIDTH: usize = 100;

/// List jobs, the latest first
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Only jobs in this state, such as running or failed
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<JobState>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// What is written to standard output: a table, or every record as a line of JSON
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

fn state(text: &str) -> Result<JobState, String> {
    use JobState::{Accepted, Cancelled, Completed, Failed, Planned, Reducing, Running};

    let all = [Accepted, Planned, Running, Reducing, Completed, Failed, Cancelled];
    let found = all.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| format!("must be one of {}", all.map(JobState::as_str).join(", ")))
}

/// Carries out the command.
///
/// # Errors
/// NATS does not answer.
pub fn execute(args: &JobsArgs) -> Result<(), Failure> {
    let connection = Connection::open(&args.connection)?;
    let mut found = connection.wait(all(&connection))?;
    found.retain(|record| args.state.is_none_or(|state| state == record.state));
    found.sort_by(|a, b| (&b.submitted_at, &b.job_id).cmp(&(&a.submitted_at, &a.job_id)));
    found.truncate(args.limit);
    if args.format == Format::Json {
        return output::print(&found.iter().flat_map(watch::json).collect::<Vec<_>>());
    }
    let lines: String = listed(&found).into_iter().map(|line| format!("{line}\n")).collect();
    output::print(lines.as_bytes())
}

/// The table, with submitters if any but the default one is among them and there is room.
fn listed(jobs: &[JobRecord]) -> Vec<String> {
    let header = ["Job", "State", "Done", "Submitted", "Submitter"];
    let rows = jobs.iter().map(|job| {
        let done = format!("{:.0}%", 100.0 * record::done(job));
        let submitter = job.submitter.to_string();
        vec![job.job_id.to_string(), record::state(job), done, job.submitted_at.clone(), submitter]
    });
    let mut rows: Vec<_> = rows.collect();
    let lines = table::lines(&header, &rows);
    let fits = lines.iter().all(|line| line.chars().count() <= WIDTH);
    if fits && jobs.iter().any(|job| !job.submitter.is_default()) {
        return lines;
    }
    rows.iter_mut().for_each(|row| drop(row.pop()));
    table::lines(&header[..header.len() - 1], &rows)
}

async fn all(connection: &Connection) -> Result<Vec<JobRecord>, Failure> {
    let keys = connection.bus.keys(&connection.bucket).await.map_err(failed)?;
    let jobs = keys.into_iter().filter_map(|key| key.parse::<JobId>().ok());
    let get = async |job: JobId| job_records::get(connection.bus.as_ref(), &connection.bucket, &job).await;
    let found: Vec<_> = stream::iter(jobs).map(get).buffer_unordered(AT_ONCE).collect().await;
    let found: Result<Vec<_>, _> = found.into_iter().collect();
    Ok(found.map_err(failed)?.into_iter().flatten().map(|found| found.record).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(job: &str, submitter: &str) -> JobRecord {
        let json = json!({"schema": JobRecord::SCHEMA, "job_id": job, "submitter": submitter, "state": "planned",
            "persist": true, "submission": 1, "submitted_at": "2026-11-23T04:21:23.123Z",
            "updated_at": "2026-11-23T04:21:23.123Z", "progress": {"iterations": 0, "iterations_done": 0, "shards": 0,
            "shards_done": 0, "shards_verified": 0}});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn submitters_are_shown_where_there_are_any_and_there_is_room() {
        let shows = |jobs: &[JobRecord]| {
            let lines = listed(jobs);
            assert!(lines[0].starts_with("  Job") && lines[1].contains("planned"), "{lines:?}");
            lines[0].contains("Submitter")
        };
        assert!(!shows(&[record("a", "default")]));
        assert!(shows(&[record("a", "default"), record("b", "alice")]));
        assert!(listed(&[record("b", "alice")])[1].ends_with("alice"));
        assert!(!shows(&[record(&"b".repeat(64), "alice")]));
    }
}
