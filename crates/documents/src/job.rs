//! A request together with its job id.

use forge_contract::{
    artifact::{ErrorDocument, Phase},
    digest::Digest,
    envelope::Envelope,
    error::{FailureCode, FieldError},
    ids::{JobId, JobUid, TaskId},
    protocol::PROTOCOL,
    shard::ShardId,
    task::ShardTask,
};
use forge_kernel::{KERNEL, request::Request};

/// A request with its job id.
#[derive(Debug)]
pub struct Job {
    /// The validated and compiled envelope.
    pub request: Request,
    /// `ctx.job_id` of the envelope; if it has none, `job-` and the first 16 hexadecimal digits of
    /// `envelope_digest`.
    pub id: JobId,
    /// Digest of the normalised envelope. Two submissions under one job id are repetitions of each
    /// other if their digests are equal, and in conflict otherwise.
    pub envelope_digest: Digest,
}

impl Job {
    /// Takes the job id from the request's envelope, or derives it from the envelope's digest.
    pub fn new(request: Request) -> Self {
        let envelope_digest = envelope_digest(&request.envelope);
        Self { id: job_id(&request.envelope), envelope_digest, request }
    }

    /// The task message for one hand-out of a shard. `job_uid` is that of the job's record, and
    /// `task_id` identifies the hand-out.
    pub fn shard_task(&self, job_uid: JobUid, shard: ShardId, task_id: TaskId) -> ShardTask {
        let planned = self.request.shard(shard);
        ShardTask {
            protocol: PROTOCOL,
            job_uid,
            shard_id: shard,
            iterations: planned.iterations,
            seed: planned.seed,
            program: self.request.program_digest,
            kernel: KERNEL,
            task_id,
        }
    }

    /// The `error.json` of a job that ended without a result. `details` lists the invalid fields of
    /// the envelope, and is empty if the envelope is not the cause.
    pub fn error_document(
        &self,
        code: FailureCode,
        phase: Phase,
        message: impl Into<String>,
        details: Vec<FieldError>,
    ) -> ErrorDocument {
        ErrorDocument {
            schema: ErrorDocument::SCHEMA.to_owned(),
            job_id: self.id.clone(),
            code,
            message: message.into(),
            details,
            phase,
        }
    }
}

fn envelope_digest(envelope: &Envelope) -> Digest {
    envelope.digest().expect("a validated envelope has a canonical JSON form")
}

/// The job id of an envelope: its own, or the one derived from its digest.
pub(crate) fn job_id(envelope: &Envelope) -> JobId {
    envelope.ctx.job_id.clone().unwrap_or_else(|| {
        let derived = format!("job-{}", &envelope_digest(envelope).to_hex()[..16]);
        derived.parse().expect("a job id may consist of letters, a hyphen and hexadecimal digits")
    })
}
