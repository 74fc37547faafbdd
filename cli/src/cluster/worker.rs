//! `forge worker`.

use clap::Args;
use forge_bus::{jetstream::JetStreamOptions, topology::Queue};
use forge_contract::{agent::Hardware, envelope::Target};
use forge_kernel::backend::Backend;
use forge_service::{IdentityArgs, executor::Executor, identity};
use forge_worker::WorkerSettings;

use super::{
    config::refused,
    host::{self, Host, HostArgs, Purpose},
};
use crate::{
    engine::{self, BACKENDS, Chosen},
    failure::Failure,
};

/// Start a worker: pulls shards, executes them, returns signed results
#[derive(Debug, Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    pub execution: ExecutionArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// What executes shards.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Execution")]
pub struct ExecutionArgs {
    #[arg(
        long,
        env = "FORGE_BACKEND",
        value_name = "NAME",
        default_value = "auto",
        help = format!("What executes the shards: {BACKENDS}")
    )]
    pub backend: String,
    /// Shards that are executed at once; on a GPU, batches of them [default: one for each core; two for a GPU]
    #[arg(long, env = "FORGE_THREADS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
}

impl ExecutionArgs {
    /// Calls that are executed at once on a backend.
    pub fn slots(&self, backend: &dyn Backend) -> usize {
        self.threads.map_or_else(|| engine::threads(backend), usize::from)
    }
}

/// Says why there is no GPU, where one was looked for.
pub fn note(no_gpu: Option<&str>) {
    if let Some(reason) = no_gpu {
        tracing::info!(reason, "no GPU is used here");
    }
}

/// Carries out the command.
///
/// # Errors
/// The settings cannot be used, or NATS cannot be as it is.
pub fn execute(args: &WorkerArgs) -> Result<(), Failure> {
    let Chosen { backend, no_gpu } = engine::of_worker(&args.execution.backend)?;
    let slots = args.execution.slots(backend.as_ref());
    let identity = identity::load(&args.identity).map_err(refused)?;
    let options = args.host.nats.jetstream_options("forge-worker", false, Vec::new()).map_err(refused)?;
    let target = Hardware::from_adapter(backend.adapter()).target();
    let required_queues = vec![Queue::Shards(target), Queue::Shards(Target::Any)];
    let options = JetStreamOptions { required_queues, ..options };
    let purpose =
        Purpose { name: "forge-worker", namespaces: Vec::new(), queues: Vec::new(), production: false };
    host::run_with(&args.host, purpose, options, async |host: Host| {
        note(no_gpu.as_deref());
        let executor = Executor::new(slots, None);
        let settings = WorkerSettings { executor, slots, target, lease: host.lease };
        let (agent, backend_name, adapter) = (identity.id(), backend.name(), backend.adapter());
        tracing::info!(%agent, backend = backend_name, adapter, slots, "taking shards");
        let (bus, metrics, stop) = (host.bus.clone(), host.metrics.clone(), host.stop.clone());
        host.ended(forge_worker::run(bus, backend, identity, settings, metrics, stop).await)
    })
}
