//! Ending jobs. The only code that writes terminal records: error.json and the record of a job
//! without a result, or the record of a completed one; then the end broadcast and the purge of the
//! job's key and messages. Every step is idempotent, because a redelivered order repeats them.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use forge_bus::{
    BusError, Message, SharedBus,
    topology::{self, Bucket},
};
use forge_contract::{
    artifact::{ArtifactReference, ErrorDocument},
    digest::Digest,
    error::FailureCode,
    ids::{JobId, JobUid},
    job::{JobError, JobProgress, JobRecord, JobState, VerificationSummary},
    task::EndOrder,
};
use forge_service::{
    Metrics, Settlement,
    clock::Clock,
    job_keys,
    job_records::{self, RecordUpdate, VersionedRecord},
};
use forge_store::{Store, StoreError};
use futures_util::FutureExt;
use serde_json::{Map, Value};

use crate::store_retry::retry_within;

/// Longest delay of a failed job's record while error.json cannot be stored.
const ERROR_DOCUMENT_PATIENCE: Duration = Duration::from_secs(60);
/// Delay before the retry of an order whose job another aggregator is completing.
const COMPLETION_WAIT: Duration = Duration::from_millis(500);

/// Ends jobs.
#[derive(Debug)]
pub(crate) struct Termination {
    pub bus: SharedBus,
    pub clock: Clock,
    pub store: Arc<Store>,
    pub metrics: Metrics,
    /// How long to retry while the store is unavailable.
    pub store_patience: Duration,
    /// How long terminal records are kept; `None` for ever.
    pub record_retention: Option<Duration>,
}

/// What the record of a completed job says about its result.
#[derive(Debug, Clone)]
pub(crate) struct RecordedResult {
    /// The progress of the complete job. Another aggregator of the job may have recorded less.
    pub progress: JobProgress,
    pub headline: Map<String, Value>,
    pub hash: Digest,
    pub verification: VerificationSummary,
    /// Where the manifest is; `None` if nothing is stored.
    pub manifest: Option<String>,
    pub artifacts: Vec<ArtifactReference>,
}

/// Who asks for the end of a job without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requester {
    /// Another service or the submitter: must not interrupt a job that is being completed.
    EndOrder,
    /// The aggregator that was to complete the job.
    Reducer,
}

impl Termination {
    /// Carries out an order to end a job without a result.
    pub async fn end(&self, order: EndOrder) -> Settlement {
        let bucket = Bucket::Jobs(order.namespace.clone());
        let state = match job_records::get_expected(self.bus.as_ref(), &bucket, &order.job_id).await {
            Ok(Some(versioned)) if versioned.record.uid != order.job_uid => {
                let (job, uid) = (&order.job_id, order.job_uid);
                tracing::warn!(%job, %uid, "dropping an order to end an earlier submission of this job id");
                return Settlement::Ack;
            }
            Ok(Some(versioned)) => versioned.record.state,
            Ok(None) => {
                tracing::warn!(job = %order.job_id, "dropping an order to end a job that has no record");
                return Settlement::Ack;
            }
            Err(error) => return retry_later("reading the record of a job to end", &error),
        };
        // The job's artifacts are being stored, which is not interrupted.
        if state == JobState::Reducing {
            return Settlement::Retry(COMPLETION_WAIT);
        }
        self.settle_end(order, Requester::EndOrder).await
    }

    /// Ends a job without a result and returns the settlement of the message that asks for it.
    pub async fn settle_end(&self, order: EndOrder, requester: Requester) -> Settlement {
        match self.end_without_result(order, requester).await {
            Ok(true) => Settlement::Ack,
            Ok(false) => Settlement::Retry(COMPLETION_WAIT),
            Err(error) => retry_later("ending a job without a result", &error),
        }
    }

    /// Ends a job that this aggregator was to complete.
    ///
    /// # Errors
    /// Returns any error of the underlying bus operations.
    pub async fn fail(&self, order: EndOrder) -> Result<(), BusError> {
        self.end_without_result(order, Requester::Reducer).await.map(drop)
    }

    /// Writes error.json and the terminal record, unless the job has ended before. Returns whether
    /// the job has ended: only its own aggregator ends a job that is being completed.
    async fn end_without_result(&self, order: EndOrder, requester: Requester) -> Result<bool, BusError> {
        let bucket = Bucket::Jobs(order.namespace.clone());
        let EndOrder { job_id, job_uid, code, mut message, details, phase, .. } = order;
        let versioned = job_records::get(self.bus.as_ref(), &bucket, &job_id).await?;
        let record = versioned.map(|versioned| versioned.record).filter(|record| record.uid == job_uid);
        if record.is_some_and(|record| !record.state.is_terminal() && record.persist) {
            let document = ErrorDocument {
                schema: ErrorDocument::SCHEMA.to_owned(),
                job_id: job_id.clone(),
                code,
                message: message.clone(),
                details: details.clone(),
                phase,
            };
            // The record does without it, even if storing it panics.
            let stored = AssertUnwindSafe(self.store_error_document(&document)).catch_unwind().await;
            match stored {
                Ok(Ok(())) => {}
                Ok(Err(error)) => message = format!("{message} (error.json could not be stored: {error})"),
                Err(_) => {
                    tracing::error!(job = %job_id, "storing error.json panicked; ending the job without it");
                    message = format!("{message} (error.json could not be stored: storing it panicked)");
                }
            }
        }
        let state = match code {
            FailureCode::Cancelled => JobState::Cancelled,
            _ => JobState::Failed,
        };
        let RecordUpdate { record, written } = job_records::end(
            self.bus.as_ref(),
            self.clock,
            &bucket,
            &job_id,
            self.record_retention,
            |record| {
                let is_completing = record.state == JobState::Reducing && requester == Requester::EndOrder;
                if is_completing || record.uid != job_uid {
                    return false;
                }
                record.state = state;
                let (message, details) = (message.clone(), details.clone());
                record.error = Some(JobError { code, message, details, phase });
                true
            },
        )
        .await?;
        if written {
            tracing::info!(job = %job_id, %code, message, "the job ended without a result");
            self.count(&record);
        }
        if !record.state.is_terminal() && record.uid == job_uid {
            return Ok(false);
        }
        self.remove_error_document(&record, job_uid).await;
        self.announce_and_purge(job_uid).await?;
        Ok(true)
    }

    /// Resumes the cleanup after the end of a job. The aggregator that ended it may have died.
    ///
    /// # Errors
    /// Returns any error of the underlying bus operations; [`BusError::Unavailable`] if the record
    /// is read as it was before the end, and does not tell whether the job has completed.
    pub async fn resume_cleanup(&self, bucket: &Bucket, job: &JobId, uid: JobUid) -> Result<(), BusError> {
        let found = job_records::get(self.bus.as_ref(), bucket, job).await?;
        if let Some(VersionedRecord { record, .. }) = found {
            if record.uid == uid && !record.state.is_terminal() {
                return Err(BusError::Unavailable(format!("the record of job {job} is older than its end")));
            }
            self.remove_error_document(&record, uid).await;
        }
        self.announce_and_purge(uid).await
    }

    /// Removes error.json of submission `uid` if it has completed.
    async fn remove_error_document(&self, record: &JobRecord, uid: JobUid) {
        if record.state != JobState::Completed || !record.persist || record.uid != uid {
            return;
        }
        let job = &record.job_id;
        let patience = ERROR_DOCUMENT_PATIENCE.min(self.store_patience);
        let operation = format!("removing error.json of job {job}, which has completed");
        if let Err(error) = retry_within(patience, &operation, || self.store.remove_error(job)).await {
            tracing::warn!(%job, %error, "{operation} failed; it stays");
        }
    }

    async fn store_error_document(&self, document: &ErrorDocument) -> Result<(), StoreError> {
        let patience = ERROR_DOCUMENT_PATIENCE.min(self.store_patience);
        let operation = format!("storing error.json of job {}", document.job_id);
        retry_within(patience, &operation, || self.store.put_error(document)).await.map(drop)
    }

    /// Writes the record of a completed job, unless another aggregator has ended the job before.
    /// The caller continues with [`Termination::announce_and_purge`].
    ///
    /// # Errors
    /// Returns any error of the underlying bus operations.
    pub async fn complete(
        &self,
        bucket: &Bucket,
        job: &JobId,
        uid: JobUid,
        result: RecordedResult,
    ) -> Result<(), BusError> {
        let RecordUpdate { record, written } =
            job_records::end(self.bus.as_ref(), self.clock, bucket, job, self.record_retention, |record| {
                if record.uid != uid {
                    return false;
                }
                let RecordedResult { progress, headline, hash, verification, manifest, artifacts } =
                    result.clone();
                record.state = JobState::Completed;
                record.progress = progress;
                record.headline = headline;
                record.verification = Some(verification);
                record.result = Some(hash);
                record.manifest = manifest;
                record.artifacts = artifacts;
                true
            })
            .await?;
        if written {
            tracing::info!(%job, state = record.state.as_str(), result = %result.hash, "the job ended");
            self.count(&record);
        }
        // An order to end the job may have stored one, unaware of the completion.
        self.remove_error_document(&record, uid).await;
        Ok(())
    }

    fn count(&self, record: &JobRecord) {
        let code = record.error.as_ref().map(|error| error.code);
        let duration = self.clock.elapsed_since(&record.submitted_at);
        self.metrics.record_job_end(record.state, code, &record.billing, duration);
    }

    /// Announces the end of a job, and deletes its key and its messages.
    ///
    /// # Errors
    /// Returns any error of the underlying bus operations.
    pub async fn announce_and_purge(&self, job: JobUid) -> Result<(), BusError> {
        self.bus.broadcast(Message::new(topology::job_ended_subject(job), job.to_string())).await?;
        // The order to reduce is acknowledged last, so a cleanup that is interrupted is resumed.
        job_keys::delete(self.bus.as_ref(), job).await?;
        for (stream, subject) in topology::job_subjects(job) {
            self.bus.purge(stream, &subject).await?;
        }
        Ok(())
    }
}

/// Logs that `operation` failed and asks the bus to redeliver the order.
pub(crate) fn retry_later(operation: &str, error: &BusError) -> Settlement {
    tracing::warn!(%error, "{operation} failed; retrying with backoff");
    Settlement::Backoff
}
