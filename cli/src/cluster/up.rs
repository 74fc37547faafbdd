//! `forge up`: all services in one process, for development.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use forge_bus::topology::Queue;
use forge_contract::agent::Hardware;
use forge_service::identity;

use super::{
    aggregator::AggregatorTuning,
    config::{NamespaceArgs, StoreArgs, refused},
    host::{self, Host, HostArgs, Purpose},
    nats_server::NatsServer,
    planner::PlannerTuning,
    worker::{self, ExecutionArgs},
};
use crate::{
    engine::{self, Chosen},
    failure::Failure,
    output,
};

/// Start planner, worker, verifier and aggregator in one process, for development
///
/// Without --nats-url (or FORGE_NATS_URL), a nats-server of the PATH is started on loopback, with its data in --data.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Directory for the data of the nats-server that is started
    #[arg(long, env = "FORGE_DATA", value_name = "DIR", default_value = ".forge/nats")]
    data: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    execution: ExecutionArgs,
    #[command(flatten)]
    planner: PlannerTuning,
    #[command(flatten)]
    aggregator: AggregatorTuning,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Carries out the command; `own_server` when no server was named.
///
/// # Errors
/// The settings cannot be used, or NATS or the store cannot be as they are.
pub fn execute(args: &UpArgs, own_server: bool) -> Result<(), Failure> {
    let Chosen { backend, no_gpu } = engine::of_worker(&args.execution.backend)?;
    let slots = args.execution.slots(backend.as_ref());
    let namespaces = args.namespaces.names().map_err(refused)?;
    let quotas = args.planner.quotas().map_err(refused)?;
    let mut options =
        args.host.nats.jetstream_options("forge-up", true, namespaces.clone()).map_err(refused)?;
    let server = own_server.then(|| NatsServer::start(&args.data, 4222)).transpose()?;
    if let Some(server) = &server {
        options.urls = vec![server.url.clone()];
        output::note(&format!("nats-server listens on {}: export FORGE_NATS_URL={0}", server.url));
    }
    let purpose = Purpose {
        name: "forge-up",
        namespaces: namespaces.clone(),
        queues: Queue::ALL.to_vec(),
        production: false,
    };
    host::run_with(&args.host, purpose, options, async |host: Host| {
        worker::note(no_gpu.as_deref());
        let Some(store) = host.stop.run_until_cancelled(args.store.open()).await else { return Ok(()) };
        let store = Arc::new(store?);
        let Host { bus, metrics, stop, lease, .. } = &host;
        let new_identity = || identity::load(&forge_service::IdentityArgs::default()).map_err(refused);
        let executor = engine::executor(backend.as_ref(), slots, None);
        let target = Hardware::from_adapter(backend.adapter()).target();
        let worker =
            forge_worker::WorkerSettings { executor: executor.clone(), slots, target, lease: *lease };
        let verifier = forge_verifier::VerifierSettings { executor, slots: engine::cores(), lease: *lease };
        let planner = args.planner.settings(namespaces.clone(), quotas, *lease);
        let aggregator = args.aggregator.settings(namespaces, *lease);
        let backends = engine::verifiers(&backend);
        let ended = tokio::try_join!(
            forge_planner::run(bus.clone(), planner, metrics.clone(), stop.clone()),
            forge_aggregator::run(
                bus.clone(),
                store,
                new_identity()?,
                aggregator,
                metrics.clone(),
                stop.clone()
            ),
            forge_verifier::run(
                bus.clone(),
                backends,
                new_identity()?,
                verifier,
                metrics.clone(),
                stop.clone()
            ),
            forge_worker::run(bus.clone(), backend, new_identity()?, worker, metrics.clone(), stop.clone()),
        );
        host.ended(ended.map(|_| ()))
    })
}
