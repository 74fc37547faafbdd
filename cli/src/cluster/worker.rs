//! `forge worker`: runs a worker.

use clap::Args;
use forge_bus::{
    jetstream::JetStreamOptions,
    topology::{JobLength, Queue},
};
use forge_contract::{
    agent::Hardware,
    envelope::Target,
    ids::{InvalidPoolName, PoolName},
};
use forge_kernel::backend::Backend;
use forge_service::{IdentityArgs, executor::Executor, identity};
use forge_worker::WorkerSettings;

use super::service_host::{self, ServiceHost, ServiceHostArgs, ServiceSpec};
use crate::{
    engine::{self, BACKEND_VALUES, BackendSelection},
    error::CommandError,
};

/// Run a worker, which executes shards and returns signed results
#[derive(Debug, Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    pub execution: ExecutionArgs,
    #[command(flatten)]
    pool: PoolArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    host: ServiceHostArgs,
}

/// Options of a service that executes shards.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Execution")]
pub struct ExecutionArgs {
    #[arg(
        long,
        env = "FORGE_BACKEND",
        value_name = "NAME",
        default_value = "auto",
        help = format!("Backend that executes shards: {BACKEND_VALUES}")
    )]
    pub backend: String,
    /// Number of shards executed concurrently; on a GPU, of batches of shards [default: one per
    /// core, or two for a GPU]
    #[arg(long, env = "FORGE_THREADS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
}

impl ExecutionArgs {
    /// Number of concurrent calls on a backend.
    pub fn slots(&self, backend: &dyn Backend) -> usize {
        self.threads.map_or_else(|| engine::default_threads(backend), usize::from)
    }
}

/// The option that names a worker's pool.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Execution")]
pub struct PoolArgs {
    /// Pool under which the worker publishes results, as its NATS credential permits; workers of
    /// one owner share a pool, and a wrong result casts doubt on the whole pool
    #[arg(
        long,
        env = "FORGE_POOL",
        value_name = "NAME",
        default_value_t = PoolName::default(),
        value_parser = parse_worker_pool
    )]
    pub pool: PoolName,
}

/// Parses the name of a pool that workers may use: any but that of verifiers.
///
/// # Errors
/// The reason why the text is no such name, for people.
pub fn parse_worker_pool(text: &str) -> Result<PoolName, String> {
    let pool: PoolName = text.parse().map_err(|error: InvalidPoolName| error.to_string())?;
    if pool == PoolName::verifiers() {
        return Err(format!("the name {pool} is reserved for verifiers"));
    }
    Ok(pool)
}

/// Logs why no GPU is used, if one was looked for.
pub fn log_gpu_unavailable(reason: Option<&str>) {
    if let Some(reason) = reason {
        tracing::info!(reason, "no GPU is used; executing on the CPU");
    }
}

/// Runs the command.
///
/// # Errors
/// A setting cannot be used, NATS refuses access, or the worker failed.
pub fn execute(args: &WorkerArgs) -> Result<(), CommandError> {
    let BackendSelection { backend, gpu_unavailable } = engine::select_for_worker(&args.execution.backend)?;
    let slots = args.execution.slots(backend.as_ref());
    let identity = identity::load(&args.identity)?;
    let target = Hardware::from_adapter(backend.adapter()).target();
    let queues = [target, Target::Any].into_iter();
    let required_queues =
        queues.flat_map(|target| JobLength::ALL.map(|length| Queue::Shards(target, length))).collect();
    let options = JetStreamOptions { required_queues, ..args.host.nats.jetstream_options("forge-worker")? };
    let spec = ServiceSpec {
        name: "forge-worker",
        namespaces: Vec::new(),
        queues: Vec::new(),
        warns_about_durability: false,
    };
    service_host::run_with(&args.host, spec, options, async |host: ServiceHost| {
        host.set_ready();
        log_gpu_unavailable(gpu_unavailable.as_deref());
        let pool = args.pool.pool.clone();
        tracing::info!(%pool, agent = %identity.id(), backend = backend.name(), adapter = backend.adapter(), slots, "taking shards");
        let settings = WorkerSettings {
            executor: Executor::new(slots, None),
            slots,
            target,
            accepts_any_target: true,
            lease: host.lease,
            pool,
        };
        let (bus, metrics, stop) = (host.bus.clone(), host.metrics.clone(), host.stop.clone());
        host.finish(forge_worker::run(bus, backend, identity, settings, metrics, stop).await)
    })
}
