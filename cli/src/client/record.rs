//! A job's record for people.

use forge_contract::{
    error::FailureCode,
    job::{JobRecord, JobState},
};
use forge_documents::number_format::{format_amount, format_count};

use crate::{
    failure::{Failure, JobFailure},
    output::Style,
    text::table,
};

/// The record as text.
pub fn text(record: &JobRecord, style: Style) -> String {
    let mut facts = vec![("State".to_owned(), state(record))];
    let mut fact = |label: &str, text: Option<String>| {
        if let Some(text) = text {
            facts.push((label.to_owned(), text));
        }
    };
    let op = record.op.as_ref();
    fact("Model", op.map(|op| format!("{}@{} {}", op.name, op.version, op.profile)));
    fact("Submitter", Some(record.submitter.to_string()).filter(|_| !record.submitter.is_default()));
    let progress = &record.progress;
    if progress.shards > 0 {
        let done = (progress.iterations_done, progress.iterations);
        fact("Iterations", Some(format!("{} of {}", format_count(done.0), format_count(done.1))));
        let verified = match progress.shards_verified {
            0 => String::new(),
            verified => format!(", {} verified", format_count(verified)),
        };
        let shards = (format_count(progress.shards_done), format_count(progress.shards));
        fact("Shards", Some(format!("{} of {}{verified}", shards.0, shards.1)));
    }
    for (name, value) in &record.headline {
        fact(name, value.as_f64().map(format_amount));
    }
    fact("SHA-256 of result.json", record.result.map(|result| result.to_string()));
    fact("Replay key", record.replay_key.map(|key| key.to_string()));
    fact("Manifest", record.manifest.clone());
    fact("Submitted", Some(record.submitted_at.clone()));
    fact("Trace", record.trace_id.clone());
    if let Some(error) = &record.error {
        fact("Error", Some(format!("{}: {}", error.code, error.message)));
    }
    let lines: String = table::facts(&facts).into_iter().map(|line| format!("  {line}\n")).collect();
    format!("{}\n{lines}", style.heading(&format!("Job {}", record.job_id)))
}

/// How far a job has come, in a word or two.
pub fn state(record: &JobRecord) -> String {
    match (&record.error, record.state) {
        (Some(error), JobState::Failed) => format!("failed ({})", error.code),
        (_, state) => state.as_str().to_owned(),
    }
}

/// Share of a job that is done, from 0 to 1.
pub fn done(record: &JobRecord) -> f64 {
    let progress = &record.progress;
    if progress.shards == 0 { 0.0 } else { progress.shards_done as f64 / progress.shards as f64 }
}

/// A job that ended without a result ends the command with the exit code of a failed job.
///
/// # Errors
/// The job failed or was cancelled.
pub fn outcome(record: &JobRecord) -> Result<(), Failure> {
    let Some(error) = record.error.as_ref().filter(|_| record.state != JobState::Completed) else {
        return Ok(());
    };
    if error.code == FailureCode::InvalidRequest {
        return Err(Failure::Input(error.message.clone()));
    }
    Err(JobFailure::new(error.code, error.phase, error.message.clone()).into())
}
