//! `forge worker`.

use std::sync::Arc;

use clap::Args;
use forge_bus::{jetstream::Options, topology::Queue};
use forge_contract::envelope::Target;
use forge_kernel::execute::Backend;
use forge_service::{IdentityArgs, executor::Executor, identity};
use forge_worker::Settings;

use super::{
    config::refused,
    host::{self, Host, HostArgs, Purpose},
};
use crate::{engine, failure::Failure};

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
    /// What executes the shards: auto, simd, scalar, or a SIMD level by name, such as simd-avx2
    #[arg(long, env = "FORGE_BACKEND", value_name = "NAME", default_value = "auto")]
    pub backend: String,
    /// Shards that are executed at once [default: one for each core]
    #[arg(long, env = "FORGE_THREADS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
}

impl ExecutionArgs {
    /// The backend.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn backend(&self) -> Result<Arc<dyn Backend>, Failure> {
        Ok(engine::named(&self.backend)?.into())
    }

    /// Shards that are executed at once.
    pub fn slots(&self) -> usize {
        self.threads.map_or_else(engine::cores, usize::from)
    }
}

/// Carries out the command.
///
/// # Errors
/// The settings cannot be used, or NATS cannot be as it is.
pub fn execute(args: &WorkerArgs) -> Result<(), Failure> {
    let backend = args.execution.backend()?;
    let slots = args.execution.slots();
    let identity = identity::load(&args.identity).map_err(refused)?;
    let options = args.host.nats.options("forge-worker", false, Vec::new()).map_err(refused)?;
    let binds = vec![Queue::Shards(Target::Cpu), Queue::Shards(Target::Any)];
    let options = Options { binds, ..options };
    let purpose = Purpose { name: "forge-worker", manage: false, namespaces: Vec::new(), queues: Vec::new() };
    host::run_with(&args.host, purpose, options, async |host: Host| {
        let executor = Executor::new(slots, None);
        let settings = Settings { executor, slots, target: Target::Cpu, lease: host.lease };
        tracing::info!(agent = %identity.id(), backend = backend.name(), slots, "taking shards");
        let (bus, metrics, stop) = (host.bus.clone(), host.metrics.clone(), host.stop.clone());
        host.ended(forge_worker::run(bus, backend, identity, settings, metrics, stop).await)
    })
}
