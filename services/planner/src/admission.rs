//! Admission: decides whether a submission becomes a job. Every submission leaves a record, a
//! rejected one included. It ends and dispatches nothing; its caller acts on the decision.

use std::sync::Arc;

use forge_bus::{
    BusError, Message, SharedBus,
    topology::{self, Bucket},
};
use forge_contract::{
    artifact::Phase,
    error::{FailureCode, FieldError, InvalidDocument},
    ids::{InvalidSubmitter, JobId, Submitter},
    job::JobState,
    task::EndOrder,
};
use forge_service::{
    clock::{now_rfc3339, today},
    job_records, trace,
};
use tracing::Span;

use crate::{
    admitted_job::AdmittedJob,
    envelope_reader::{EnvelopeReader, one_line},
    quota_ledger::{ChargeOutcome, QuotaLedger},
    submission_record::{
        RecordRelation, SubmissionOrigin, initial_record, rejected_job_id, requested_job_id,
    },
};

/// What the planner does with a submission.
#[derive(Debug)]
pub enum AdmissionDecision {
    /// Nothing: another message of the same job is, or was, handled in its place.
    Duplicate,
    /// The job has ended; its stragglers may have to be purged.
    Terminal(JobId, Bucket),
    /// The submission is recorded and must be ended with this order.
    Rejected(EndOrder),
    /// The job is charged, and this planner drives it.
    Admitted(Box<AdmittedJob>),
}

/// Decides on submissions, and records them.
#[derive(Debug)]
pub struct Admission {
    bus: SharedBus,
    reader: EnvelopeReader,
    ledger: Arc<QuotaLedger>,
    /// Holds the records of rejected submissions.
    default_bucket: Bucket,
}

impl Admission {
    /// `default_bucket` receives the records of rejected submissions.
    pub fn new(
        bus: SharedBus,
        reader: EnvelopeReader,
        ledger: Arc<QuotaLedger>,
        default_bucket: Bucket,
    ) -> Self {
        Self { bus, reader, ledger, default_bucket }
    }

    /// Decides on a submission, which is message number `sequence` of its stream. Idempotent: a
    /// redelivered message is decided in the same way and charged once.
    ///
    /// # Errors
    /// Returns any error from the underlying bus operation. The message must be retried then.
    pub async fn admit(&self, message: &Message, sequence: u64) -> Result<AdmissionDecision, BusError> {
        let envelope = &message.payload;
        let origin = |submitter| SubmissionOrigin {
            submitter,
            sequence,
            time: now_rfc3339(),
            trace_id: trace::trace_id(&Span::current()),
        };
        let Some(submitter) = topology::parse_submit_subject(&message.subject) else {
            return self.reject_unnamed(message, origin(Submitter::default())).await;
        };
        let read = self.reader.read(envelope);
        let origin = origin(submitter);
        let job = match read {
            Ok(job) => job,
            Err(invalid) => return self.reject_invalid(envelope, origin, invalid).await,
        };
        let bucket = Bucket::Jobs(job.request.envelope.artifacts.kv_namespace.clone());
        let record = initial_record(job.id.clone(), origin.clone(), Some(&job));
        if job_records::create(self.bus.as_ref(), &bucket, &record).await? {
            return self.charge(AdmittedJob { job, record, bucket, taken_over: false }).await;
        }
        let Some(found) = job_records::get(self.bus.as_ref(), &bucket, &job.id).await? else {
            let changed = format!("the record of job {} was removed during its admission", job.id);
            return Err(BusError::Unavailable(changed));
        };
        let record = found.record;
        match RecordRelation::of_submission(&record, sequence, job.envelope_digest) {
            RecordRelation::Own => self.charge(AdmittedJob { job, record, bucket, taken_over: true }).await,
            RecordRelation::OwnTerminal => Ok(AdmissionDecision::Terminal(job.id, bucket)),
            RecordRelation::Resubmission => Ok(AdmissionDecision::Duplicate),
            RecordRelation::Conflict => self.reject_conflicting(envelope, origin, &job.id).await,
        }
    }

    /// Charges a recorded job to its submitter's quota.
    ///
    /// The record is created before the charge, and the job is dispatched after it. A crash between
    /// record and charge leaves a record in state `accepted`; the redelivered submission is charged
    /// then. A crash after the charge leaves the job in the ledger, which does not charge it twice.
    /// In the opposite order the ledger would hold jobs without a record, which could not be told
    /// from jobs whose record was removed.
    async fn charge(&self, admitted: AdmittedJob) -> Result<AdmissionDecision, BusError> {
        if admitted.record.state != JobState::Accepted {
            return Ok(AdmissionDecision::Admitted(Box::new(admitted)));
        }
        Ok(match self.ledger.charge(&admitted, &today()).await? {
            ChargeOutcome::Charged => AdmissionDecision::Admitted(Box::new(admitted)),
            ChargeOutcome::JobEnded => AdmissionDecision::Terminal(admitted.record.job_id, admitted.bucket),
            ChargeOutcome::Denied(denial) => AdmissionDecision::Rejected(EndOrder::new(
                admitted.record.job_id,
                admitted.bucket.name(),
                denial.code,
                Phase::Validate,
                denial.message,
            )),
        })
    }

    /// Rejects a submission whose subject names no submitter; `origin` has the default one.
    async fn reject_unnamed(
        &self,
        message: &Message,
        origin: SubmissionOrigin,
    ) -> Result<AdmissionDecision, BusError> {
        let job = self.rejection_name(&message.payload, origin.sequence).await?;
        let reason = format!(
            "subject {} names no submitter: {InvalidSubmitter}; recorded under submitter {}",
            message.subject,
            Submitter::DEFAULT
        );
        self.reject(job, origin, FailureCode::InvalidRequest, reason, Vec::new()).await
    }

    async fn reject_invalid(
        &self,
        envelope: &[u8],
        origin: SubmissionOrigin,
        invalid: InvalidDocument,
    ) -> Result<AdmissionDecision, BusError> {
        let job = self.rejection_name(envelope, origin.sequence).await?;
        let reason = format!("the envelope is invalid: {}", one_line(&invalid));
        self.reject(job, origin, FailureCode::InvalidRequest, reason, invalid.into_errors()).await
    }

    /// Rejects a submission whose job id belongs to another envelope.
    async fn reject_conflicting(
        &self,
        envelope: &[u8],
        origin: SubmissionOrigin,
        requested: &JobId,
    ) -> Result<AdmissionDecision, BusError> {
        let job = rejected_job_id(envelope);
        let reason = format!(
            "job id {requested} already names a job with another envelope: choose another ctx.job_id; \
             this submission is recorded as {job}"
        );
        self.reject(job, origin, FailureCode::Conflict, reason, Vec::new()).await
    }

    /// The name under which a rejected submission is recorded: the job id in its envelope, unless
    /// another submission's record has that name, which must not be overwritten.
    async fn rejection_name(&self, envelope: &[u8], sequence: u64) -> Result<JobId, BusError> {
        let rejected = rejected_job_id(envelope);
        let name = requested_job_id(envelope).unwrap_or_else(|| rejected.clone());
        let found = job_records::get(self.bus.as_ref(), &self.default_bucket, &name).await?;
        Ok(if found.is_some_and(|found| found.record.submission != sequence) { rejected } else { name })
    }

    /// Records a rejected submission, so that the order can end it.
    async fn reject(
        &self,
        job: JobId,
        origin: SubmissionOrigin,
        code: FailureCode,
        reason: String,
        details: Vec<FieldError>,
    ) -> Result<AdmissionDecision, BusError> {
        let bucket = &self.default_bucket;
        job_records::create(self.bus.as_ref(), bucket, &initial_record(job.clone(), origin, None)).await?;
        let order = EndOrder::new(job, bucket.name(), code, Phase::Validate, reason);
        Ok(AdmissionDecision::Rejected(order.with_details(details)))
    }
}

#[cfg(test)]
mod tests;
