//! Job records as text for people, and the outcome of a command on a terminal record.

use forge_contract::{
    error::FailureCode,
    job::{JobRecord, JobState},
};
use forge_documents::{
    number_format::{format_count, format_percent},
    profile_figures, state_label,
};

use crate::{
    error::{CommandError, JobFailure},
    output::TextStyle,
    text::table,
};

/// A record as text.
pub fn render_record(record: &JobRecord, style: TextStyle) -> String {
    let mut facts: Vec<_> = record.title.iter().map(|title| ("Title".to_owned(), title.clone())).collect();
    facts.push(("State".to_owned(), state_label(record)));
    let mut add = |label: &str, text: Option<String>| {
        if let Some(text) = text {
            facts.push((label.to_owned(), text));
        }
    };
    let op = record.op.as_ref();
    add("Model", op.map(|op| format!("{}@{} {}", op.name, op.version, op.profile)));
    add("Submitter", Some(record.submitter.to_string()).filter(|_| !record.submitter.is_default()));
    let progress = &record.progress;
    if progress.shards > 0 {
        let (done, all) = (format_count(progress.iterations_done), format_count(progress.iterations));
        add("Iterations", Some(format!("{done} of {all}")));
        let verified = match progress.shards_verified {
            0 => String::new(),
            verified => format!(", {} verified", format_count(verified)),
        };
        let (done, all) = (format_count(progress.shards_done), format_count(progress.shards));
        add("Shards", Some(format!("{done} of {all}{verified}")));
    }
    for (label, text) in profile_figures(op.map(|op| op.profile.as_str()), &record.headline) {
        add(&label, Some(text));
    }
    if let Some(verification) = &record.verification {
        add("P(one wrong shard ships)", Some(format_percent(verification.escape_probability)));
        let count = |count: u64| (count > 0).then(|| format_count(count));
        add("Refuted results", count(verification.refuted));
        add("Contradictions", count(verification.contradictions));
        let pools: Vec<_> = verification.suspect_pools.iter().map(ToString::to_string).collect();
        add("Suspect pools", (!pools.is_empty()).then(|| pools.join(", ")));
    }
    add("SHA-256 of result.json", record.result.map(|result| result.to_string()));
    add("Replay key", record.replay_key.map(|key| key.to_string()));
    add("Manifest", record.manifest.clone());
    add("Submitted", Some(record.submitted_at.clone()));
    add("Trace", record.trace_id.clone());
    if let Some(error) = &record.error {
        add("Error", Some(format!("{}: {}", error.code, error.message)));
    }
    let lines: String = table::render_facts(&facts).into_iter().map(|line| format!("  {line}\n")).collect();
    format!("{}\n{lines}", style.heading(&format!("Job {}", record.job_id)))
}

/// Turns a job that ended without a result into an error, which determines the command's exit code.
///
/// # Errors
/// [`CommandError::Input`] if the envelope was rejected as invalid, [`CommandError::Job`] if the
/// job failed or was cancelled.
pub fn require_success(record: &JobRecord) -> Result<(), CommandError> {
    let Some(error) = record.error.as_ref().filter(|_| record.state != JobState::Completed) else {
        return Ok(());
    };
    if error.code == FailureCode::InvalidRequest {
        return Err(CommandError::Input(error.message.clone()));
    }
    Err(JobFailure::new(error.code, error.phase, error.message.clone()).into())
}
