//! Admission: decides whether a submission becomes a job. Every submission has a record: its own,
//! or that of an identical earlier submission. It ends and dispatches nothing; its caller acts on
//! the decision.

use std::{panic::AssertUnwindSafe, sync::Arc};

use forge_bus::{
    BusError, Message, SharedBus,
    topology::{self, Bucket},
};
use forge_contract::{
    artifact::Phase,
    error::{FailureCode, FieldError, InvalidDocument},
    ids::{InvalidSubmitter, JobId, JobUid, Submitter},
    job::{JobRecord, JobState},
    task::EndOrder,
};
use forge_documents::Job;
use forge_kernel::job_key::JobKey;
use forge_service::{clock::Clock, job_keys, job_records, random};
use futures_util::FutureExt;

use crate::{
    admitted_job::AdmittedJob,
    envelope_reader::{EnvelopeReader, one_line},
    quota_ledger::{ChargeOutcome, QuotaLedger},
    quota_policy::QuotaDay,
    record_space::RecordSpace,
    submission_record::{
        RecordRelation, SubmissionOrigin, initial_record, rejected_job_id, requested_job_id,
    },
    submission_trace::submission_trace_id,
};

/// What the planner does with a submission.
#[derive(Debug)]
pub enum AdmissionDecision {
    /// Nothing: an identical earlier submission has the record.
    Duplicate,
    /// The job has ended; its stragglers may have to be purged.
    Terminal { bucket: Bucket, job_id: JobId, uid: JobUid },
    /// The submission is recorded and must be ended with this order.
    Rejected(EndOrder),
    /// The job is charged, and this planner drives it.
    Admitted(Box<AdmittedJob>),
}

/// Decides on submissions, and records them.
#[derive(Debug)]
pub struct Admission {
    bus: SharedBus,
    clock: Clock,
    reader: EnvelopeReader,
    ledger: Arc<QuotaLedger>,
    /// Every bucket of job records.
    buckets: Vec<Bucket>,
    /// Holds the records of rejected submissions.
    default_bucket: Bucket,
    space: Arc<RecordSpace>,
}

/// A rejection before it is recorded.
struct Rejection {
    /// Job ids under which to record it, in order of preference.
    names: Vec<JobId>,
    code: FailureCode,
    reason: String,
    details: Vec<FieldError>,
}

impl Admission {
    /// `buckets` are all buckets of job records; `default_bucket`, one of them, receives the
    /// records of rejected submissions.
    pub fn new(
        bus: SharedBus,
        clock: Clock,
        reader: EnvelopeReader,
        ledger: Arc<QuotaLedger>,
        buckets: Vec<Bucket>,
        default_bucket: Bucket,
        space: Arc<RecordSpace>,
    ) -> Self {
        Self { bus, clock, reader, ledger, buckets, default_bucket, space }
    }

    /// Decides on a submission, which is message number `sequence` of its stream, in its delivery
    /// number `attempt`. Idempotent: a
    /// redelivered message keeps its record, and is charged once. It is decided in the same way
    /// unless the settings, the submitter's usage, or the records of other jobs have changed.
    ///
    /// # Errors
    /// Returns any error from the underlying bus operation. The message must be retried then.
    pub async fn admit(
        &self,
        message: &Message,
        sequence: u64,
        attempt: u64,
    ) -> Result<AdmissionDecision, BusError> {
        let origin = |submitter, envelope_trace: Option<&str>| SubmissionOrigin {
            submitter,
            sequence,
            attempt,
            time: self.clock.now_rfc3339(),
            trace_id: submission_trace_id(&message.headers, envelope_trace),
        };
        let Some(submitter) = topology::parse_submit_subject(&message.subject) else {
            return self.reject_invalid_subject(message, origin(Submitter::default(), None)).await;
        };
        let job = match self.reader.read(&message.payload).await {
            Ok(job) => job,
            Err(invalid) => {
                return self
                    .reject_invalid_envelope(&message.payload, origin(submitter, None), invalid)
                    .await;
            }
        };
        let origin = origin(submitter, job.request.envelope.ctx.trace_id.as_deref());
        let bucket = Bucket::Jobs(job.request.envelope.artifacts.kv_namespace.clone());
        if let Some(found) = job_records::get(self.bus.as_ref(), &bucket, &job.id).await? {
            return self.admit_recorded(message, origin, job, bucket, found.record).await;
        }
        if self.is_held_elsewhere(&job.id, &bucket).await? {
            let read = || job_records::get(self.bus.as_ref(), &bucket, &job.id);
            if let Some(found) = read_own(&origin, read).await? {
                return self.admit_recorded(message, origin, job, bucket, found.record).await;
            }
            return self.reject_conflicting(&message.payload, origin, &job.id).await;
        }
        self.admit_new(message, origin, job, bucket).await
    }

    /// Creates the key and the record of a job that has none.
    ///
    /// The key comes first: a record without its key could not be dispatched. If another submission
    /// creates the record in between, the key stays in its bucket until the bucket's age limit. It
    /// is not deleted, because a creation that seems to have failed may have succeeded.
    async fn admit_new(
        &self,
        message: &Message,
        origin: SubmissionOrigin,
        job: Job,
        bucket: Bucket,
    ) -> Result<AdmissionDecision, BusError> {
        self.space.check(&bucket)?;
        let (uid, key) = (JobUid(random::bytes()), JobKey::from(random::bytes()));
        job_keys::create(self.bus.as_ref(), uid, &key).await?;
        let record = initial_record(job.id.clone(), uid, origin.clone(), Some((&job, key.commitment(uid))));
        if job_records::create(self.bus.as_ref(), &bucket, &record).await? {
            return self.charge(AdmittedJob { job, record, key, bucket, taken_over: false }).await;
        }
        let Some(found) = job_records::get(self.bus.as_ref(), &bucket, &job.id).await? else {
            return Err(removed_during_admission(&job.id));
        };
        self.admit_recorded(message, origin, job, bucket, found.record).await
    }

    /// Decides on a submission whose job id has a record in its own bucket.
    async fn admit_recorded(
        &self,
        message: &Message,
        origin: SubmissionOrigin,
        job: Job,
        bucket: Bucket,
        record: JobRecord,
    ) -> Result<AdmissionDecision, BusError> {
        match RecordRelation::of_submission(&record, origin.sequence, job.envelope_digest) {
            RecordRelation::Own => self.take_over(job, bucket, record).await,
            RecordRelation::OwnTerminal => {
                Ok(AdmissionDecision::Terminal { bucket, job_id: job.id, uid: record.uid })
            }
            RecordRelation::Resubmission => {
                // An earlier delivery may have been rejected, because the id was not free then.
                let rejected = [rejected_job_id(&message.payload)];
                match self.own_rejection(&rejected, &origin).await? {
                    Some(_) => self.reject_conflicting(&message.payload, origin, &job.id).await,
                    None => Ok(AdmissionDecision::Duplicate),
                }
            }
            RecordRelation::Conflict => self.reject_conflicting(&message.payload, origin, &job.id).await,
        }
    }

    /// Admits a job whose record this submission created earlier.
    async fn take_over(
        &self,
        job: Job,
        bucket: Bucket,
        record: JobRecord,
    ) -> Result<AdmissionDecision, BusError> {
        // The replica that answers may not have the key yet.
        let key = job_keys::load_expected(self.bus.as_ref(), record.uid).await?;
        match key.filter(|key| record.key_commitment == Some(key.commitment(record.uid))) {
            Some(key) => self.charge(AdmittedJob { job, record, key, bucket, taken_over: true }).await,
            None => Ok(AdmissionDecision::Rejected(EndOrder::new(
                job.id,
                record.uid,
                bucket.name(),
                FailureCode::Internal,
                Phase::Plan,
                format!("the job's key is missing from bucket {}", Bucket::Secrets.name()),
            ))),
        }
    }

    /// Charges a recorded job to its submitter's quota.
    ///
    /// The record is created before the charge, and the job is dispatched after it. A crash between
    /// record and charge leaves a record in state `accepted`; the redelivered submission is charged
    /// then. A crash after the charge leaves the job in the ledger, which does not charge it twice.
    /// In the opposite order a crash would leave a charged job without a record. The ledger would
    /// take it for a job whose record was removed, and release the charge while the redelivered
    /// submission still runs.
    async fn charge(&self, admitted: AdmittedJob) -> Result<AdmissionDecision, BusError> {
        if admitted.record.state != JobState::Accepted {
            return Ok(AdmissionDecision::Admitted(Box::new(admitted)));
        }
        let uid = admitted.uid();
        Ok(match self.ledger.charge(&admitted, &QuotaDay::now(self.clock)).await? {
            ChargeOutcome::Charged => AdmissionDecision::Admitted(Box::new(admitted)),
            ChargeOutcome::JobEnded => {
                AdmissionDecision::Terminal { bucket: admitted.bucket, job_id: admitted.job.id, uid }
            }
            ChargeOutcome::Denied(denial) => AdmissionDecision::Rejected(EndOrder::new(
                admitted.job.id,
                uid,
                admitted.bucket.name(),
                denial.code,
                Phase::Validate,
                denial.message,
            )),
        })
    }

    /// Whether a bucket of job records other than `bucket` holds the job id. Ids are unique over
    /// all namespaces, because artifacts are stored under them. Two submissions that are admitted
    /// at the same moment can both pass this check; the second manifest is then refused by the
    /// store.
    async fn is_held_elsewhere(&self, job: &JobId, bucket: &Bucket) -> Result<bool, BusError> {
        for other in self.buckets.iter().filter(|other| *other != bucket) {
            if job_records::get(self.bus.as_ref(), other, job).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rejects a submission whose subject names no submitter; `origin` has the default one.
    async fn reject_invalid_subject(
        &self,
        message: &Message,
        origin: SubmissionOrigin,
    ) -> Result<AdmissionDecision, BusError> {
        let reason = format!(
            "subject {} names no submitter: {InvalidSubmitter}; recorded under submitter {}",
            message.subject,
            Submitter::DEFAULT
        );
        self.reject(
            origin,
            Rejection {
                names: rejection_names(&message.payload),
                code: FailureCode::InvalidRequest,
                reason,
                details: Vec::new(),
            },
        )
        .await
    }

    async fn reject_invalid_envelope(
        &self,
        envelope: &[u8],
        origin: SubmissionOrigin,
        invalid: InvalidDocument,
    ) -> Result<AdmissionDecision, BusError> {
        self.reject(
            origin,
            Rejection {
                names: rejection_names(envelope),
                code: FailureCode::InvalidRequest,
                reason: format!("the envelope is invalid: {}", one_line(&invalid)),
                details: invalid.into_errors(),
            },
        )
        .await
    }

    /// Rejects a submission whose job id belongs to another envelope.
    async fn reject_conflicting(
        &self,
        envelope: &[u8],
        origin: SubmissionOrigin,
        requested: &JobId,
    ) -> Result<AdmissionDecision, BusError> {
        let name = rejected_job_id(envelope);
        let reason = format!(
            "job id {requested} already names a job with another envelope or in another namespace: \
             choose another ctx.job_id; this submission is recorded as {name}"
        );
        let (names, details) = (vec![name], Vec::new());
        self.reject(origin, Rejection { names, code: FailureCode::Conflict, reason, details }).await
    }

    /// Gives up submission number `sequence`, whose handling keeps panicking, for this reason.
    /// Returns the order that ends its job, or, if it has no record of its own, the order that ends
    /// it as a rejected submission; `None` if an identical earlier one is recorded as rejected.
    ///
    /// # Errors
    /// Returns any error from the underlying bus operation. The message must be retried then.
    pub async fn give_up(
        &self,
        message: &Message,
        sequence: u64,
        attempt: u64,
        reason: String,
    ) -> Result<Option<EndOrder>, BusError> {
        let code = FailureCode::Internal;
        let origin = SubmissionOrigin {
            submitter: topology::parse_submit_subject(&message.subject).unwrap_or_default(),
            sequence,
            attempt,
            time: self.clock.now_rfc3339(),
            trace_id: submission_trace_id(&message.headers, None),
        };
        // Reading the envelope may be what panics. Then the submission has no job.
        let read = AssertUnwindSafe(self.reader.read(&message.payload)).catch_unwind().await;
        if let Ok(Ok(job)) = read {
            let bucket = Bucket::Jobs(job.request.envelope.artifacts.kv_namespace.clone());
            let read = || job_records::get(self.bus.as_ref(), &bucket, &job.id);
            let found = read_own(&origin, read).await?;
            if let Some(found) = found.filter(|found| found.record.submission == origin.sequence) {
                let (uid, phase) = (found.record.uid, Phase::Plan);
                return Ok(Some(EndOrder::new(job.id, uid, bucket.name(), code, phase, reason)));
            }
        }
        let (names, details) = (rejection_names(&message.payload), Vec::new());
        Ok(match self.reject(origin, Rejection { names, code, reason, details }).await? {
            AdmissionDecision::Rejected(order) => Some(order),
            _ => None,
        })
    }

    /// Records a rejected submission under the first of its names that no other submission has, so
    /// that the order can end it. The order names the uid of a record that this submission created,
    /// so it can end no other.
    async fn reject(
        &self,
        origin: SubmissionOrigin,
        rejection: Rejection,
    ) -> Result<AdmissionDecision, BusError> {
        let bucket = &self.default_bucket;
        self.space.check(bucket)?;
        if let Some((name, uid)) = self.record_rejection(&rejection.names, &origin).await? {
            let order =
                EndOrder::new(name, uid, bucket.name(), rejection.code, Phase::Validate, rejection.reason);
            return Ok(AdmissionDecision::Rejected(order.with_details(rejection.details)));
        }
        tracing::debug!(
            reason = rejection.reason,
            "dropping a rejected submission: an identical earlier one is recorded"
        );
        Ok(AdmissionDecision::Duplicate)
    }

    /// Records a rejected submission under the first of these names that no other submission has,
    /// and returns it with the uid of the record; `None` if others have all of them.
    async fn record_rejection(
        &self,
        names: &[JobId],
        origin: &SubmissionOrigin,
    ) -> Result<Option<(JobId, JobUid)>, BusError> {
        let bucket = &self.default_bucket;
        // First its own record: an earlier delivery may have created it when other names were taken
        // than now, or while a stale read hid one.
        if let Some(own) = self.own_rejection(names, origin).await? {
            return Ok(Some(own));
        }
        for name in names {
            if self.is_held_elsewhere(name, bucket).await? {
                continue;
            }
            let record = initial_record(name.clone(), JobUid(random::bytes()), origin.clone(), None);
            if job_records::create(self.bus.as_ref(), bucket, &record).await? {
                return Ok(Some((name.clone(), record.uid)));
            }
            match job_records::get(self.bus.as_ref(), bucket, name).await? {
                Some(found) if found.record.submission == origin.sequence => {
                    return Ok(Some((name.clone(), found.record.uid)));
                }
                Some(_) => {}
                None => return Err(removed_during_admission(name)),
            }
        }
        Ok(None)
    }

    /// The record under one of these names in the default bucket that this submission has created,
    /// with its uid.
    async fn own_rejection(
        &self,
        names: &[JobId],
        origin: &SubmissionOrigin,
    ) -> Result<Option<(JobId, JobUid)>, BusError> {
        let find = || async {
            for name in names {
                let found = job_records::get(self.bus.as_ref(), &self.default_bucket, name).await?;
                if let Some(found) = found.filter(|found| found.record.submission == origin.sequence) {
                    return Ok(Some((name.clone(), found.record.uid)));
                }
            }
            Ok(None)
        };
        read_own(origin, find).await
    }
}

/// Reads what an earlier delivery of a submission may have created. Only such a delivery waits for
/// it to appear: a deposed leader may not have it, and without it the submission would be decided
/// anew, and the record would never end.
async fn read_own<T, F>(origin: &SubmissionOrigin, mut read: impl FnMut() -> F) -> Result<Option<T>, BusError>
where
    F: Future<Output = Result<Option<T>, BusError>>,
{
    if origin.attempt > 1 { job_records::wait_until_visible(read).await } else { read().await }
}

/// The names under which a rejected submission may be recorded: the job id in its envelope, and one
/// that is derived from its bytes.
fn rejection_names(envelope: &[u8]) -> Vec<JobId> {
    requested_job_id(envelope).into_iter().chain([rejected_job_id(envelope)]).collect()
}

fn removed_during_admission(job: &JobId) -> BusError {
    BusError::Unavailable(format!("the record of job {job} was removed during its admission"))
}

#[cfg(test)]
mod tests;
