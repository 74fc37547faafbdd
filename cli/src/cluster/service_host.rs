//! The surroundings that every service runs in: runtime, logs and traces, signals, NATS, health and
//! metrics. It prepares the topology before the service starts, which reports when it is ready.

use std::{sync::Arc, time::Duration};

use clap::Args;
use forge_bus::{
    BusError, SharedBus,
    jetstream::{JetStreamBus, JetStreamOptions},
    retry::RetryPolicy,
    topology::Queue,
};
use forge_service::{
    ConfigError, Health, HttpArgs, Metrics, NatsArgs, TelemetryArgs, TopologyArgs, http,
    metric_reports::report_bus, shutdown, telemetry, topology_watch::watch_topology,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::settings::PrintConfigArgs;
use crate::{error::CommandError, runtime};

/// Interval between two updates of the metrics about queues.
const BUS_REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Between the attempts to connect to NATS, and to prepare the topology.
const START_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(250), Duration::from_secs(2));
/// Maximum wait for threads that still execute shards when the process ends.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_millis(500);
/// Streams with fewer replicas lose data with one server.
const DURABLE_REPLICAS: usize = 3;

/// Options of every service.
#[derive(Debug, Clone, Args)]
pub struct ServiceHostArgs {
    #[command(flatten)]
    pub nats: NatsArgs,
    #[command(flatten)]
    pub topology: TopologyArgs,
    #[command(flatten)]
    pub http: HttpArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    #[command(flatten)]
    pub print: PrintConfigArgs,
}

impl ServiceHostArgs {
    /// Connection options of a service that creates missing streams and buckets, among them a
    /// bucket of job records per namespace.
    ///
    /// # Errors
    /// See [`NatsArgs::jetstream_options`].
    pub fn topology_options(
        &self,
        name: &str,
        kv_namespaces: Vec<String>,
    ) -> Result<JetStreamOptions, ConfigError> {
        Ok(JetStreamOptions {
            topology: self.topology.settings(),
            kv_namespaces,
            manage_topology: true,
            ..self.nats.jetstream_options(name)?
        })
    }
}

/// What a service runs with.
pub struct ServiceHost {
    /// The connected bus, with the topology prepared.
    pub bus: SharedBus,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// Cancelled when the process is asked to stop.
    pub stop: CancellationToken,
    /// Lease of a message: how long it stays with its receiver without a sign of life.
    pub lease: Duration,
    name: &'static str,
    health: Health,
}

/// What a service needs from its host.
pub struct ServiceSpec {
    /// Name in logs, metrics and NATS connections.
    pub name: &'static str,
    /// Buckets of job records.
    pub namespaces: Vec<String>,
    /// Queues whose depths the service reports as metrics.
    pub queues: Vec<Queue>,
    /// Whether to log warnings about NATS settings that are unsuitable for production.
    pub warns_about_durability: bool,
}

/// Runs a service that creates missing parts of the topology.
///
/// # Errors
/// A setting cannot be used, NATS refuses the connection, or the service failed.
pub fn run<F, S>(args: &ServiceHostArgs, spec: ServiceSpec, serve: S) -> Result<(), CommandError>
where
    S: FnOnce(ServiceHost) -> F,
    F: Future<Output = Result<(), CommandError>>,
{
    let options = args.topology_options(spec.name, spec.namespaces.clone())?;
    run_with(args, spec, options, serve)
}

/// Runs a service, or several, with these connection options.
///
/// # Errors
/// See [`run`].
pub fn run_with<F, S>(
    args: &ServiceHostArgs,
    spec: ServiceSpec,
    options: JetStreamOptions,
    serve: S,
) -> Result<(), CommandError>
where
    S: FnOnce(ServiceHost) -> F,
    F: Future<Output = Result<(), CommandError>>,
{
    let runtime = runtime::all_cores()?;
    let result = runtime.block_on(async {
        let _telemetry = telemetry::init(spec.name, &args.telemetry)?;
        let stop = shutdown::stop_on_signals();
        let (health, metrics) = (Health::new(), Metrics::new(spec.name));
        http::serve(&args.http, health.clone(), metrics.clone(), stop.clone()).await?;
        let replicas = options.topology.replicas;
        let watched_queue = *options.required_queues.first().unwrap_or(&Queue::Jobs);
        let Some(nats) = connect(options, &stop).await? else { return Ok(()) };
        let bus: SharedBus = nats.clone();
        health.set_bus(bus.clone());
        if !prepare_topology(&bus, &health, &stop).await? {
            return Ok(());
        }
        if spec.warns_about_durability {
            tokio::spawn(async move { warn_about_durability(&nats, replicas).await });
        }
        tokio::spawn(watch_topology(bus.clone(), watched_queue, health.clone(), stop.clone()));
        tokio::spawn(report_bus(
            bus.clone(),
            spec.queues,
            BUS_REPORT_INTERVAL,
            metrics.clone(),
            stop.clone(),
        ));
        let lease = Duration::from_millis(args.topology.lease_ms);
        let _alive = health.guard_loop(spec.name);
        serve(ServiceHost { bus, metrics, stop, lease, name: spec.name, health: health.clone() }).await
    });
    runtime.shutdown_timeout(SHUTDOWN_GRACE_PERIOD);
    result
}

impl ServiceHost {
    /// Reports the service ready to take work.
    pub fn set_ready(&self) {
        report_ready(self.name, &self.health);
    }

    /// Reports the service ready once it answers requests. Work from queues waits for a service
    /// that is not there yet; a request is lost.
    pub fn set_ready_when(&self, answering: Arc<Notify>) {
        let (name, health) = (self.name, self.health.clone());
        tokio::spawn(async move {
            answering.notified().await;
            report_ready(name, &health);
        });
    }

    /// Turns the result of a service into that of the process. After an error the health endpoint
    /// reports it until the process has ended.
    pub fn finish(&self, result: Result<(), BusError>) -> Result<(), CommandError> {
        if let Err(error) = &result {
            self.health.set_not_ready(error.to_string());
        }
        Ok(result.map_err(anyhow::Error::from)?)
    }
}

fn report_ready(service: &str, health: &Health) {
    health.set_ready();
    tracing::info!(service, "connected to NATS; the service is ready");
}

/// Connects to NATS, and retries for as long as no server responds. `None` if the process is to
/// stop.
async fn connect(
    options: JetStreamOptions,
    stop: &CancellationToken,
) -> Result<Option<Arc<JetStreamBus>>, CommandError> {
    let mut failures = 0;
    loop {
        let attempt = stop.run_until_cancelled(JetStreamBus::connect(options.clone())).await;
        let error = match attempt {
            None => return Ok(None),
            Some(Ok(bus)) => return Ok(Some(bus)),
            Some(Err(error @ BusError::Unavailable(_))) => error,
            Some(Err(error)) => return Err(CommandError::Input(format!("--nats-url: {error}"))),
        };
        failures += 1;
        let delay = START_POLICY.delay(failures);
        tracing::warn!(%error, ?delay, "connecting to NATS failed; retrying");
        if stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
            return Ok(None);
        }
    }
}

/// Logs warnings about settings of NATS under which data can be lost (docs/operations.md,
/// "Durability").
async fn warn_about_durability(nats: &JetStreamBus, replicas: usize) {
    if replicas < DURABLE_REPLICAS {
        tracing::warn!(
            replicas,
            "running jobs are lost if a NATS server is lost; in production use three servers and FORGE_REPLICAS=3"
        );
    }
    match nats.syncs_always().await {
        Some(true) => {}
        Some(false) => tracing::warn!(
            "NATS acknowledges messages before they are on disk; in production set `sync_interval: always` in its \
             jetstream block"
        ),
        None => tracing::info!(
            "cannot determine whether NATS syncs messages before it acknowledges them: this account does not import \
             forge.v1.nats.jetstream"
        ),
    }
}

/// Prepares the topology, and retries until it is complete: a service that may not create a missing
/// stream or bucket waits here until another service has. Returns false if the process is to stop.
async fn prepare_topology(
    bus: &SharedBus,
    health: &Health,
    stop: &CancellationToken,
) -> Result<bool, CommandError> {
    let (mut last_error, mut failures) = (String::new(), 0);
    loop {
        let error = match stop.run_until_cancelled(bus.prepare()).await {
            None => return Ok(false),
            Some(Ok(())) => return Ok(true),
            Some(Err(error @ (BusError::Unavailable(_) | BusError::Missing(_)))) => error.to_string(),
            Some(Err(error)) => return Err(anyhow::Error::from(error).into()),
        };
        if error != last_error {
            tracing::warn!(error, "preparing streams and buckets failed; retrying until they exist");
            health.set_not_ready(error.clone());
            last_error = error;
        }
        failures += 1;
        if stop.run_until_cancelled(tokio::time::sleep(START_POLICY.delay(failures))).await.is_none() {
            return Ok(false);
        }
    }
}
