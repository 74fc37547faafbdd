//! The connection of a command to NATS.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use forge_bus::{BusError, Message, SharedBus, jetstream::JetStreamBus, topology::Bucket};
use forge_contract::{ids::JobId, job::JobRecord};
use forge_service::{NatsArgs, job_records, telemetry::trace};
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};

use crate::failure::Failure;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a submission is repeated that is stored and has no record yet, and the time between two attempts.
const CHANGE_OVER: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(300);

/// Where the services are.
#[derive(Debug, Clone, Args)]
pub struct ConnectionArgs {
    #[command(flatten)]
    nats: NatsArgs,
    /// The key-value bucket of the job's record
    #[arg(long, env = "FORGE_KV_NAMESPACE", value_name = "NAME", default_value = "jobs")]
    namespace: String,
}

/// A connection.
pub struct Connection {
    runtime: Runtime,
    /// The bus.
    pub bus: SharedBus,
    /// The bucket of job records.
    pub bucket: Bucket,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The settings cannot be used, or NATS does not answer.
    pub fn open(args: &ConnectionArgs) -> Result<Self, Failure> {
        let refused = |error: forge_service::ConfigError| Failure::Input(error.to_string());
        let options =
            args.nats.jetstream_options("forge", false, vec![args.namespace.clone()]).map_err(refused)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("no asynchronous runtime can be made")?;
        let bus = runtime.block_on(JetStreamBus::connect(options)).map_err(failed)?;
        Ok(Self { runtime, bus: bus as Arc<_>, bucket: Bucket::Jobs(args.namespace.clone()) })
    }

    /// Waits for something.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Asks the micro service, whose answers are job records.
    ///
    /// # Errors
    /// Its answer is an error, or there is none.
    pub fn ask(&self, subject: &str, payload: Vec<u8>) -> Result<JobRecord, Failure> {
        let mut message = Message::new(subject, payload);
        trace::inject_context(&mut message.headers);
        read(self.wait(self.bus.request(message, PATIENCE)))
    }

    /// Submits an envelope on a submitter's subject. While NATS or the planners are changing over, an answer is asked for again: to submit the same
    /// once more is the same job.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn submit(&self, subject: &str, envelope: &[u8]) -> Result<JobRecord, Failure> {
        let started = Instant::now();
        loop {
            let mut message = Message::new(subject, envelope.to_vec());
            trace::inject_context(&mut message.headers);
            match self.wait(self.bus.request(message, PATIENCE)) {
                Err(BusError::Refused { status: 503, .. }) if started.elapsed() < CHANGE_OVER => {
                    self.wait(async { sleep(PAUSE).await });
                }
                answered => return read(answered),
            }
        }
    }

    /// The record of a job.
    ///
    /// # Errors
    /// There is none, or NATS does not answer.
    pub fn record(&self, job: &JobId) -> Result<JobRecord, Failure> {
        let found = self.wait(job_records::get(self.bus.as_ref(), &self.bucket, job)).map_err(failed)?;
        let found = found.ok_or_else(|| Failure::Input(format!("there is no job {job}")))?;
        Ok(found.record)
    }
}

fn read(answered: Result<Message, BusError>) -> Result<JobRecord, Failure> {
    let record = serde_json::from_slice(&answered.map_err(failed)?.payload);
    Ok(record.context("the answer is no job record: planner and command are of different versions")?)
}

/// What went wrong on the bus, as the command line reports it.
pub fn failed(error: BusError) -> Failure {
    match error {
        BusError::Refused { status: 400..=499, reason } => Failure::Input(reason),
        BusError::NoResponse(_) => Failure::Other(anyhow::anyhow!(
            "no planner answers: is one running? (forge up starts all services)"
        )),
        other => Failure::Other(other.into()),
    }
}
