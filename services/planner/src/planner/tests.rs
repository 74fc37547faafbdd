//! The whole planner on the in-process bus, in tokio's paused time.

use forge_bus::{
    Bus, MemoryBus, Message,
    topology::{self, SUBMIT_SUBJECT},
};
use forge_contract::{
    agent::Identity,
    canonical::to_canonical_json,
    envelope::Target,
    error::FailureCode,
    ids::JobId,
    job::{JobRecord, JobState},
    task::{AggregatorOrder, EndOrder},
};
use forge_kernel::backend::{Backend, scalar::Scalar};
use forge_service::{
    job_records,
    registry::{self, AgentCapacity, Role},
};
use tokio::{task::JoinHandle, time::sleep};

use super::*;
use crate::test_fixture::{alice, fail_job, job_quota, memory_bus, settings, submission};

type PlannerTask = JoinHandle<Result<(), BusError>>;

fn start(bus: &Arc<MemoryBus>, stop: &CancellationToken) -> PlannerTask {
    let (bus, metrics) = (bus.clone(), Metrics::new("test"));
    tokio::spawn(run(bus, PlannerSettings::default(), metrics, stop.clone()))
}

/// The next order to end a job.
async fn next_end_order(bus: &dyn Bus) -> EndOrder {
    let mut orders = bus.open_queue(Queue::End).await.unwrap();
    let delivery = orders.fetch(1).await.unwrap().remove(0);
    match serde_json::from_slice(&delivery.message.payload).unwrap() {
        AggregatorOrder::End(order) => order,
        other => panic!("expected an end order, found {other:?}"),
    }
}

/// A planner, a live worker on a CPU, and job `waits` of two shards for a GPU, which no live agent
/// can execute.
struct RunningPlanner {
    bus: Arc<MemoryBus>,
    stop: CancellationToken,
    planner: PlannerTask,
}

impl RunningPlanner {
    async fn start(timeout_ms: u64) -> Self {
        let (bus, stop) = (memory_bus().await, CancellationToken::new());
        let capacity = AgentCapacity::new(&[Arc::new(Scalar) as Arc<dyn Backend>], 1);
        let agent = registry::agent_record(&Identity::from_random([1; 32]), Target::Cpu, capacity, 1);
        registry::register(bus.clone(), Role::Worker, agent, stop.clone()).await.unwrap();
        let planner = start(&bus, &stop);
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

    /// Dispatched shards for GPUs, for other targets, and for verifiers.
    async fn dispatched(&self) -> (u64, u64, u64) {
        let backlog = async |queue| self.bus.backlog(queue).await.unwrap();
        let others = backlog(Queue::Shards(Target::Cpu)).await + backlog(Queue::Shards(Target::Any)).await;
        (backlog(Queue::Shards(Target::Gpu)).await, others, backlog(Queue::Verifications).await)
    }

    /// Makes the job's record terminal, as if it had ended long ago: paused time does not move the
    /// wall clock, by which the age of a record is measured.
    async fn cancel_job(&self) {
        let mut record = self.record().await;
        record.state = JobState::Cancelled;
        record.updated_at = "2020-01-01T00:00:00.000Z".to_owned();
        let json = to_canonical_json(&record).unwrap();
        self.bus.put(&Bucket::default_jobs(), record.job_id.as_str(), json.into()).await.unwrap();
    }

    /// Stops the planner; what it only holds in memory is lost.
    async fn stop_planner(&mut self) {
        self.stop.cancel();
        (&mut self.planner).await.unwrap().unwrap();
    }

    fn start_next_planner(&mut self) {
        self.stop = CancellationToken::new();
        self.planner = start(&self.bus, &self.stop);
    }
}

#[tokio::test(start_paused = true)]
async fn job_waits_for_agents_of_its_target_without_overdue_shards() {
    let mut setup = RunningPlanner::start(0).await;
    sleep(Duration::from_secs(6 * 3600)).await;
    assert_eq!(setup.record().await.state, JobState::Planned);
    assert_eq!(setup.dispatched().await, (2, 0, 0));
    setup.cancel_job().await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(setup.dispatched().await, (0, 0, 0));
    assert_eq!(setup.bus.backlog(Queue::Jobs).await.unwrap(), 0);
    setup.stop_planner().await;
}

#[tokio::test(start_paused = true)]
async fn job_that_waits_for_agents_fails_at_its_deadline() {
    let mut setup = RunningPlanner::start(20_000).await;
    sleep(Duration::from_secs(25)).await;
    assert_eq!(next_end_order(setup.bus.as_ref()).await.code, FailureCode::Timeout);
    setup.stop_planner().await;
}

#[tokio::test(start_paused = true)]
async fn next_planner_purges_a_job_that_ended_without_its_planner() {
    let mut setup = RunningPlanner::start(0).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.dispatched().await, (2, 0, 0));
    setup.stop_planner().await;
    setup.cancel_job().await;
    setup.start_next_planner();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(setup.dispatched().await, (0, 0, 0));
    assert_eq!(setup.bus.backlog(Queue::Jobs).await.unwrap(), 0);
    setup.stop_planner().await;
}

#[tokio::test(start_paused = true)]
async fn next_planner_purges_a_job_whose_planner_stopped_before_its_purge() {
    let mut setup = RunningPlanner::start(0).await;
    sleep(Duration::from_secs(1)).await;
    setup.cancel_job().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.dispatched().await, (2, 0, 0), "the grace period has not passed");
    setup.stop_planner().await;
    setup.start_next_planner();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(setup.dispatched().await, (0, 0, 0));
    assert_eq!(setup.bus.backlog(Queue::Jobs).await.unwrap(), 0);
    setup.stop_planner().await;
}

#[tokio::test(start_paused = true)]
async fn api_request_is_answered_once_its_quota_decision_is_known() {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    let planner = tokio::spawn(run(bus.clone(), settings(job_quota(1)), Metrics::new("test"), stop.clone()));
    sleep(Duration::from_secs(1)).await;
    let submit = async |job: &str| {
        let request = Message::new(topology::api_submit_subject(&alice()), submission(job, "test").payload);
        let response = bus.request(request, Duration::from_secs(10)).await.unwrap();
        serde_json::from_slice::<JobRecord>(&response.payload).unwrap()
    };
    let first = submit("a").await;
    assert!(!first.state.is_terminal(), "{first:?}");
    let aggregator = tokio::spawn({
        let bus = bus.clone();
        async move {
            let order = next_end_order(bus.as_ref()).await;
            sleep(Duration::from_secs(2)).await;
            fail_job(bus.as_ref(), &order.job_id, order.code, &order.message).await;
        }
    });
    let second = submit("b").await;
    assert_eq!((second.state, second.error.unwrap().code), (JobState::Failed, FailureCode::QuotaExceeded));
    aggregator.await.unwrap();
    assert_eq!(submit("a").await.submitter, alice());
    stop.cancel();
    planner.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn dead_letter_ends_its_job() {
    let mut setup = RunningPlanner::start(0).await;
    sleep(Duration::from_secs(1)).await;
    let mut shards = setup.bus.open_queue(Queue::Shards(Target::Gpu)).await.unwrap();
    // A worker receives each of the two shards as often as it may, without returning a result.
    let mut deliveries = 0;
    while deliveries < 2 * topology::MAX_SHARD_DELIVERIES {
        for delivery in shards.fetch(2).await.unwrap() {
            delivery.lease.retry(Duration::ZERO).await;
            deliveries += 1;
        }
    }
    let order = next_end_order(setup.bus.as_ref()).await;
    assert_eq!((order.code, order.job_id.as_str()), (FailureCode::ExecutionFailed, "waits"));
    assert!(order.message.contains("delivered 4 times"), "{}", order.message);
    setup.stop_planner().await;
}
