//! The record of a submission: its initial content, the name of a rejected one, and how an existing
//! record relates to a delivered submission. Pure: reads no bus, no clock and no trace context.

use forge_contract::{
    digest::Digest,
    envelope::{Billing, Envelope},
    ids::{JobId, JobUid, Submitter},
    job::{JobProgress, JobRecord, JobState},
};
use forge_documents::Job;
use serde_json::Value;

/// What a delivered submission message says apart from its envelope.
#[derive(Debug, Clone)]
pub struct SubmissionOrigin {
    /// From the message's subject.
    pub submitter: Submitter,
    /// The message's sequence number in the stream of submissions.
    pub sequence: u64,
    /// Number of deliveries of the message so far, including this one.
    pub attempt: u64,
    /// When admission began: RFC 3339, UTC.
    pub time: String,
    /// Trace in which the submission is handled. `None` if no spans are recorded.
    pub trace_id: Option<String>,
}

/// The record with which a submission starts. `job` and the commitment to its key are `None` for a
/// rejected submission: only its name is known then, and it needs no key.
pub fn initial_record(
    job_id: JobId,
    uid: JobUid,
    origin: SubmissionOrigin,
    job: Option<(&Job, Digest)>,
) -> JobRecord {
    let (job, key_commitment) = job.unzip();
    let request = job.map(|job| &job.request);
    let envelope: Option<&Envelope> = request.map(|request| &request.envelope);
    JobRecord {
        schema: JobRecord::SCHEMA.to_owned(),
        job_id,
        uid,
        key_commitment,
        submitter: origin.submitter,
        state: JobState::Accepted,
        request: job.map(|job| job.envelope_digest),
        replay_key: request.map(|request| request.replay_key),
        op: envelope.map(|envelope| envelope.op.clone()),
        title: envelope.and_then(|envelope| envelope.about.as_ref()?.title.clone()),
        billing: envelope.map_or_else(Billing::default, |envelope| envelope.ctx.billing),
        persist: envelope.is_none_or(|envelope| envelope.artifacts.persist),
        trace_id: origin.trace_id,
        submission: origin.sequence,
        submitted_at: origin.time.clone(),
        updated_at: origin.time,
        progress: JobProgress::default(),
        waiting: None,
        headline: serde_json::Map::new(),
        result: None,
        verification: None,
        manifest: None,
        artifacts: Vec::new(),
        error: None,
    }
}

/// The name of a submission that cannot be recorded under its job id: `rejected-` and the first 16
/// hexadecimal digits of the SHA-256 of the submitted bytes.
pub fn rejected_job_id(envelope: &[u8]) -> JobId {
    let name = format!("rejected-{}", &Digest::hash_parts(&[envelope]).to_hex()[..16]);
    name.parse().expect("hexadecimal digits are valid in a job id")
}

/// The job id in an invalid envelope, if it can be read.
pub fn requested_job_id(envelope: &[u8]) -> Option<JobId> {
    let value: Value = serde_json::from_slice(envelope).ok()?;
    value.pointer("/ctx/job_id")?.as_str()?.parse().ok()
}

/// How the record under a job id relates to a submission of that job id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordRelation {
    /// This very message created it, and the job has not ended.
    Own,
    /// This very message created it, and the job has ended.
    OwnTerminal,
    /// Another message with the same envelope created it.
    Resubmission,
    /// It belongs to another envelope.
    Conflict,
}

impl RecordRelation {
    /// `sequence` is the submission's message number, `request` the digest of its envelope.
    pub fn of_submission(record: &JobRecord, sequence: u64, request: Digest) -> Self {
        if record.request != Some(request) {
            Self::Conflict
        } else if record.submission != sequence {
            Self::Resubmission
        } else if record.state.is_terminal() {
            Self::OwnTerminal
        } else {
            Self::Own
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: JobUid = JobUid([1; 16]);

    fn origin(sequence: u64) -> SubmissionOrigin {
        SubmissionOrigin {
            submitter: "alice".parse().unwrap(),
            sequence,
            attempt: 1,
            time: "2026-11-23T04:21:23.123Z".to_owned(),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".to_owned()),
        }
    }

    #[test]
    fn record_of_rejected_submission_holds_its_origin_only() {
        let record = initial_record("x".parse().unwrap(), UID, origin(7), None);
        assert_eq!((record.job_id.as_str(), record.submission, record.state), ("x", 7, JobState::Accepted));
        assert_eq!((record.uid, record.key_commitment), (UID, None));
        assert_eq!((record.submitter.as_str(), record.submitted_at), ("alice", record.updated_at));
        assert_eq!(record.trace_id, origin(7).trace_id);
        assert!(record.request.is_none() && record.op.is_none() && record.persist);
    }

    #[test]
    fn rejected_job_id_depends_on_the_submitted_bytes_only() {
        assert_eq!(rejected_job_id(b"").as_str(), "rejected-e3b0c44298fc1c14");
        assert_ne!(rejected_job_id(b"{}"), rejected_job_id(b"{ }"));
    }

    #[test]
    fn requested_job_id_is_read_from_invalid_envelopes() {
        let read = |envelope: &str| requested_job_id(envelope.as_bytes()).map(|id| id.to_string());
        assert_eq!(read(r#"{"ctx": {"job_id": "a"}, "op": 3}"#).as_deref(), Some("a"));
        for unreadable in ["", "{", "{}", r#"{"ctx": {"job_id": 3}}"#, r#"{"ctx": {"job_id": "a b"}}"#] {
            assert_eq!(read(unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn existing_record_is_own_only_for_the_message_that_created_it() {
        let (digest, other) = (Digest::hash_parts(&[b"a"]), Digest::hash_parts(&[b"b"]));
        let mut record = initial_record("x".parse().unwrap(), UID, origin(7), None);
        record.request = Some(digest);
        let relation =
            |record: &_, sequence, request| RecordRelation::of_submission(record, sequence, request);
        assert_eq!(relation(&record, 7, digest), RecordRelation::Own);
        assert_eq!(relation(&record, 8, digest), RecordRelation::Resubmission);
        assert_eq!(relation(&record, 7, other), RecordRelation::Conflict);
        record.state = JobState::Failed;
        assert_eq!(relation(&record, 7, digest), RecordRelation::OwnTerminal);
        assert_eq!(relation(&record, 8, digest), RecordRelation::Resubmission);
        record.request = None;
        assert_eq!(relation(&record, 7, digest), RecordRelation::Conflict);
    }
}
