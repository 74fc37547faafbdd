//! `forge up`: runs all services in one process, for development.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use forge_bus::{BusError, topology::Queue};
use forge_contract::{
    agent::{Hardware, Identity},
    envelope::Target,
};
use forge_kernel::backend::{Backend, simd::Simd};
use forge_service::{IdentityArgs, http, identity};

use super::{
    aggregator::AggregatorTuning,
    console, execute_shard,
    nats_server::LocalNatsServer,
    planner::PlannerTuning,
    service_host::{self, ServiceHost, ServiceHostArgs, ServiceSpec},
    settings::{JobMemoryArgs, NamespaceArgs},
    worker::{ExecutionArgs, PoolArgs, log_gpu_unavailable},
};
use crate::{
    engine::{self, BackendSelection},
    error::CommandError,
    local_path::local_path,
    output,
    store_args::WritableStoreArgs,
};

/// Port of the nats-server that is started, if it is free.
const PREFERRED_NATS_PORT: u16 = 4222;

/// Run planner, worker, verifier and aggregator in one process, for development
///
/// Unless --nats-url or FORGE_NATS_URL is given, starts the nats-server found in PATH on the
/// loopback interface, starts it again if it ends, and stops it on exit. FORGE_NATS_SERVER names
/// another binary. A server that a killed forge up left behind in the same data directory is ended
/// first. With the server it starts, it also serves the console, on the loopback interface.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Data directory of the nats-server that is started
    #[arg(long, env = "FORGE_DATA", value_name = "DIR", default_value = ".forge/nats", value_parser = local_path())]
    data: PathBuf,
    #[command(flatten)]
    store: WritableStoreArgs,
    #[command(flatten)]
    execution: ExecutionArgs,
    #[command(flatten)]
    pool: PoolArgs,
    #[command(flatten)]
    planner: PlannerTuning,
    #[command(flatten)]
    aggregator: AggregatorTuning,
    #[command(flatten)]
    memory: JobMemoryArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    host: ServiceHostArgs,
}

/// Runs the command; starts a nats-server if `start_nats`.
///
/// # Errors
/// A setting cannot be used, NATS or the store refuses access, or a service failed.
pub fn execute(args: &UpArgs, start_nats: bool) -> Result<(), CommandError> {
    let BackendSelection { backend, gpu_unavailable } = engine::select_for_worker(&args.execution.backend)?;
    let namespaces = args.namespaces.names()?;
    let quotas = args.planner.quotas()?;
    let mut options = args.host.topology_options("forge-up", namespaces.clone())?;
    http::check_address(&args.host.http)?;
    let server = start_nats.then(|| LocalNatsServer::start(&args.data, PREFERRED_NATS_PORT)).transpose()?;
    if let Some(LocalNatsServer { url, .. }) = &server {
        options.urls = vec![url.clone()];
        output::print_to_stderr(&format!("nats-server listens on {url}; export FORGE_NATS_URL={url}"));
    }
    let spec = ServiceSpec {
        name: "forge-up",
        namespaces: namespaces.clone(),
        queues: Queue::ALL.to_vec(),
        warns_about_durability: false,
    };
    service_host::run_with(&args.host, spec, options, async |host: ServiceHost| {
        log_gpu_unavailable(gpu_unavailable.as_deref());
        let Some(store) = host.stop.run_until_cancelled(args.store.open()).await else { return Ok(()) };
        let (store, lease) = (Arc::new(store?), host.lease);
        // With another server, the console would show anyone on this machine what the services'
        // credentials can read.
        if start_nats {
            let location = &args.store.location.store;
            let (bus, stop) = (host.bus.clone(), host.stop.clone());
            console::start_local(bus, location, &store, namespaces.clone(), stop).await;
        }
        let planner = args.planner.settings(namespaces.clone(), quotas, args.memory, lease);
        host.set_ready_when(Arc::clone(&planner.answering));
        let aggregator = forge_aggregator::AggregatorSettings {
            // `forge run` may have stored the same job in the same directory.
            keeps_earlier_runs: true,
            ..args.aggregator.settings(namespaces, args.memory, lease)
        };
        let aggregator_identity = identity::load(&IdentityArgs::default())?;
        let reference = execute_shard::start_reference(execute_shard::DEFAULT_TIME_LIMIT)?;
        let executing = run_executing_services(args, &host, backend, reference);
        let (bus, metrics, stop) = (&host.bus, &host.metrics, &host.stop);
        let planner = forge_planner::run(bus.clone(), planner, metrics.clone(), stop.clone());
        let aggregator = forge_aggregator::run(
            bus.clone(),
            store,
            aggregator_identity,
            aggregator,
            metrics.clone(),
            stop.clone(),
        );
        let result = tokio::try_join!(planner, aggregator, executing);
        host.finish(result.map(|_| ()))
    })
}

fn new_identity() -> Result<Identity, BusError> {
    identity::load(&IdentityArgs::default()).map_err(|error| BusError::Unusable(error.to_string()))
}

/// Runs the services that execute shards: a worker with `backend`, one with the CPU beside a GPU,
/// and a verifier. Worker and verifier share the executor.
async fn run_executing_services(
    args: &UpArgs,
    host: &ServiceHost,
    backend: Arc<dyn Backend>,
    reference: Arc<dyn Backend>,
) -> Result<(), BusError> {
    let (bus, metrics, stop, lease) = (&host.bus, &host.metrics, &host.stop, host.lease);
    let slots = args.execution.slots(backend.as_ref());
    let executor = engine::shared_executor(backend.as_ref(), slots, None);
    let target = Hardware::from_adapter(backend.adapter()).target();
    let worker = forge_worker::WorkerSettings {
        executor: executor.clone(),
        slots,
        target,
        accepts_any_target: true,
        lease,
        pool: args.pool.pool.clone(),
    };
    // Portfolios are not executed on GPUs. Beside one, a worker with the CPU takes them, on the
    // cores of the verifier.
    let cpu_settings = forge_worker::WorkerSettings {
        slots: engine::core_count(),
        target: Target::Cpu,
        accepts_any_target: false,
        ..worker.clone()
    };
    let cpu_worker = async {
        if target != Target::Gpu {
            return Ok(());
        }
        let (bus, metrics, stop) = (bus.clone(), metrics.clone(), stop.clone());
        forge_worker::run(bus, Arc::new(Simd::new()), new_identity()?, cpu_settings, metrics, stop).await
    };
    let verifier =
        forge_verifier::VerifierSettings { executor, slots: engine::core_count(), lease, reference };
    let verifier = forge_verifier::run(
        bus.clone(),
        engine::verifier_backends(&backend),
        new_identity()?,
        verifier,
        metrics.clone(),
        stop.clone(),
    );
    let worker =
        forge_worker::run(bus.clone(), backend, new_identity()?, worker, metrics.clone(), stop.clone());
    tokio::try_join!(verifier, worker, cpu_worker).map(|_| ())
}
