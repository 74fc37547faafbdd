//! Subjects: constants, builders and parsers. `*` in a filter stands for one token, a trailing `>`
//! for one or more, as in NATS. Knows no stream; `topology` assigns subjects to streams.

use forge_contract::{
    envelope::Target,
    ids::{JobId, Submitter},
    shard::ShardId,
};

/// Subject on which the submitter `default` submits envelopes.
pub const SUBMIT_SUBJECT: &str = "forge.v1.jobs.submit";
/// Filter of the subjects on which other submitters submit envelopes; the last token names the
/// submitter. NATS does not tell a receiver which user published, but permissions tie a user to its
/// subject.
pub const SUBMIT_AS_FILTER: &str = "forge.v1.jobs.submit.*";
/// Endpoint by which the submitter `default` submits an envelope; replies with the job's record.
pub const API_SUBMIT_SUBJECT: &str = "forge.v1.api.submit";
/// Filter of the endpoints by which other submitters submit an envelope; the last token names the
/// submitter.
pub const API_SUBMIT_AS_FILTER: &str = "forge.v1.api.submit.*";
/// Endpoint that replies with a job's record.
pub const API_STATUS_SUBJECT: &str = "forge.v1.api.status";
/// Endpoint that cancels a job.
pub const API_CANCEL_SUBJECT: &str = "forge.v1.api.cancel";
/// Endpoint that replies with a page of job records.
pub const API_LIST_SUBJECT: &str = "forge.v1.api.list";
/// Filter of every [`job_ended_subject`].
pub const JOB_ENDED_FILTER: &str = "forge.v1.ended.*";

/// Returns the token that stands for a target in subjects.
pub fn target_token(target: Target) -> &'static str {
    match target {
        Target::Cpu => "cpu",
        Target::Gpu => "gpu",
        Target::Any => "any",
    }
}

/// Returns the subject on which a submitter's envelopes are stored.
pub fn submit_subject(submitter: &Submitter) -> String {
    append_submitter(SUBMIT_SUBJECT, submitter)
}

/// Returns the endpoint by which a submitter submits an envelope.
pub fn api_submit_subject(submitter: &Submitter) -> String {
    append_submitter(API_SUBMIT_SUBJECT, submitter)
}

fn append_submitter(subject: &str, submitter: &Submitter) -> String {
    if submitter.is_default() { subject.to_owned() } else { format!("{subject}.{submitter}") }
}

/// Returns the submitter that a [`submit_subject`] or [`api_submit_subject`] names; `None` if
/// `subject` is neither, or its last token is not a valid submitter.
pub fn parse_submit_subject(subject: &str) -> Option<Submitter> {
    let rest = subject.strip_prefix(SUBMIT_SUBJECT).or_else(|| subject.strip_prefix(API_SUBMIT_SUBJECT))?;
    if rest.is_empty() { Some(Submitter::default()) } else { rest.strip_prefix('.')?.parse().ok() }
}

/// Returns the subject of a shard for workers.
pub fn shard_subject(target: Target, job: &JobId, shard: ShardId) -> String {
    format!("forge.v1.shards.{}.{job}.{shard}", target_token(target))
}

/// Returns the subject of a shard's verification task.
pub fn verification_subject(job: &JobId, shard: ShardId) -> String {
    format!("forge.v1.duplicates.{job}.{shard}")
}

/// Returns the subject of a shard's result.
pub fn result_subject(job: &JobId, shard: ShardId) -> String {
    format!("forge.v1.results.{job}.{shard}")
}

/// Returns the subject of a verdict on a shard's result.
pub fn verdict_subject(job: &JobId, shard: ShardId) -> String {
    format!("forge.v1.verdicts.{job}.{shard}")
}

/// Returns the subject of the order to reduce a job.
pub fn reduce_subject(job: &JobId) -> String {
    format!("forge.v1.reduce.{job}")
}

/// Returns the subject of the order to end a job without a result.
pub fn end_subject(job: &JobId) -> String {
    format!("forge.v1.reduce.{job}.end")
}

/// Returns the subject on which the end of a job is broadcast. No stream stores it.
pub fn job_ended_subject(job: &JobId) -> String {
    format!("forge.v1.ended.{job}")
}

/// Returns the filters of all results and verdicts of a job.
pub fn shard_message_subjects(job: &JobId) -> Vec<String> {
    vec![format!("forge.v1.results.{job}.>"), format!("forge.v1.verdicts.{job}.>")]
}

/// What a message about a shard carries, by its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardMessageKind {
    /// A result of an agent.
    Result,
    /// A verdict of a verifier.
    Verdict,
}

/// Parses a [`result_subject`] or [`verdict_subject`]; `None` if `subject` is neither.
pub fn parse_shard_message_subject(subject: &str) -> Option<(ShardMessageKind, JobId, ShardId)> {
    let rest = subject.strip_prefix("forge.v1.")?;
    let (kind, rest) = rest.split_once('.')?;
    let kind = match kind {
        "results" => ShardMessageKind::Result,
        "verdicts" => ShardMessageKind::Verdict,
        _ => return None,
    };
    let (job, shard) = rest.split_once('.')?;
    Some((kind, job.parse().ok()?, shard.parse().ok()?))
}

/// Parses a [`shard_subject`], whatever its target; `None` if `subject` is another one.
pub fn parse_shard_subject(subject: &str) -> Option<(JobId, ShardId)> {
    let rest = subject.strip_prefix("forge.v1.shards.")?;
    let mut tokens = rest.splitn(3, '.');
    let (_target, job, shard) = (tokens.next()?, tokens.next()?, tokens.next()?);
    Some((job.parse().ok()?, shard.parse().ok()?))
}

/// Whether `subject` matches `filter`.
pub fn subject_matches(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}
