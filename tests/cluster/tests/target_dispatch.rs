//! Shards go to workers of their target: a planner, a CPU worker and a worker on a fake GPU share
//! an in-process bus. The test plays the aggregator, and accepts every result.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use forge_bus::{
    Bus, Message, SharedBus,
    memory::MemoryBus,
    topology::{self, Bucket, SUBMIT_SUBJECT, Stream, TopologySettings},
};
use forge_contract::{
    agent::{Hardware, Identity},
    ids::{JobUid, PoolName},
    job::JobRecord,
    program::Program,
    shard::Shard,
    shard_result::ShardResult,
    task::ShardOutcome,
};
use forge_kernel::backend::{Backend, ExecutionControl, ExecutionError, scalar::Scalar};
use forge_service::{Metrics, executor::Executor, shard_messages};
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(30);
const SHARDS: usize = 24;

/// The scalar reference with an adapter name. It is slow, so that the CPU worker gets shards as
/// well.
struct FakeGpu;

impl Backend for FakeGpu {
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

/// Backend and adapter that a result's attestation names.
type AttestedHardware = (String, Option<String>);

/// A planner, and workers added by the test.
struct InProcessServices {
    bus: Arc<MemoryBus>,
    stop: CancellationToken,
    started: Vec<tokio::task::JoinHandle<Result<(), forge_bus::BusError>>>,
}

impl InProcessServices {
    async fn new() -> Self {
        let bus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let stop = CancellationToken::new();
        let shared: SharedBus = bus.clone();
        let settings = forge_planner::PlannerSettings::default();
        let planner = forge_planner::run(shared, settings, Metrics::new("test"), stop.clone());
        Self { bus, stop, started: vec![tokio::spawn(planner)] }
    }

    fn start_worker(&mut self, backend: Arc<dyn Backend>) {
        let target = Hardware::from_adapter(backend.adapter()).target();
        let identity = Identity::from_random([self.started.len() as u8; 32]);
        let settings = forge_worker::WorkerSettings {
            executor: Executor::new(1, None),
            slots: 1,
            target,
            accepts_any_target: true,
            lease: LEASE,
            pool: PoolName::default(),
        };
        let (bus, stop) = (self.bus.clone(), self.stop.clone());
        let worker = forge_worker::run(bus, backend, identity, settings, Metrics::new("test"), stop);
        self.started.push(tokio::spawn(worker));
    }

    /// Submits a job for a target, and returns its uid once it has been planned.
    async fn submit(&self, target: &str) -> JobUid {
        let job = format!("for-{target}");
        let envelope = json!({"ctx": {"job_id": job},
            "op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "policy": {"target": target},
            "args": {"iterations": SHARDS * 65_536, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}});
        self.bus.publish(Message::new(SUBMIT_SUBJECT, envelope.to_string()), target).await.unwrap();
        let mut records = self.bus.watch(&Bucket::default_jobs(), &job).await.unwrap();
        let entry = records.next().await.unwrap();
        serde_json::from_slice::<JobRecord>(&entry.value.unwrap()).unwrap().uid
    }

    /// The hardware that executed a job's shards; `None` if not all results arrive within the
    /// limit. Accepts every result.
    async fn executing_hardware(&self, job: JobUid, limit: Duration) -> Option<BTreeSet<AttestedHardware>> {
        let results = self.bus.replay(Stream::Results, vec![topology::results_filter(job)]).await.unwrap();
        let hardware = results.then(async |stored| {
            let (attestation, _) = shard_messages::parse_result(&stored.message.payload).unwrap();
            let statement = attestation.statement;
            let (shard_id, task_id) = (statement.shard_id, statement.task_id);
            let accepted =
                ShardOutcome::Accepted { shard_id, task_id, wall_us: attestation.wall_us, result_bytes: 1 };
            let (message, id) = shard_messages::build_outcomes(job, vec![accepted]);
            self.bus.publish(message, &id).await.unwrap();
            (statement.backend, statement.adapter)
        });
        let all = timeout(limit, hardware.take(SHARDS).collect::<Vec<_>>()).await;
        all.ok().map(|all| all.into_iter().collect())
    }

    async fn stop(self) {
        self.stop.cancel();
        for service in self.started {
            service.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn job_is_executed_only_by_agents_of_its_target() {
    let mut services = InProcessServices::new().await;
    services.start_worker(Arc::new(Scalar));
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(700));
    let hardware_of =
        |backend: &dyn Backend| (backend.name().to_owned(), backend.adapter().map(str::to_owned));
    let (cpu, gpu) = (hardware_of(&Scalar), hardware_of(&FakeGpu));

    // Without a GPU worker the GPU job waits, and does not block jobs for the CPU.
    let waiting_job = services.submit("gpu").await;
    let job = services.submit("cpu").await;
    assert_eq!(services.executing_hardware(job, long).await, Some(BTreeSet::from([cpu.clone()])));
    assert_eq!(services.executing_hardware(waiting_job, short).await, None);

    services.start_worker(Arc::new(FakeGpu));
    assert_eq!(services.executing_hardware(waiting_job, long).await, Some(BTreeSet::from([gpu.clone()])));
    let job = services.submit("any").await;
    assert_eq!(services.executing_hardware(job, long).await, Some(BTreeSet::from([cpu, gpu])));
    services.stop().await;
}
