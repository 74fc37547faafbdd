//! The services of one process: a planner, an aggregator, a verifier, and a worker for each thread.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use forge_aggregator::JobCompletion;
use forge_bus::{BusError, SharedBus};
use forge_contract::agent::{Hardware, Identity};
use forge_service::{IdentityArgs, Metrics, executor::ProgressCallback, identity};
use tokio::{
    sync::mpsc::UnboundedSender,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::Local;
use crate::{
    engine::{cores, executor, verifiers},
    failure::Failure,
};

/// How long a message is left to its receiver: nothing but a bug of this process can lose one.
pub(super) const LEASE: Duration = Duration::from_secs(3600);
/// How long a shard may take, for the same reason.
const SHARD_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How long the planner waits for the workers, which start beside it.
const AGENTS_WAIT: Duration = Duration::from_secs(10);
/// How long the end of the services is waited for.
const END: Duration = Duration::from_secs(2);

/// What ended before it was told to.
pub(super) enum Ended {
    /// The planner, the aggregator or the verifier.
    Service(Failure),
    /// The last worker; said once.
    Workers,
}

/// The services while they run.
pub(super) struct Services {
    stop: CancellationToken,
    /// Planner, aggregator and verifier: none of them ends before it is told to.
    core: JoinSet<Result<(), BusError>>,
    /// A worker ends before that when it is in quarantine.
    workers: JoinSet<Result<(), BusError>>,
}

impl Services {
    /// Starts everything; completed jobs are told to `completed`.
    pub(super) fn start(
        bus: &SharedBus,
        local: Local,
        namespace: String,
        completed: UnboundedSender<JobCompletion>,
        advance: ProgressCallback,
    ) -> Result<Self, Failure> {
        let Local { backend, threads, store, models, keep_shards } = local;
        let mut services =
            Self { stop: CancellationToken::new(), core: JoinSet::new(), workers: JoinSet::new() };
        let executor = executor(backend.as_ref(), threads, Some(advance));
        let (metrics, stop) = (Metrics::new("forge"), services.stop.clone());
        for _ in 0..threads {
            let settings = forge_worker::WorkerSettings {
                executor: executor.clone(),
                slots: 1,
                target: Hardware::from_adapter(backend.adapter()).target(),
                lease: LEASE,
            };
            let (bus, backend) = (bus.clone(), Arc::clone(&backend));
            let worker =
                forge_worker::run(bus, backend, identity()?, settings, metrics.clone(), stop.clone());
            services.workers.spawn(worker);
        }
        let aggregator = forge_aggregator::AggregatorSettings {
            // A disk that is full or away is for whoever runs this to see to.
            store_patience: Duration::ZERO,
            namespaces: vec![namespace.clone()],
            lease: LEASE,
            models: Arc::clone(&models),
            keep_shards,
            completions: Some(completed),
            ..forge_aggregator::AggregatorSettings::default()
        };
        let planner = forge_planner::PlannerSettings {
            agent_wait: AGENTS_WAIT,
            shard_patience: SHARD_PATIENCE,
            namespaces: vec![namespace],
            lease: LEASE,
            models,
            ..forge_planner::PlannerSettings::default()
        };
        let verifier =
            forge_verifier::VerifierSettings { executor, slots: threads.max(cores()), lease: LEASE };
        // Not the workers' own: where that fails or is wrong, the verifier stands in.
        let backends = verifiers(&backend).split_off(1);
        let identities = (identity()?, identity()?);
        let core = &mut services.core;
        core.spawn(forge_aggregator::run(
            bus.clone(),
            store,
            identities.0,
            aggregator,
            metrics.clone(),
            stop.clone(),
        ));
        core.spawn(forge_verifier::run(
            bus.clone(),
            backends,
            identities.1,
            verifier,
            metrics.clone(),
            stop.clone(),
        ));
        core.spawn(forge_planner::run(bus.clone(), planner, metrics, stop));
        Ok(services)
    }

    /// Returns when services have ended that should not have.
    pub(super) async fn ended(&mut self) -> Ended {
        loop {
            tokio::select! {
                Some(ended) = self.core.join_next() => {
                    let why = why(ended).context("a service of this process has ended");
                    return Ended::Service(Failure::Other(why));
                }
                Some(_) = self.workers.join_next() => if self.workers.is_empty() {
                    return Ended::Workers;
                },
                else => std::future::pending().await,
            }
        }
    }

    /// Ends all services, and waits for them a little.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        let all = async {
            while self.core.join_next().await.is_some() {}
            while self.workers.join_next().await.is_some() {}
        };
        // What is still being executed then ends with the process.
        let _ = timeout(END, all).await;
    }
}

fn why(ended: Result<Result<(), BusError>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("it says nothing about why"),
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    }
}

/// An identity that ends with the process.
fn identity() -> Result<Identity, Failure> {
    identity::load(&IdentityArgs::default()).map_err(|error| Failure::Other(error.into()))
}
