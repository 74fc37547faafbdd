//! A job: a request with its name.

use forge_contract::{
    artifact::{ErrorDocument, Phase},
    digest::Digest,
    envelope::Envelope,
    error::{FailureCode, FieldError},
    ids::JobId,
};
use forge_kernel::request::Request;

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
