//! A job that nobody can execute, on the in-process bus, in tokio's paused time.

use std::sync::Arc;

use forge_bus::{
    Bus, SharedBus,
    memory::MemoryBus,
    topology::{Queue, SUBMIT_SUBJECT, TopologySettings},
};
use forge_contract::{agent::Identity, envelope::Target, job::JobRecord, task::AggregatorOrder};
use forge_kernel::backend::{Backend, scalar::Scalar};
use forge_service::{
    metrics::Metrics,
    registry::{self, AgentCapacity, Role},
};
use tokio::task::JoinHandle;

use super::*;
use crate::planner::PlannerSettings;

fn start(bus: &SharedBus, stop: &CancellationToken) -> JoinHandle<Result<(), forge_bus::BusError>> {
    tokio::spawn(crate::run(bus.clone(), PlannerSettings::default(), Metrics::new("test"), stop.clone()))
}

struct Setup {
    bus: Arc<MemoryBus>,
    stop: CancellationToken,
    planner: JoinHandle<Result<(), forge_bus::BusError>>,
}

impl Setup {
    /// A planner, a live worker on a CPU, and a job of two shards for a GPU.
    async fn new(timeout_ms: u64) -> Self {
        let bus = MemoryBus::new(TopologySettings::default());
        let (shared, stop): (SharedBus, _) = (bus.clone(), CancellationToken::new());
        bus.prepare().await.unwrap();
        let means = AgentCapacity::new(&[Arc::new(Scalar) as Arc<dyn Backend>], 1);
        let agent = registry::agent_record(&Identity::from_random([1; 32]), Target::Cpu, means, 1);
        registry::register(shared.clone(), Role::Worker, agent, stop.clone()).await.unwrap();
        let planner = start(&shared, &stop);
        let envelope = format!(
            r#"{{"ctx": {{"job_id": "waits"}}, "op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}},
                 "args": {{"iterations": 100000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}},
                 "policy": {{"target": "gpu", "timeout_ms": {timeout_ms}}}}}"#
        );
        bus.publish(Message::new(SUBMIT_SUBJECT, envelope), "1").await.unwrap();
        Self { bus, stop, planner }
    }

    async fn record(&self) -> JobRecord {
        let job: JobId = "waits".parse().unwrap();
        job_records::get(self.bus.as_ref(), &Bucket::default_jobs(), &job).await.unwrap().unwrap().record
    }

    /// Messages of shards for a GPU, of shards for anybody else, and of shards for verifiers.
    async fn out(&self) -> (u64, u64, u64) {
        let backlog = async |queue| self.bus.backlog(queue).await.unwrap();
        let others = backlog(Queue::Shards(Target::Cpu)).await + backlog(Queue::Shards(Target::Any)).await;
        (backlog(Queue::Shards(Target::Gpu)).await, others, backlog(Queue::Verifications).await)
    }

    /// Somebody ends the job.
    async fn cancel(&self) {
        let job: JobId = "waits".parse().unwrap();
        let cancelled = |record: &mut JobRecord| {
            record.state = JobState::Cancelled;
            true
        };
        job_records::update(self.bus.as_ref(), &Bucket::default_jobs(), &job, cancelled).await.unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        self.planner.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_waits_for_agents_of_its_target_and_no_shard_of_it_becomes_overdue() {
    let setup = Setup::new(0).await;
    sleep(Duration::from_secs(6 * 3600)).await;
    assert_eq!(setup.record().await.state, JobState::Planned);
    assert_eq!(setup.out().await, (2, 0, 0));
    setup.cancel().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.bus.backlog(Queue::Jobs).await.unwrap(), 0);
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_agents_ends_with_its_time() {
    let setup = Setup::new(20_000).await;
    sleep(Duration::from_secs(25)).await;
    let mut orders = setup.bus.open_queue(Queue::End).await.unwrap();
    let order = orders.fetch(1).await.unwrap().remove(0).message.payload;
    match serde_json::from_slice(&order).unwrap() {
        AggregatorOrder::End(order) => assert_eq!(order.code, FailureCode::Timeout),
        other => panic!("{other:?}"),
    }
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_job_leaves_that_ended_without_its_planner_is_removed_by_the_next() {
    let mut setup = Setup::new(0).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.out().await, (2, 0, 0));
    setup.stop.cancel();
    (&mut setup.planner).await.unwrap().unwrap();
    setup.cancel().await;
    let (bus, stop) = (setup.bus, CancellationToken::new());
    let planner = start(&(bus.clone() as SharedBus), &stop);
    setup = Setup { bus, stop, planner };
    sleep(Duration::from_secs(10)).await;
    assert_eq!((setup.out().await, setup.bus.backlog(Queue::Jobs).await.unwrap()), ((0, 0, 0), 0));
    setup.end().await;
}
