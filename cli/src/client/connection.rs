//! A client command's connection to NATS, and its requests to the planners' API.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use clap::Args;
use forge_bus::{BusError, Message, SharedBus, jetstream::JetStreamBus, topology::Bucket};
use forge_contract::{ids::JobId, job::JobRecord};
use forge_service::{NatsArgs, job_records, telemetry::trace};
use tokio::{runtime::Runtime, time::sleep};

use crate::{error::CommandError, runtime};

/// Maximum wait for the reply to a request.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// A submission is retried for this long while the API answers that it is unavailable (503).
const SUBMIT_RETRY_PERIOD: Duration = Duration::from_secs(30);
/// Pause between two attempts to submit.
const SUBMIT_RETRY_PAUSE: Duration = Duration::from_millis(300);

/// The option that names a bucket of job records.
#[derive(Debug, Clone, Args)]
pub struct RecordBucketArgs {
    /// Key-value bucket of the job's record
    #[arg(long, env = "FORGE_KV_NAMESPACE", value_name = "NAME", default_value = "jobs")]
    namespace: String,
}

impl RecordBucketArgs {
    /// The named bucket.
    pub fn bucket(&self) -> Bucket {
        Bucket::Jobs(self.namespace.clone())
    }
}

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
        let bus = runtime.block_on(JetStreamBus::connect(options)).map_err(to_command_error)?;
        Ok(Self { runtime, bus: bus as Arc<_> })
    }

    /// Runs a future to completion.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Sends one request to the planners' API, which replies with a job record.
    ///
    /// # Errors
    /// The API replies with an error, or no planner answers.
    pub fn request_record(&self, subject: &str, payload: Vec<u8>) -> Result<JobRecord, CommandError> {
        to_record(self.request(subject, payload))
    }

    /// Submits an envelope on a submitter's subject. While NATS elects a leader or planners
    /// restart, the API answers 503 and the submission is retried; it is idempotent, because the
    /// same envelope under the same id is the same job.
    ///
    /// # Errors
    /// See [`ClientConnection::request_record`].
    pub fn submit(&self, subject: &str, envelope: &[u8]) -> Result<JobRecord, CommandError> {
        let start = Instant::now();
        loop {
            match self.request(subject, envelope.to_vec()) {
                Err(BusError::Refused { status: 503, .. }) if start.elapsed() < SUBMIT_RETRY_PERIOD => {
                    self.block_on(async { sleep(SUBMIT_RETRY_PAUSE).await });
                }
                reply => return to_record(reply),
            }
        }
    }

    fn request(&self, subject: &str, payload: Vec<u8>) -> Result<Message, BusError> {
        let mut message = Message::new(subject, payload);
        trace::inject_context(&mut message.headers);
        self.block_on(self.bus.request(message, REPLY_TIMEOUT))
    }

    /// Reads the record of a job from a bucket.
    ///
    /// # Errors
    /// There is no such job, or NATS is unreachable.
    pub fn record(&self, bucket: &Bucket, job: &JobId) -> Result<JobRecord, CommandError> {
        let found =
            self.block_on(job_records::get(self.bus.as_ref(), bucket, job)).map_err(to_command_error)?;
        let found = found.ok_or_else(|| CommandError::Input(format!("job {job} does not exist")))?;
        Ok(found.record)
    }
}

fn to_record(reply: Result<Message, BusError>) -> Result<JobRecord, CommandError> {
    let record = serde_json::from_slice(&reply.map_err(to_command_error)?.payload);
    Ok(record
        .context("cannot parse the planner's reply as a job record; planner and forge versions differ")?)
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
