//! Ending a job: its terminal record, and the removal of what it leaves on the bus. Whatever is done twice is done once.

use std::time::{Duration, Instant};

use forge_bus::{
    BusError, Message,
    topology::{self, Bucket},
};
use forge_contract::{
    artifact::ErrorDocument,
    error::FailureCode,
    ids::JobId,
    job::{JobError, JobRecord, JobState},
    task::EndOrder,
};
use forge_service::{
    clock::elapsed_since,
    job_records::{self, RecordUpdate},
    queue_worker::Settlement,
};
use forge_store::StoreError;
use tokio::time::sleep;

use crate::{aggregator::Aggregator, complete::within};

/// How long the record of a failed job waits for a store that is away, at most.
const ERROR_PATIENCE: Duration = Duration::from_secs(60);

impl Aggregator {
    /// Ends a job without a result, as another service asks.
    pub(crate) async fn end(&self, order: EndOrder) -> Settlement {
        let bucket = Bucket::Jobs(order.namespace.clone());
        let found = match job_records::get(self.bus.as_ref(), &bucket, &order.job_id).await {
            Ok(Some(found)) => found.record,
            Ok(None) => {
                tracing::warn!(job = %order.job_id, "there is no record of a job that is to end");
                return Settlement::Ack;
            }
            Err(error) => return self.later(&error),
        };
        // From here on its artifacts are being written, and it is not stopped any more.
        if found.state == JobState::Reducing {
            return Settlement::Retry(Duration::from_millis(500));
        }
        match self.finish(&bucket, order, false).await {
            Ok(true) => Settlement::Ack,
            Ok(false) => Settlement::Retry(Duration::from_millis(500)),
            Err(error) => self.later(&error),
        }
    }

    pub(crate) fn later(&self, error: &BusError) -> Settlement {
        tracing::warn!(%error, "not done; it is tried again");
        Settlement::Retry(Duration::from_secs(1))
    }

    /// Ends a job that this aggregator was to complete.
    pub(crate) async fn fail(&self, bucket: &Bucket, order: EndOrder) -> Result<(), BusError> {
        self.finish(bucket, order, true).await.map(drop)
    }

    /// Writes error.json and the terminal record, unless the job has ended already. Whether it has ended by then: one that
    /// is being completed ends only by whoever completes it.
    async fn finish(&self, bucket: &Bucket, order: EndOrder, completing: bool) -> Result<bool, BusError> {
        let EndOrder { job_id, code, mut message, details, phase, .. } = order;
        let found = job_records::get(self.bus.as_ref(), bucket, &job_id).await?;
        let open = found.filter(|found| !found.record.state.is_terminal());
        if open.is_some_and(|found| found.record.persist) {
            let document = ErrorDocument {
                schema: ErrorDocument::SCHEMA.to_owned(),
                job_id: job_id.clone(),
                code,
                message: message.clone(),
                details: details.clone(),
                phase,
            };
            if let Err(error) = self.put_error(&document).await {
                message = format!("{message} (error.json was not written: {error})");
            }
        }
        let state = match code {
            FailureCode::Cancelled => JobState::Cancelled,
            _ => JobState::Failed,
        };
        let RecordUpdate { record, written } =
            job_records::update(self.bus.as_ref(), bucket, &job_id, |record| {
                if record.state == JobState::Reducing && !completing {
                    return false;
                }
                record.state = state;
                let (message, details) = (message.clone(), details.clone());
                record.error = Some(JobError { code, message, details, phase });
                true
            })
            .await?;
        if written {
            tracing::info!(job = %job_id, %code, message, "the job has ended without a result");
            self.count(&record);
        }
        if !record.state.is_terminal() {
            return Ok(false);
        }
        self.clear(&job_id).await.map(|()| true)
    }

    async fn put_error(&self, document: &ErrorDocument) -> Result<(), StoreError> {
        let started = Instant::now();
        let patience = ERROR_PATIENCE.min(self.settings.store_patience);
        loop {
            let left = patience.saturating_sub(started.elapsed());
            match within(left, self.store.put_error(document)).await {
                Ok(_) => return Ok(()),
                Err(error) if !is_temporary(&error) || started.elapsed() > patience => {
                    return Err(error);
                }
                Err(error) => tracing::warn!(%error, "error.json is not written yet"),
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Counts a job that has ended.
    pub(crate) fn count(&self, record: &JobRecord) {
        let code = record.error.as_ref().map(|error| error.code);
        self.metrics.record_job_end(record.state, code, &record.billing, elapsed_since(&record.submitted_at));
    }

    /// Says that a job has ended, and removes what it leaves on the bus.
    pub(crate) async fn clear(&self, job: &JobId) -> Result<(), BusError> {
        self.bus.broadcast(Message::new(topology::job_ended_subject(job), job.to_string())).await?;
        for (stream, subject) in topology::job_subjects(job) {
            self.bus.purge(stream, &subject).await?;
        }
        Ok(())
    }
}

/// Whether it may help to try again.
pub(crate) fn is_temporary(error: &StoreError) -> bool {
    !matches!(error, StoreError::Corrupt { .. } | StoreError::Malformed { .. })
}
