//! Subjects: constants, builders and parsers. `*` in a filter stands for one token, a trailing `>`
//! for one or more, as in NATS. Knows no stream; `topology` assigns subjects to streams.

use forge_contract::{
    envelope::Target,
    ids::{JobUid, PoolName, Submitter},
    shard::ShardId,
};

use super::JobLength;

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
pub fn shard_subject(target: Target, length: JobLength, job: JobUid, shard: ShardId) -> String {
    format!("forge.v1.shards.{}{}.{job}.{shard}", target_token(target), length.suffix())
}

/// Returns the filter of a job's shards for workers, whatever their target and length.
pub fn shards_filter(job: JobUid) -> String {
    format!("forge.v1.shards.*.{job}.>")
}

/// Parses a [`shard_subject`], whatever its target and length; `None` if `subject` is another one.
pub fn parse_shard_subject(subject: &str) -> Option<(JobUid, ShardId)> {
    let (_target_and_lane, rest) = subject.strip_prefix("forge.v1.shards.")?.split_once('.')?;
    parse_job_and_shard(rest)
}

/// Returns the subject of a shard's verification task.
pub fn verification_subject(length: JobLength, job: JobUid, shard: ShardId) -> String {
    format!("forge.v1.duplicates{}.{job}.{shard}", length.suffix())
}

/// Parses a [`verification_subject`], whatever its length; `None` if `subject` is another one.
pub fn parse_verification_subject(subject: &str) -> Option<(JobUid, ShardId)> {
    let (_length, rest) = subject.strip_prefix("forge.v1.duplicates")?.split_once('.')?;
    parse_job_and_shard(rest)
}

/// Returns the filter of a job's verification tasks, if it is of this length.
pub fn verifications_filter(length: JobLength, job: JobUid) -> String {
    format!("forge.v1.duplicates{}.{job}.>", length.suffix())
}

/// Returns the subject on which a pool publishes a shard's result. Permissions tie a credential to
/// its pool, so the subject says reliably which pool a result came from.
pub fn result_subject(pool: &PoolName, job: JobUid, shard: ShardId) -> String {
    format!("forge.v1.results.{pool}.{job}.{shard}")
}

/// Returns the filter of all results of a job.
pub fn results_filter(job: JobUid) -> String {
    format!("forge.v1.results.*.{job}.>")
}

/// Parses a [`result_subject`]; `None` if `subject` is another one.
pub fn parse_result_subject(subject: &str) -> Option<(PoolName, JobUid, ShardId)> {
    let (pool, rest) = subject.strip_prefix("forge.v1.results.")?.split_once('.')?;
    let (job, shard) = parse_job_and_shard(rest)?;
    Some((pool.parse().ok()?, job, shard))
}

/// Returns the subject of a verdict on a shard's result.
pub fn verdict_subject(job: JobUid, shard: ShardId) -> String {
    format!("forge.v1.verdicts.{job}.{shard}")
}

/// Returns the filter of all verdicts of a job.
pub fn verdicts_filter(job: JobUid) -> String {
    format!("forge.v1.verdicts.{job}.>")
}

/// Parses a [`verdict_subject`]; `None` if `subject` is another one.
pub fn parse_verdict_subject(subject: &str) -> Option<(JobUid, ShardId)> {
    parse_job_and_shard(subject.strip_prefix("forge.v1.verdicts.")?)
}

/// Returns the subject of the outcomes of a job's shards.
pub fn outcomes_subject(job: JobUid) -> String {
    format!("forge.v1.outcomes.{job}")
}

/// Parses an [`outcomes_subject`]; `None` if `subject` is another one.
pub fn parse_outcomes_subject(subject: &str) -> Option<JobUid> {
    subject.strip_prefix("forge.v1.outcomes.")?.parse().ok()
}

/// Returns the subject of the order to reduce a job.
pub fn reduce_subject(job: JobUid) -> String {
    format!("forge.v1.reduce.{job}")
}

/// Parses a [`reduce_subject`]; `None` if `subject` is another one.
pub fn parse_reduce_subject(subject: &str) -> Option<JobUid> {
    subject.strip_prefix("forge.v1.reduce.")?.parse().ok()
}

/// Returns the subject of the order to end a job without a result.
pub fn end_subject(job: JobUid) -> String {
    format!("forge.v1.reduce.{job}.end")
}

/// Returns the subject on which the end of a job is broadcast. No stream stores it.
pub fn job_ended_subject(job: JobUid) -> String {
    format!("forge.v1.ended.{job}")
}

/// Returns the job of a shard, a verification task, a result, a verdict or outcomes; `None` for any
/// other subject.
pub fn parse_job_of_message(subject: &str) -> Option<JobUid> {
    let of_shard = parse_shard_subject(subject)
        .or_else(|| parse_verification_subject(subject))
        .or_else(|| parse_verdict_subject(subject));
    let of_result = || parse_result_subject(subject).map(|(_, job, _)| job);
    of_shard.map(|(job, _)| job).or_else(of_result).or_else(|| parse_outcomes_subject(subject))
}

fn parse_job_and_shard(tokens: &str) -> Option<(JobUid, ShardId)> {
    let (job, shard) = tokens.split_once('.')?;
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
