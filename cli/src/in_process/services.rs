//! The services of one process: a planner, an aggregator, a verifier, and a worker for every
//! thread.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use forge_aggregator::JobCompletion;
use forge_bus::{BusError, SharedBus};
use forge_contract::{
    agent::{Hardware, Identity},
    ids::PoolName,
};
use forge_kernel::backend::{Backend, scalar::Scalar};
use forge_service::{
    IdentityArgs, Metrics,
    executor::{Executor, ProgressCallback},
    identity,
};
use tokio::{
    sync::mpsc::UnboundedSender,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::InProcessCluster;
use crate::{
    engine::{core_count, shared_executor, verifier_backends},
    error::CommandError,
};

/// Lease of every message. Practically unlimited, because only a bug in this process could lose
/// one.
pub(super) const LEASE: Duration = Duration::from_secs(3600);
/// Time until a shard is dispatched again. Practically unlimited, for the same reason.
const SHARD_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Maximum time the planner waits for the workers, which start at the same moment.
const AGENTS_WAIT: Duration = Duration::from_secs(10);
/// Maximum time to wait for the services to stop.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(2);

/// A service ended without being asked to.
pub(super) enum ServiceExit {
    /// The planner, the aggregator or the verifier ended, for this reason.
    Core(CommandError),
    /// The last worker ended. Reported once.
    AllWorkers,
}

/// The running services.
pub(super) struct InProcessServices {
    stop: CancellationToken,
    /// Planner, aggregator and verifier, none of which ends on its own.
    core: JoinSet<Result<(), BusError>>,
    /// Workers. A quarantined worker ends on its own.
    workers: JoinSet<Result<(), BusError>>,
}

impl InProcessServices {
    /// Starts all services. The aggregator sends the completed job to `completed`.
    pub(super) fn start(
        bus: &SharedBus,
        cluster: InProcessCluster,
        namespace: String,
        completed: UnboundedSender<JobCompletion>,
        advance: ProgressCallback,
    ) -> Result<Self, CommandError> {
        let InProcessCluster { backend, threads, store, models, max_kept_bytes } = cluster;
        let mut services =
            Self { stop: CancellationToken::new(), core: JoinSet::new(), workers: JoinSet::new() };
        let executor = shared_executor(backend.as_ref(), threads, Some(advance));
        let (metrics, stop) = (Metrics::new("forge"), services.stop.clone());
        for _ in 0..threads {
            services.spawn_worker(bus, &backend, executor.clone(), metrics.clone())?;
        }
        let core = &mut services.core;
        let aggregator = forge_aggregator::AggregatorSettings {
            // Fail at once: the user of this command has to free or reconnect the disk.
            store_patience: Duration::ZERO,
            namespaces: vec![namespace.clone()],
            lease: LEASE,
            models: Arc::clone(&models),
            max_kept_bytes,
            job_memory: u64::MAX,
            completions: Some(completed),
            // All threads are in one pool, and one bad core must not end the job.
            pool_quarantine_after: 0,
            // A directory holds what the user's earlier runs stored.
            keeps_earlier_runs: true,
            ..forge_aggregator::AggregatorSettings::default()
        };
        let identity = ephemeral_identity()?;
        core.spawn(forge_aggregator::run(
            bus.clone(),
            store,
            identity,
            aggregator,
            metrics.clone(),
            stop.clone(),
        ));
        let verifier = forge_verifier::VerifierSettings {
            executor,
            slots: threads.max(core_count()),
            lease: LEASE,
            reference: Arc::new(Scalar),
        };
        // The workers' own backend is left out: if it fails or is wrong, verification must not fail
        // with it.
        let backends = verifier_backends(&backend).split_off(1);
        let identity = ephemeral_identity()?;
        core.spawn(forge_verifier::run(
            bus.clone(),
            backends,
            identity,
            verifier,
            metrics.clone(),
            stop.clone(),
        ));
        let planner = forge_planner::PlannerSettings {
            agent_wait: AGENTS_WAIT,
            shard_patience: SHARD_PATIENCE,
            namespaces: vec![namespace],
            lease: LEASE,
            job_memory: u64::MAX,
            models,
            ..forge_planner::PlannerSettings::default()
        };
        core.spawn(forge_planner::run(bus.clone(), planner, metrics, stop));
        Ok(services)
    }

    /// Starts a worker that executes one shard at a time.
    fn spawn_worker(
        &mut self,
        bus: &SharedBus,
        backend: &Arc<dyn Backend>,
        executor: Executor,
        metrics: Metrics,
    ) -> Result<(), CommandError> {
        let target = Hardware::from_adapter(backend.adapter()).target();
        let settings = forge_worker::WorkerSettings {
            executor,
            slots: 1,
            target,
            accepts_any_target: true,
            lease: LEASE,
            pool: PoolName::default(),
        };
        let (bus, backend, identity) = (bus.clone(), Arc::clone(backend), ephemeral_identity()?);
        self.workers.spawn(forge_worker::run(bus, backend, identity, settings, metrics, self.stop.clone()));
        Ok(())
    }

    /// Waits until a service ends that should still be running.
    pub(super) async fn next_exit(&mut self) -> ServiceExit {
        loop {
            tokio::select! {
                Some(result) = self.core.join_next() => {
                    let reason = exit_reason(result).context("a service of this process ended unexpectedly");
                    return ServiceExit::Core(CommandError::Other(reason));
                }
                Some(_) = self.workers.join_next() => if self.workers.is_empty() {
                    return ServiceExit::AllWorkers;
                },
                else => std::future::pending().await,
            }
        }
    }

    /// Stops all services and waits up to [`SHUTDOWN_GRACE_PERIOD`] for them.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        let all_ended = async {
            while self.core.join_next().await.is_some() {}
            while self.workers.join_next().await.is_some() {}
        };
        // A shard that is still executing afterwards ends with the process.
        let _ = timeout(SHUTDOWN_GRACE_PERIOD, all_ended).await;
    }
}

fn exit_reason(result: Result<Result<(), BusError>, JoinError>) -> anyhow::Error {
    match result {
        Ok(Ok(())) => anyhow!("it returned no error"),
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    }
}

/// A new identity that exists only in this process.
fn ephemeral_identity() -> Result<Identity, CommandError> {
    identity::load(&IdentityArgs::default()).map_err(|error| CommandError::Other(error.into()))
}
