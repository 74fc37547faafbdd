//! What all services need around them: runtime, logs, signals, NATS, health.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use forge_bus::{
    BusError, SharedBus,
    jetstream::{JetStreamBus, JetStreamOptions},
    topology::Queue,
};
use forge_service::{
    Health, HttpArgs, Metrics, NatsArgs, TelemetryArgs, gauge_reports::report_queue_depths, http, shutdown,
    telemetry,
};
use tokio_util::sync::CancellationToken;

use super::config::{PrintArgs, refused};
use crate::failure::Failure;

/// Settings that every service has.
#[derive(Debug, Clone, Args)]
pub struct HostArgs {
    #[command(flatten)]
    pub nats: NatsArgs,
    #[command(flatten)]
    pub http: HttpArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    #[command(flatten)]
    pub print: PrintArgs,
}

/// Time between two reports of how much a queue holds.
const DEPTHS: Duration = Duration::from_secs(5);

/// What a service is given.
pub struct Host {
    /// The bus, connected.
    pub bus: SharedBus,
    /// What is counted.
    pub metrics: Metrics,
    /// The end of the process.
    pub stop: CancellationToken,
    /// How long a message is left to its receiver.
    pub lease: Duration,
    health: Health,
}

/// Who connects, and what for.
pub struct Purpose {
    /// Name of the service.
    pub name: &'static str,
    /// Buckets of job records.
    pub namespaces: Vec<String>,
    /// Queues whose depths are reported.
    pub queues: Vec<Queue>,
    /// Whether the log is to say what production would not do without.
    pub production: bool,
}

/// Runs one of the services that create the topology.
///
/// # Errors
/// Its settings cannot be used, or NATS cannot be as it is.
pub fn run<F, S>(args: &HostArgs, purpose: Purpose, serve: S) -> Result<(), Failure>
where
    S: FnOnce(Host) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let options =
        args.nats.jetstream_options(purpose.name, true, purpose.namespaces.clone()).map_err(refused)?;
    run_with(args, purpose, options, serve)
}

/// Runs a service, or several, with these options.
///
/// # Errors
/// As [`run`].
pub fn run_with<F, S>(
    args: &HostArgs,
    purpose: Purpose,
    options: JetStreamOptions,
    serve: S,
) -> Result<(), Failure>
where
    S: FnOnce(Host) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("no asynchronous runtime can be made")?;
    let ended = runtime.block_on(async {
        let _telemetry = telemetry::init(purpose.name, &args.telemetry).map_err(refused)?;
        let stop = shutdown::stop_on_signals();
        let (health, metrics) = (Health::new(), Metrics::new(purpose.name));
        http::serve(&args.http, health.clone(), metrics.clone(), stop.clone()).await.map_err(refused)?;
        let replicas = options.topology.replicas;
        let Some(nats) = connect(options, &stop).await? else { return Ok(()) };
        let bus: SharedBus = nats.clone();
        health.set_bus(bus.clone());
        if !prepare(&bus, &health, &stop).await? {
            return Ok(());
        }
        health.set_ready();
        tracing::info!(service = purpose.name, "connected");
        if purpose.production {
            tokio::spawn(async move { warn_of_loss(&nats, replicas).await });
        }
        tokio::spawn(report_queue_depths(bus.clone(), purpose.queues, DEPTHS, metrics.clone(), stop.clone()));
        let lease = Duration::from_millis(args.nats.lease_ms);
        let _alive = health.guard_loop(purpose.name);
        serve(Host { bus, metrics, stop, lease, health: health.clone() }).await
    });
    // Threads that still execute a shard are not waited for.
    runtime.shutdown_timeout(Duration::from_millis(500));
    ended
}

impl Host {
    /// Turns the end of a service into the end of the process.
    pub fn ended(&self, ended: Result<(), BusError>) -> Result<(), Failure> {
        if let Err(error) = &ended {
            self.health.set_not_ready(error.to_string());
        }
        Ok(ended.map_err(anyhow::Error::from)?)
    }
}

/// Connects; a server that is not there yet is waited for. `None` when the process is to end.
async fn connect(
    options: JetStreamOptions,
    stop: &CancellationToken,
) -> Result<Option<Arc<JetStreamBus>>, Failure> {
    loop {
        let attempt = stop.run_until_cancelled(JetStreamBus::connect(options.clone())).await;
        let error = match attempt {
            None => return Ok(None),
            Some(Ok(bus)) => return Ok(Some(bus)),
            Some(Err(error @ BusError::Unavailable(_))) => error,
            Some(Err(error)) => return Err(Failure::Input(format!("--nats-url: {error}"))),
        };
        tracing::warn!(%error, "NATS is not there yet");
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_none() {
            return Ok(None);
        }
    }
}

/// Says what a production deployment would not do without (docs/operations.md, "Durability").
async fn warn_of_loss(nats: &JetStreamBus, replicas: usize) {
    if replicas < 3 {
        tracing::warn!(
            replicas,
            "jobs that run are lost with one NATS server: for production, three servers and FORGE_REPLICAS=3"
        );
    }
    match nats.syncs_always().await {
        Some(true) => {}
        Some(false) => tracing::warn!(
            "NATS acknowledges what is not on disk yet: for production, `sync_interval: always` in its jetstream block"
        ),
        None => tracing::info!(
            "whether NATS syncs what it acknowledges cannot be seen: forge.v1.nats.jetstream is not imported"
        ),
    }
}

/// Brings the topology into line, or waits, where that is not ours to do, until somebody has: before that no work can be taken.
/// False when the process is to end.
async fn prepare(bus: &SharedBus, health: &Health, stop: &CancellationToken) -> Result<bool, Failure> {
    let mut said = String::new();
    loop {
        let error = match stop.run_until_cancelled(bus.prepare()).await {
            None => return Ok(false),
            Some(Ok(())) => return Ok(true),
            Some(Err(error @ (BusError::Unavailable(_) | BusError::Missing(_)))) => error.to_string(),
            Some(Err(error)) => return Err(anyhow::Error::from(error).into()),
        };
        if error != said {
            tracing::warn!(error, "streams and buckets are not there yet");
            health.set_not_ready(error.clone());
            said = error;
        }
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(500))).await.is_none() {
            return Ok(false);
        }
    }
}
