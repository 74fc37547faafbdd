//! Submits a job to the services of this process, waits for its end, and cancels it.

use std::time::Duration;

use anyhow::Context;
use forge_aggregator::JobCompletion;
use forge_bus::{
    BucketEntry, Message, SharedBus,
    topology::{self, Bucket},
};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    ids::JobId,
    job::{JobRecord, JobState},
    task::EndOrder,
};
use forge_documents::Job;
use forge_service::{job_records, orders};
use futures_util::StreamExt;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    bus_failed,
    services::{InProcessServices, ServiceExit},
};
use crate::{
    error::{CommandError, JobFailure},
    job_host::JobControl,
};

/// Maximum wait for the announcement of the job's end, which stops the workers.
const END_ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum wait for the reply to one cancellation request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two cancellation requests.
const CANCEL_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A job and everything that can end it.
pub(super) struct JobSupervisor<'a> {
    pub bus: &'a SharedBus,
    /// Bucket of the job's record.
    pub bucket: Bucket,
    pub job: &'a JobId,
    pub services: &'a mut InProcessServices,
    pub control: &'a JobControl,
    /// Receives the job from the aggregator once it has completed.
    pub completed: mpsc::UnboundedReceiver<JobCompletion>,
}

impl JobSupervisor<'_> {
    /// Submits the job and waits until it has ended and its shards have been stopped.
    pub(super) async fn supervise(mut self, job: &Job) -> Result<JobCompletion, CommandError> {
        let mut end = self.bus.subscribe(topology::JOB_ENDED_FILTER).await.map_err(bus_failed)?;
        let envelope = serde_json::to_vec(&job.request.envelope).context("cannot serialise the envelope")?;
        let submission = Message::new(topology::SUBMIT_SUBJECT, envelope);
        self.bus.publish(submission, "submission").await.map_err(bus_failed)?;
        let result = self.wait_for_end().await;
        if matches!(result, Ok(_) | Err(CommandError::Job(_))) {
            // Workers subscribe to the same announcement and stop executing the job's shards.
            let _ = timeout(END_ANNOUNCEMENT_TIMEOUT, end.next()).await;
        }
        result
    }

    async fn wait_for_end(&mut self) -> Result<JobCompletion, CommandError> {
        let mut records = self.bus.watch(&self.bucket, self.job.as_str()).await.map_err(bus_failed)?;
        let mut is_cancelled = false;
        loop {
            tokio::select! {
                Some(completed) = self.completed.recv() => return Ok(completed),
                Some(entry) = records.next() => if let Some(failure) = failure_in(&entry) {
                    return Err(failure.into());
                },
                () = self.control.cancelled(), if !is_cancelled => {
                    is_cancelled = true;
                    tokio::spawn(cancel(self.bus.clone(), self.job.clone()));
                }
                exit = self.services.next_exit() => match exit {
                    ServiceExit::Core(error) => return Err(error),
                    ServiceExit::AllWorkers => self.order_end().await?,
                },
            }
        }
    }

    /// Orders the end of the job after every worker of this process was quarantined.
    async fn order_end(&self) -> Result<(), CommandError> {
        let found = job_records::get(self.bus.as_ref(), &self.bucket, self.job).await.map_err(bus_failed)?;
        let record = found.context("the job of a quarantined worker has no record")?.record;
        let (message, id) = orders::build_end(EndOrder::new(
            self.job.clone(),
            record.uid,
            self.bucket.name(),
            FailureCode::VerificationFailed,
            Phase::Verify,
            "every worker of this process returned wrong results; run again with --backend scalar, and report this \
             as a bug",
        ));
        self.bus.publish(message, &id).await.map_err(bus_failed)
    }
}

/// The failure stated by a record; `None` unless the job has failed or was cancelled.
fn failure_in(entry: &BucketEntry) -> Option<JobFailure> {
    let record: JobRecord = serde_json::from_slice(entry.value.as_ref()?).ok()?;
    if !matches!(record.state, JobState::Failed | JobState::Cancelled) {
        return None;
    }
    Some(match record.error {
        Some(error) => JobFailure::new(error.code, error.phase, error.message),
        None => {
            JobFailure::new(FailureCode::Internal, Phase::Execute, "the job's record does not state a reason")
        }
    })
}

/// Requests the cancellation of a job until a planner acknowledges it: the planner may not have
/// accepted the job yet.
async fn cancel(bus: SharedBus, job: JobId) {
    loop {
        let request = Message::new(topology::API_CANCEL_SUBJECT, job.to_string());
        if bus.request(request, CANCEL_TIMEOUT).await.is_ok() {
            return;
        }
        sleep(CANCEL_RETRY_PAUSE).await;
    }
}
