//! A client command's connection to NATS, and its requests to the planners' API. A client reads no
//! stream and no bucket: its credential permits requests to the API and nothing else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use forge_bus::{
    BusError, SharedBus,
    jetstream::{JetStreamBus, JetStreamOptions},
    retry::RetryPolicy,
    topology,
};
use forge_contract::{
    ids::{JobId, Submitter},
    job::JobRecord,
    job_list::{JobListPage, JobListRequest},
};
use forge_service::{NatsArgs, job_api};
use serde::de::DeserializeOwned;
use tokio::{runtime::Runtime, time::sleep};

use crate::{error::CommandError, runtime};

/// A request is retried for this long while the API answers that it is unavailable (503).
const UNAVAILABLE_RETRY_PERIOD: Duration = Duration::from_secs(30);
/// A request is retried for this long while no planner answers: planners that have just started, or
/// whose server has ended, need a few seconds to connect.
const NO_PLANNER_RETRY_PERIOD: Duration = Duration::from_secs(10);
/// Connecting is retried for this long while no NATS server answers.
const NO_SERVER_RETRY_PERIOD: Duration = Duration::from_secs(5);
/// Between the attempts.
const REQUEST_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(300), Duration::from_secs(1));

/// An open connection.
pub struct ClientConnection {
    runtime: Runtime,
    /// The bus.
    pub bus: SharedBus,
}

impl ClientConnection {
    /// Connects to NATS.
    ///
    /// # Errors
    /// A setting cannot be used, or NATS is unreachable.
    pub fn open(args: &NatsArgs) -> Result<Self, CommandError> {
        let options = args.jetstream_options("forge")?;
        let runtime = runtime::single_worker()?;
        let bus = runtime.block_on(connect_patiently(options)).map_err(to_command_error)?;
        Ok(Self { runtime, bus: bus as Arc<_> })
    }

    /// Runs a future to completion.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Submits an envelope. Returns the record of its job.
    ///
    /// # Errors
    /// The envelope or the submitter is refused, or no planner answers.
    pub fn submit(&self, envelope: Vec<u8>, submitter: &Submitter) -> Result<JobRecord, CommandError> {
        self.request_record(&topology::api_submit_subject(submitter), envelope)
    }

    /// Reads the record of a job.
    ///
    /// # Errors
    /// There is no such job, or no planner answers.
    pub fn status(&self, job: &JobId) -> Result<JobRecord, CommandError> {
        self.request_record(topology::API_STATUS_SUBJECT, job.as_str().into())
    }

    /// Cancels a job that has not ended. Returns its record.
    ///
    /// # Errors
    /// There is no such job, or no planner answers.
    pub fn cancel(&self, job: &JobId) -> Result<JobRecord, CommandError> {
        self.request_record(topology::API_CANCEL_SUBJECT, job.as_str().into())
    }

    /// Sends a request to the planners' API, which replies with a job record. While NATS elects a
    /// leader, or planners restart or serve too many requests, the API answers 503 or not at
    /// all, and the request is retried. Every request is idempotent: the same envelope under
    /// the same id is the same job.
    ///
    /// # Errors
    /// The API replies with an error, or no planner answers.
    fn request_record(&self, subject: &str, payload: Vec<u8>) -> Result<JobRecord, CommandError> {
        self.block_on(self.request_available(subject, payload)).map_err(to_command_error)
    }

    /// Reads one page of job records.
    ///
    /// # Errors
    /// The API replies with an error, or no planner answers.
    pub fn request_page(&self, request: &JobListRequest) -> Result<JobListPage, CommandError> {
        let payload = job_api::list_payload(request);
        let reply = self.block_on(self.request_available(topology::API_LIST_SUBJECT, payload));
        reply.map_err(to_command_error)
    }

    /// Reads the record of a job with one request, which is not retried.
    ///
    /// # Errors
    /// Any error of the request. [`BusError::Refused`] with status 404 if there is no such job.
    pub async fn poll_record(&self, job: &JobId) -> Result<JobRecord, BusError> {
        job_api::status(self.bus.as_ref(), job).await
    }

    async fn request_available<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: Vec<u8>,
    ) -> Result<T, BusError> {
        let start = Instant::now();
        let mut failures = 0;
        loop {
            let reply = job_api::request(self.bus.as_ref(), subject, payload.clone()).await;
            let patience = match &reply {
                Err(BusError::Refused { status: 503, .. }) => UNAVAILABLE_RETRY_PERIOD,
                Err(BusError::NoResponse(_)) => NO_PLANNER_RETRY_PERIOD,
                _ => return reply,
            };
            if start.elapsed() >= patience {
                return reply;
            }
            if failures == 0 {
                eprintln!("waiting up to {} s for a planner", patience.as_secs());
            }
            failures += 1;
            sleep(REQUEST_POLICY.delay(failures)).await;
        }
    }
}

/// Connects, again and again while no server answers: a server that has just been started needs a
/// moment.
async fn connect_patiently(options: JetStreamOptions) -> Result<Arc<JetStreamBus>, BusError> {
    let start = Instant::now();
    let mut failures = 0;
    loop {
        let connected = JetStreamBus::connect(options.clone()).await;
        if !matches!(connected, Err(BusError::Unavailable(_))) || start.elapsed() >= NO_SERVER_RETRY_PERIOD {
            return connected;
        }
        if failures == 0 {
            eprintln!("waiting up to {} s for a NATS server", NO_SERVER_RETRY_PERIOD.as_secs());
        }
        failures += 1;
        sleep(REQUEST_POLICY.delay(failures)).await;
    }
}

/// A bus error as the command line reports it.
pub fn to_command_error(error: BusError) -> CommandError {
    match error {
        BusError::Refused { status: 400..=499, reason } => CommandError::Input(reason),
        BusError::NoResponse(_) => CommandError::Other(anyhow!(
            "no planner answers; start one, or start all services with `forge up`"
        )),
        other => CommandError::Other(other.into()),
    }
}
