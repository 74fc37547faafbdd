//! `forge verifier`: runs a verifier.

use clap::Args;
use forge_bus::topology::Queue;
use forge_service::{IdentityArgs, executor::Executor, identity};
use forge_verifier::VerifierSettings;

use super::{
    execute_shard,
    service_host::{self, ServiceHost, ServiceHostArgs, ServiceSpec},
    settings::NamespaceArgs,
    worker::{ExecutionArgs, log_gpu_unavailable},
};
use crate::{
    engine::{self, BackendSelection},
    error::CommandError,
};

/// Run a verifier, which re-executes shards and signs verdicts on workers' results
#[derive(Debug, Args)]
pub struct VerifierArgs {
    #[command(flatten)]
    execution: ExecutionArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    host: ServiceHostArgs,
}

/// Runs the command.
///
/// # Errors
/// A setting cannot be used, NATS refuses access, or the verifier failed.
pub fn execute(args: &VerifierArgs) -> Result<(), CommandError> {
    let BackendSelection { backend, gpu_unavailable } = engine::select_for_verifier(&args.execution.backend)?;
    let backends = engine::verifier_backends(&backend);
    let slots = args.execution.threads.map_or_else(engine::core_count, usize::from);
    let identity = identity::load(&args.identity)?;
    let spec = ServiceSpec {
        name: "forge-verifier",
        namespaces: args.namespaces.names()?,
        queues: vec![Queue::Verifications],
        warns_about_durability: true,
    };
    service_host::run(&args.host, spec, async |host: ServiceHost| {
        log_gpu_unavailable(gpu_unavailable.as_deref());
        let isolated = Some(execute_shard::isolated_executor(slots)?);
        let settings =
            VerifierSettings { executor: Executor::new(slots, None), slots, lease: host.lease, isolated };
        tracing::info!(agent = %identity.id(), slots, "verifying results");
        let (bus, metrics, stop) = (host.bus.clone(), host.metrics.clone(), host.stop.clone());
        host.finish(forge_verifier::run(bus, backends, identity, settings, metrics, stop).await)
    })
}
