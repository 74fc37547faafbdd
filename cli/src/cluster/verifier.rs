//! `forge verifier`: runs a verifier.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use clap::Args;
use forge_bus::{
    jetstream::JetStreamOptions,
    topology::{JobLength, Queue},
};
use forge_kernel::backend::Backend;
use forge_service::{IdentityArgs, executor::Executor, identity};
use forge_verifier::VerifierSettings;

use super::{
    execute_shard,
    service_host::{self, ServiceHost, ServiceHostArgs, ServiceSpec},
    settings::NamespaceArgs,
    worker::{ExecutionArgs, log_gpu_unavailable},
};
use crate::{engine, error::CommandError, gpu};

/// Run a verifier, which re-executes shards and signs verdicts on workers' results
#[derive(Debug, Args)]
pub struct VerifierArgs {
    #[command(flatten)]
    execution: ExecutionArgs,
    /// How long a child process may execute a shard, or a batch of shards on a GPU, in
    /// milliseconds; it is killed then, as if it had crashed
    #[arg(
        long,
        env = "FORGE_SHARD_TIME_LIMIT_MS",
        value_name = "MILLISECONDS",
        default_value_t = execute_shard::DEFAULT_TIME_LIMIT.as_millis() as u64,
        help_heading = "Execution"
    )]
    shard_time_limit_ms: u64,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    host: ServiceHostArgs,
}

/// Backends that execute in child processes.
struct IsolatedBackends {
    /// In order of preference.
    backends: Vec<Arc<dyn Backend>>,
    /// The scalar reference.
    reference: Arc<dyn Backend>,
    /// Why no GPU is among them; `None` if none was looked for or there is one.
    gpu_unavailable: Option<String>,
}

/// Starts child processes with the backends of a verifier: the one of a name, then those of the
/// CPU. `auto` is a hardware GPU if there is one.
fn start_backends(name: &str, time_limit: Duration) -> Result<IsolatedBackends, CommandError> {
    let cpu_name = match name {
        "auto" => None,
        gpu_name if gpu::is_gpu_name(gpu_name) => None,
        cpu_name => Some(engine::open_backend(cpu_name)?.name().to_owned()),
    };
    let mut backends = execute_shard::start_cpu_pool(time_limit)?.backends();
    let reference = backends.last().cloned();
    let reference =
        reference.ok_or_else(|| CommandError::Other(anyhow!("a child process has no backend")))?;
    let mut gpu_unavailable = None;
    if let Some(cpu_name) = cpu_name {
        backends.sort_by_key(|backend| backend.name() != cpu_name);
    } else {
        match execute_shard::start_gpu_pool(name, time_limit)? {
            Ok(pool) => backends.splice(0..0, pool.backends()).for_each(drop),
            Err(failure) if name == "auto" => gpu_unavailable = Some(failure.to_string()),
            Err(failure) => return Err(CommandError::Input(format!("--backend {name}: {failure}"))),
        }
    }
    Ok(IsolatedBackends { backends, reference, gpu_unavailable })
}

/// Runs the command.
///
/// # Errors
/// A setting cannot be used, NATS refuses access, or the verifier failed.
pub fn execute(args: &VerifierArgs) -> Result<(), CommandError> {
    let time_limit = Duration::from_millis(args.shard_time_limit_ms);
    let IsolatedBackends { backends, reference, gpu_unavailable } =
        start_backends(&args.execution.backend, time_limit)?;
    let slots = args.execution.threads.map_or_else(engine::core_count, usize::from);
    let identity = identity::load(&args.identity)?;
    let spec = ServiceSpec {
        name: "forge-verifier",
        namespaces: args.namespaces.names()?,
        queues: JobLength::ALL.map(Queue::Verifications).to_vec(),
        warns_about_durability: true,
    };
    let options = args.host.topology_options(spec.name, spec.namespaces.clone())?;
    // Its NATS user may not update streams.
    let options = JetStreamOptions { decides_storage: false, ..options };
    service_host::run_with(&args.host, spec, options, async |host: ServiceHost| {
        host.set_ready();
        log_gpu_unavailable(gpu_unavailable.as_deref());
        let settings =
            VerifierSettings { executor: Executor::new(slots, None), slots, lease: host.lease, reference };
        tracing::info!(agent = %identity.id(), slots, "verifying results");
        let (bus, metrics, stop) = (host.bus.clone(), host.metrics.clone(), host.stop.clone());
        host.finish(forge_verifier::run(bus, backends, identity, settings, metrics, stop).await)
    })
}
