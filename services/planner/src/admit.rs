//! What becomes of a submission: it is known, refused, or this planner's to hand out. Every submission leaves a record.

use std::sync::Arc;

use forge_bus::{
    BusError, Message,
    topology::{self, Bucket},
};
use forge_contract::{
    artifact::Phase,
    digest::Digest,
    envelope::{Billing, Envelope},
    error::{FailureCode, FieldError, InvalidDocument},
    ids::{InvalidSubmitter, JobId, Submitter},
    job::{JobProgress, JobRecord, JobState},
    task::EndOrder,
};
use forge_documents::Job;
use forge_kernel::request::Request;
use forge_service::{clock::now_rfc3339, job_records, trace};
use serde_json::Value;
use tracing::Span;

use crate::{charge::Charge, planner::Planner};

/// The length of the day in a time, as in `2026-11-23`.
const DAY: usize = 10;

/// What becomes of a submission.
#[derive(Debug)]
pub enum Admission {
    /// It has been dealt with, or another message of the same job is being dealt with.
    Known,
    /// Its job has ended. Who handed it out may have died before it removed what the job left.
    Ended(JobId, Bucket),
    /// It cannot become a job.
    Refused(EndOrder),
    /// It is a job to hand out.
    Ours(Box<Admitted>),
}

/// A job to hand out.
#[derive(Debug)]
pub struct Admitted {
    /// The job.
    pub job: Arc<Job>,
    /// Its record as it was found or made.
    pub record: JobRecord,
    /// The bucket of its record.
    pub bucket: Bucket,
    /// Whether another planner, or this one at an earlier time, may have handed out shards of it.
    pub taken_over: bool,
}

impl Planner {
    /// Reads an envelope, with the rules of this installation.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(&self, envelope: &[u8]) -> Result<Job, InvalidDocument> {
        let request = Request::from_json_with(envelope, self.settings.models.as_ref())?;
        let namespace = &request.envelope.artifacts.kv_namespace;
        let allowed = &self.settings.namespaces;
        if !allowed.contains(namespace) {
            return Err(InvalidDocument::single(
                "/artifacts/kv_namespace",
                format!("is not allowed here: must be one of {}; it is {namespace:?}", allowed.join(", ")),
            ));
        }
        Ok(Job::new(request))
    }

    /// Looks at a submission, message number `sequence` of their stream.
    ///
    /// # Errors
    /// As the bus.
    pub async fn admit(&self, submission: &Message, sequence: u64) -> Result<Admission, BusError> {
        let envelope = &submission.payload;
        let Some(submitter) = topology::parse_submit_subject(&submission.subject) else {
            return self.refuse_nobody(submission, sequence).await;
        };
        let job = match self.read(envelope) {
            Ok(job) => job,
            Err(invalid) => return self.refuse_invalid(envelope, submitter, sequence, invalid).await,
        };
        let bucket = Bucket::Jobs(job.request.envelope.artifacts.kv_namespace.clone());
        let fresh = new_record(job.id.clone(), submitter.clone(), sequence, Some(&job));
        if job_records::create(self.bus.as_ref(), &bucket, &fresh).await? {
            let admitted = Admitted { job: Arc::new(job), record: fresh, bucket, taken_over: false };
            return self.allow(admitted).await;
        }
        let Some(found) = job_records::get(self.bus.as_ref(), &bucket, &job.id).await? else {
            // Removed in between: look again.
            return Err(BusError::Unavailable(format!("the record of job {} changes", job.id)));
        };
        let record = found.record;
        if record.submission == sequence && record.request == Some(job.envelope_digest) {
            if record.state.is_terminal() {
                return Ok(Admission::Ended(record.job_id, bucket));
            }
            return self.allow(Admitted { job: Arc::new(job), record, bucket, taken_over: true }).await;
        }
        if record.request == Some(job.envelope_digest) {
            return Ok(Admission::Known);
        }
        let name = rejected_name(envelope);
        let message = format!(
            "the job id {} names a job with another envelope: choose another ctx.job_id; this submission is recorded \
             as {name}",
            job.id
        );
        self.refuse(name, submitter, sequence, FailureCode::Conflict, message, Vec::new()).await
    }

    /// Admits a job if its submitter may have it.
    ///
    /// The record is made before the job is charged, and nothing is handed out before that. A crash in between leaves a
    /// record in state `accepted` and no charge: the submission is delivered again, and charged then. A crash after the
    /// charge leaves the job among the active ones, so that it is not charged again. The other order would have active
    /// jobs without a record, and whoever looks which have ended could not tell them from those whose record is gone.
    async fn allow(&self, admitted: Admitted) -> Result<Admission, BusError> {
        if admitted.record.state != JobState::Accepted {
            return Ok(Admission::Ours(Box::new(admitted)));
        }
        let charge = self.charge(&admitted, &now_rfc3339()[..DAY]).await?;
        let Admitted { record, bucket, .. } = &admitted;
        Ok(match charge {
            Charge::Paid => Admission::Ours(Box::new(admitted)),
            Charge::Ended => Admission::Ended(record.job_id.clone(), bucket.clone()),
            Charge::Refused(refusal) => Admission::Refused(EndOrder::new(
                record.job_id.clone(),
                bucket.name(),
                refusal.code,
                Phase::Validate,
                refusal.message,
            )),
        })
    }

    /// Refuses a submission whose subject names no submitter.
    async fn refuse_nobody(&self, submission: &Message, sequence: u64) -> Result<Admission, BusError> {
        let name = self.name_of_refused(&submission.payload, sequence).await?;
        let message = format!(
            "the subject {} names no submitter: {InvalidSubmitter}; the record says {}",
            submission.subject,
            Submitter::DEFAULT
        );
        let (nobody, code) = (Submitter::default(), FailureCode::InvalidRequest);
        self.refuse(name, nobody, sequence, code, message, Vec::new()).await
    }

    async fn refuse_invalid(
        &self,
        envelope: &[u8],
        submitter: Submitter,
        sequence: u64,
        invalid: InvalidDocument,
    ) -> Result<Admission, BusError> {
        let message = format!("the envelope is not valid: {}", one_line(&invalid));
        let name = self.name_of_refused(envelope, sequence).await?;
        let details = invalid.into_errors();
        self.refuse(name, submitter, sequence, FailureCode::InvalidRequest, message, details).await
    }

    /// The name under which a submission is recorded that cannot become a job: the id that it asks for, unless that names
    /// another submission, whose record is not written over.
    async fn name_of_refused(&self, envelope: &[u8], sequence: u64) -> Result<JobId, BusError> {
        let rejected = rejected_name(envelope);
        let name = claimed_id(envelope).unwrap_or_else(|| rejected.clone());
        let found = job_records::get(self.bus.as_ref(), &self.default_bucket(), &name).await?;
        Ok(if found.is_some_and(|found| found.record.submission != sequence) { rejected } else { name })
    }

    async fn refuse(
        &self,
        name: JobId,
        submitter: Submitter,
        sequence: u64,
        code: FailureCode,
        message: String,
        details: Vec<FieldError>,
    ) -> Result<Admission, BusError> {
        let bucket = self.default_bucket();
        let record = new_record(name.clone(), submitter, sequence, None);
        job_records::create(self.bus.as_ref(), &bucket, &record).await?;
        let order = EndOrder::new(name, bucket.name(), code, Phase::Validate, message);
        Ok(Admission::Refused(order.with_details(details)))
    }

    pub(crate) fn default_bucket(&self) -> Bucket {
        Bucket::Jobs(self.settings.namespaces[0].clone())
    }
}

/// The record of a submission at its start; of an envelope that is not valid, no more than its name is known.
fn new_record(job_id: JobId, submitter: Submitter, submission: u64, job: Option<&Job>) -> JobRecord {
    let now = now_rfc3339();
    let request = job.map(|job| &job.request);
    let envelope: Option<&Envelope> = request.map(|request| &request.envelope);
    JobRecord {
        schema: JobRecord::SCHEMA.to_owned(),
        job_id,
        submitter,
        state: JobState::Accepted,
        request: job.map(|job| job.envelope_digest),
        replay_key: request.map(|request| request.replay_key),
        op: envelope.map(|envelope| envelope.op.clone()),
        billing: envelope.map_or_else(Billing::default, |envelope| envelope.ctx.billing),
        persist: envelope.is_none_or(|envelope| envelope.artifacts.persist),
        trace_id: envelope
            .and_then(|envelope| envelope.ctx.trace_id.clone())
            .or_else(|| trace::trace_id(&Span::current())),
        submission,
        submitted_at: now.clone(),
        updated_at: now,
        progress: JobProgress::default(),
        headline: serde_json::Map::new(),
        result: None,
        manifest: None,
        artifacts: Vec::new(),
        error: None,
    }
}

/// The name under which a submission is recorded that cannot be recorded under its job id: `rejected-` and the first 16
/// digits of the SHA-256 of the bytes that were submitted.
pub fn rejected_name(envelope: &[u8]) -> JobId {
    let name = format!("rejected-{}", &Digest::hash_parts(&[envelope]).to_hex()[..16]);
    name.parse().expect("hexadecimal digits are allowed in a job id")
}

/// The job id that an envelope which is not valid asks for, if that much can be read.
fn claimed_id(envelope: &[u8]) -> Option<JobId> {
    let value: Value = serde_json::from_slice(envelope).ok()?;
    value.pointer("/ctx/job_id")?.as_str()?.parse().ok()
}

pub(crate) fn one_line(invalid: &InvalidDocument) -> String {
    let errors: Vec<_> = invalid.errors().iter().map(ToString::to_string).collect();
    errors.join("; ")
}
