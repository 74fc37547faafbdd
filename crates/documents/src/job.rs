//! A job: a request with its name.

use forge_contract::{
    artifact::{ErrorDocument, Phase},
    digest::Digest,
    envelope::Envelope,
    error::{FailureCode, FieldError},
    ids::JobId,
    shard::ShardId,
    task::ShardTask,
};
use forge_kernel::{KERNEL, request::Request};

/// A request under a job id.
#[derive(Debug)]
pub struct Job {
    /// What is asked for.
    pub request: Request,
    /// The envelope's job id, or one made from its digest.
    pub id: JobId,
    /// The envelope's digest: tells a repeated submission from a conflict.
    pub digest: Digest,
}

impl Job {
    /// Names a request.
    pub fn new(request: Request) -> Self {
        let digest = digest(&request.envelope);
        Self { id: id(&request.envelope, digest), digest, request }
    }

    /// A shard to execute, which had been handed out `attempt` times before.
    pub fn task(&self, shard: ShardId, attempt: u32) -> ShardTask {
        let planned = self.request.shard(shard);
        ShardTask {
            job_id: self.id.clone(),
            shard_id: shard,
            iterations: planned.iterations,
            seed: planned.seed,
            program: self.request.program_digest,
            kernel: KERNEL,
            attempt,
        }
    }

    /// The record of a failed attempt; `details` are the fields of the envelope that are wrong, if it is that.
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

fn digest(envelope: &Envelope) -> Digest {
    envelope.digest().expect("an envelope that was read has canonical JSON")
}

fn id(envelope: &Envelope, digest: Digest) -> JobId {
    envelope.ctx.job_id.clone().unwrap_or_else(|| {
        let named = format!("job-{}", &digest.to_hex()[..16]);
        named.parse().expect("hexadecimal digits are allowed in a job id")
    })
}
