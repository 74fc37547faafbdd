//! `forge jobs`: the jobs there are.

use clap::Args;
use forge_contract::{
    ids::JobId,
    job::{JobRecord, JobState},
};
use forge_service::records;
use futures_util::{StreamExt, stream};

use super::{
    connection::{Connection, ConnectionArgs, failed},
    record,
    watch::{self, Format},
};
use crate::{failure::Failure, output, text::table};

/// Records that are asked for at once.
const AT_ONCE: usize = 32;

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
    let rows = found.iter().map(|job| {
        let done = format!("{:.0}%", 100.0 * record::done(job));
        vec![job.job_id.to_string(), record::state(job), done, job.submitted_at.clone()]
    });
    let rows: Vec<_> = rows.collect();
    let lines: String = table::lines(&["Job", "State", "Done", "Submitted"], &rows)
        .into_iter()
        .map(|line| format!("{line}\n"))
        .collect();
    output::print(lines.as_bytes())
}

async fn all(connection: &Connection) -> Result<Vec<JobRecord>, Failure> {
    let keys = connection.bus.keys(&connection.bucket).await.map_err(failed)?;
    let jobs = keys.into_iter().filter_map(|key| key.parse::<JobId>().ok());
    let get = async |job: JobId| records::get(connection.bus.as_ref(), &connection.bucket, &job).await;
    let found: Vec<_> = stream::iter(jobs).map(get).buffer_unordered(AT_ONCE).collect().await;
    let found: Result<Vec<_>, _> = found.into_iter().collect();
    Ok(found.map_err(failed)?.into_iter().flatten().map(|found| found.record).collect())
}
