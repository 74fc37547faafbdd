//! `forge verifier`.

use clap::Args;
use forge_bus::topology::Queue;
use forge_service::{IdentityArgs, executor::Executor, identity};
use forge_verifier::VerifierSettings;

use super::{
    config::{NamespaceArgs, refused},
    host::{self, Host, HostArgs, Purpose},
    worker::{self, ExecutionArgs},
};
use crate::{
    engine::{self, Chosen},
    failure::Failure,
};

/// Start a verifier: executes shards a second time and judges workers' results
#[derive(Debug, Args)]
pub struct VerifierArgs {
    #[command(flatten)]
    execution: ExecutionArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Carries out the command.
///
/// # Errors
/// The settings cannot be used, or NATS cannot be as it is.
pub fn execute(args: &VerifierArgs) -> Result<(), Failure> {
    let Chosen { backend, no_gpu } = engine::of_verifier(&args.execution.backend)?;
    let backends = engine::verifiers(&backend);
    let slots = args.execution.threads.map_or_else(engine::cores, usize::from);
    let identity = identity::load(&args.identity).map_err(refused)?;
    let namespaces = args.namespaces.names().map_err(refused)?;
    let purpose =
        Purpose { name: "forge-verifier", namespaces, queues: vec![Queue::Verifications], production: true };
    host::run(&args.host, purpose, async |host: Host| {
        worker::note(no_gpu.as_deref());
        let settings = VerifierSettings { executor: Executor::new(slots, None), slots, lease: host.lease };
        tracing::info!(agent = %identity.id(), slots, "verifying");
        let (bus, metrics, stop) = (host.bus.clone(), host.metrics.clone(), host.stop.clone());
        host.ended(forge_verifier::run(bus, backends, identity, settings, metrics, stop).await)
    })
}
