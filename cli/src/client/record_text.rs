//! Job records as text for people, and the outcome of a command on a terminal record.

use forge_contract::{
    error::FailureCode,
    job::{JobRecord, JobState},
};
use forge_documents::{
    headline_figures,
    number_format::{format_count, format_percent},
};
use forge_kernel::workload::PROFILES;

use crate::{
    error::{CommandError, JobFailure},
    output::TextStyle,
    text::table,
};

/// A record as text.
pub fn render_record(record: &JobRecord, style: TextStyle) -> String {
    let mut facts = vec![("State".to_owned(), state_label(record))];
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
    let profile = op.and_then(|op| PROFILES.into_iter().find(|profile| profile.name == op.profile));
    for (label, text) in headline_figures(&record.headline, profile.map(|profile| profile.vocabulary)) {
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

/// The state of a job: why it waits if it does, and else its state, with the failure code if it has
/// failed. A waiting job may be planned or running, but nothing of it is executed.
pub fn state_label(record: &JobRecord) -> String {
    match (&record.waiting, &record.error, record.state) {
        (Some(reason), _, state) if !state.is_terminal() => format!("waiting: {reason}"),
        (_, Some(error), JobState::Failed) => format!("failed ({})", error.code),
        (_, _, state) => state.as_str().to_owned(),
    }
}

/// Share of a job's shards that are done, from 0 to 1.
pub fn done_share(record: &JobRecord) -> f64 {
    let progress = &record.progress;
    if progress.shards == 0 { 0.0 } else { progress.shards_done as f64 / progress.shards as f64 }
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
