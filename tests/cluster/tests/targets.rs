//! Who executes what: a planner, a worker on a CPU and one on what stands for a GPU, on the in-process bus.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use forge_bus::{
    Bus, Message, ReplayContent, SharedBus,
    memory::MemoryBus,
    topology::{self, SUBMIT_SUBJECT, TopologySettings},
};
use forge_contract::{
    agent::{Hardware, Identity},
    ids::JobId,
    program::Program,
    shard::Shard,
    shard_result::ShardResult,
};
use forge_kernel::backend::{Backend, ExecutionControl, ExecutionError, scalar::Scalar};
use forge_service::{Metrics, executor::Executor, shard_messages};
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(30);
const SHARDS: usize = 24;

/// The reference, under the name of a card. It takes its time, so that others get something to do.
struct Card;

impl Backend for Card {
    fn name(&self) -> &str {
        "card"
    }

    fn adapter(&self) -> Option<&str> {
        Some("a card, driver 1")
    }

    fn batch_size(&self) -> usize {
        4
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        std::thread::sleep(Duration::from_millis(20) * shards.len() as u32);
        Scalar.execute(program, shards, control)
    }
}

/// A backend and its device.
type By = (String, Option<String>);

/// A planner, and workers that come when they are asked to.
struct Services {
    bus: Arc<MemoryBus>,
    stop: CancellationToken,
    started: Vec<tokio::task::JoinHandle<Result<(), forge_bus::BusError>>>,
}

impl Services {
    fn new() -> Self {
        let bus = MemoryBus::new(TopologySettings::default());
        let stop = CancellationToken::new();
        let shared: SharedBus = bus.clone();
        let settings = forge_planner::PlannerSettings::default();
        let planner = forge_planner::run(shared, settings, Metrics::new("test"), stop.clone());
        Self { bus, stop, started: vec![tokio::spawn(planner)] }
    }

    fn worker(&mut self, backend: Arc<dyn Backend>) {
        let target = Hardware::from_adapter(backend.adapter()).target();
        let identity = Identity::from_random([self.started.len() as u8; 32]);
        let settings =
            forge_worker::WorkerSettings { executor: Executor::new(1, None), slots: 1, target, lease: LEASE };
        let (bus, stop) = (self.bus.clone(), self.stop.clone());
        let worker = forge_worker::run(bus, backend, identity, settings, Metrics::new("test"), stop);
        self.started.push(tokio::spawn(worker));
    }

    /// Submits a job for a target.
    async fn submit(&self, target: &str) -> JobId {
        let envelope = json!({"ctx": {"job_id": format!("for-{target}")},
            "op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "policy": {"target": target},
            "args": {"iterations": SHARDS * 65_536, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}});
        self.bus.publish(Message::new(SUBMIT_SUBJECT, envelope.to_string()), target).await.unwrap();
        format!("for-{target}").parse().unwrap()
    }

    /// The backends of a job's results, once all are there; `None` if they do not come.
    async fn executed_by(&self, job: &JobId, patience: Duration) -> Option<BTreeSet<By>> {
        let results =
            self.bus.replay(topology::shard_message_subjects(job), ReplayContent::Headers).await.unwrap();
        let by = results.filter_map(async |stored| {
            let attestation = shard_messages::parse_attestation(&stored.message)?;
            Some((attestation.backend, attestation.adapter))
        });
        let all = timeout(patience, by.take(SHARDS).collect::<Vec<_>>()).await;
        all.ok().map(|all| all.into_iter().collect())
    }

    async fn end(self) {
        self.stop.cancel();
        for service in self.started {
            service.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_job_is_executed_by_agents_of_its_target_alone() {
    let mut services = Services::new();
    services.bus.prepare().await.unwrap();
    services.worker(Arc::new(Scalar));
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(700));
    let by = |backend: &dyn Backend| (backend.name().to_owned(), backend.adapter().map(str::to_owned));
    let (cpu, gpu) = (by(&Scalar), by(&Card));

    // Nobody has a GPU yet: its job waits, and keeps nobody from executing others.
    let waits = services.submit("gpu").await;
    let job = services.submit("cpu").await;
    assert_eq!(services.executed_by(&job, long).await, Some(BTreeSet::from([cpu.clone()])));
    assert_eq!(services.executed_by(&waits, short).await, None);

    services.worker(Arc::new(Card));
    assert_eq!(services.executed_by(&waits, long).await, Some(BTreeSet::from([gpu.clone()])));
    let job = services.submit("any").await;
    assert_eq!(services.executed_by(&job, long).await, Some(BTreeSet::from([cpu, gpu])));
    services.end().await;
}
