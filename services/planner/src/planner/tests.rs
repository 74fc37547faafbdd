//! The whole planner on the in-process bus, in tokio's paused time.

mod panics;
mod space;

use std::{collections::BTreeSet, sync::Mutex};

use forge_bus::{
    Bus, Delivery, MemoryBus, Message,
    testing::{BusFault, BusOperation, FaultyBus},
    topology::{self, JobLength, SUBMIT_SUBJECT},
};
use forge_contract::{
    agent::{Identity, PoolQuarantineRecord},
    canonical::to_canonical_json,
    digest::Digest,
    error::FailureCode,
    ids::{JobId, PoolName, TaskId},
    job::{JobRecord, JobState},
    protocol::parse_message,
    shard::ShardId,
    task::{AggregatorOrder, EndOrder, ShardOutcome, ShardTask},
};
use forge_kernel::backend::{Backend, scalar::Scalar};
use forge_service::{
    clock::Clock,
    job_records,
    registry::{self, AgentCapacity},
    shard_messages,
};
use tokio::{task::JoinHandle, time::Instant};

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

/// Registers a live worker for a target.
async fn register_worker(bus: &Arc<MemoryBus>, target: Target, stop: &CancellationToken) {
    let capacity = AgentCapacity::new(&[Arc::new(Scalar) as Arc<dyn Backend>], 1);
    let identity = Identity::from_random([target as u8; 32]);
    let agent = registry::agent_record(&identity, target, capacity, 1);
    let (bus, pool) = (bus.clone(), PoolName::default());
    registry::register_worker(bus, pool, agent, stop.clone()).await.unwrap();
}

/// An envelope of two shards for a target.
fn two_shards(job: &str, target: &str, timeout_ms: u64) -> String {
    format!(
        r#"{{"ctx": {{"job_id": "{job}"}}, "op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}},
             "args": {{"iterations": 100000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}},
             "policy": {{"target": "{target}", "timeout_ms": {timeout_ms}}}}}"#
    )
}

async fn submit(bus: &dyn Bus, subject: &str, envelope: String) {
    let id = format!("{:?}", Digest::hash_parts(&[envelope.as_bytes()]));
    bus.publish(Message::new(subject, envelope), &id).await.unwrap();
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
        register_worker(&bus, Target::Cpu, &stop).await;
        let planner = start(&bus, &stop);
        submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("waits", "gpu", timeout_ms)).await;
        Self { bus, stop, planner }
    }

    /// As [`Self::start`], with a worker that can execute the job's shards, but does not.
    async fn start_with_gpu() -> Self {
        let bus = memory_bus().await;
        register_worker(&bus, Target::Gpu, &CancellationToken::new()).await;
        let stop = CancellationToken::new();
        let planner = start(&bus, &stop);
        submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("waits", "gpu", 0)).await;
        Self { bus, stop, planner }
    }

    /// Receives shards for GPUs, and leaves them in flight.
    async fn receive_shards(&self, count: usize) -> Vec<(Delivery, ShardTask)> {
        let mut shards = self.bus.open_queue(Queue::Shards(Target::Gpu, JobLength::Short)).await.unwrap();
        let mut received = Vec::new();
        while received.len() < count {
            for delivery in shards.fetch(count - received.len()).await.unwrap() {
                let task = parse_message(&delivery.message.payload).unwrap();
                received.push((delivery, task));
            }
        }
        received
    }

    async fn publish_outcome(&self, outcome: ShardOutcome) {
        let uid = self.record().await.uid;
        let (message, id) = shard_messages::build_outcomes(uid, vec![outcome]);
        self.bus.publish(message, &id).await.unwrap();
    }

    async fn record(&self) -> JobRecord {
        let job: JobId = "waits".parse().unwrap();
        job_records::get(self.bus.as_ref(), &Bucket::default_jobs(), &job).await.unwrap().unwrap().record
    }

    /// Dispatched shards for GPUs, for other targets, and for verifiers.
    async fn dispatched(&self) -> (u64, u64, u64) {
        let backlog = async |queue| self.bus.backlog(queue).await.unwrap();
        let others = backlog(Queue::Shards(Target::Cpu, JobLength::Short)).await
            + backlog(Queue::Shards(Target::Any, JobLength::Short)).await;
        (
            backlog(Queue::Shards(Target::Gpu, JobLength::Short)).await,
            others,
            backlog(Queue::Verifications(JobLength::Short)).await,
        )
    }

    /// Makes the job's record terminal.
    async fn cancel_job(&self) {
        let mut record = self.record().await;
        record.state = JobState::Cancelled;
        let json = to_canonical_json(&record).unwrap();
        self.bus.put(&Bucket::default_jobs(), record.job_id.as_str(), json.into()).await.unwrap();
    }

    /// Makes the job old: paused time does not move the wall clock, by which the age of a record is
    /// measured.
    async fn make_old(&self) {
        let age = |record: &mut JobRecord| {
            record.submitted_at = "2020-01-01T00:00:00.000Z".to_owned();
            true
        };
        let job: JobId = "waits".parse().unwrap();
        job_records::update(self.bus.as_ref(), Clock::default(), &Bucket::default_jobs(), &job, age)
            .await
            .unwrap();
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
    sleep(Duration::from_secs(3600)).await;
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
    sleep(Duration::from_secs(5)).await;
    assert_eq!(setup.bus.backlog(Queue::End).await.unwrap(), 0);
    let record = setup.record().await;
    setup.make_old().await;
    sleep(Duration::from_secs(5)).await;
    let order = next_end_order(setup.bus.as_ref()).await;
    assert_eq!((order.code, order.job_uid), (FailureCode::Timeout, record.uid));
    setup.stop_planner().await;
}

/// GPUs execute no portfolios, so one for `any` waits for CPUs.
#[tokio::test(start_paused = true)]
async fn job_without_its_minimum_of_agents_names_the_hardware_that_executes_it() {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    register_worker(&bus, Target::Gpu, &stop).await;
    let settings = PlannerSettings { agent_wait: Duration::ZERO, ..PlannerSettings::default() };
    let planner = tokio::spawn(run(bus.clone(), settings, Metrics::new("test"), stop.clone()));
    let envelope = r#"{"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
        "args": {"iterations": 1000, "lines": ["motor"], "groups": [{"name": "storm",
            "count": {"poisson": 0.4},
            "strikes": [{"line": "motor", "severity": {"lognormal": {"mean": 8000, "cv": 2}}}]}]},
        "policy": {"min_agents": 1, "target": "any"}}"#;
    submit(bus.as_ref(), SUBMIT_SUBJECT, envelope.to_owned()).await;
    let order = next_end_order(bus.as_ref()).await;
    let expected = "policy.min_agents is 1, but after 0 s the number of live agents for target cpu is 0";
    assert_eq!((order.code, order.message.as_str()), (FailureCode::InsufficientAgents, expected));
    stop.cancel();
    planner.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn job_whose_only_pool_is_in_quarantine_says_so_until_its_deadline() {
    let (bus, worker) = (memory_bus().await, CancellationToken::new());
    register_worker(&bus, Target::Gpu, &worker).await;
    let quarantine = PoolQuarantineRecord {
        schema: PoolQuarantineRecord::SCHEMA.to_owned(),
        pool: PoolName::default(),
        agents: Vec::new(),
    };
    let shared: SharedBus = bus.clone();
    registry::quarantine_pool(&shared, &quarantine).await.unwrap();
    let stop = CancellationToken::new();
    let planner = start(&bus, &stop);
    submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("waits", "gpu", 20_000)).await;
    let mut setup = RunningPlanner { bus, stop, planner };
    sleep(Duration::from_secs(5)).await;
    let record = setup.record().await;
    let reason = "it needs 1 live worker for target gpu, and there are 0; in quarantine: pool default";
    assert_eq!((record.state, record.waiting.as_deref()), (JobState::Planned, Some(reason)));
    setup.make_old().await;
    sleep(Duration::from_secs(5)).await;
    let order = next_end_order(setup.bus.as_ref()).await;
    let expected = format!("within policy.timeout_ms (20000 ms); the job was waiting: {reason}");
    assert_eq!(order.code, FailureCode::Timeout);
    assert!(order.message.ends_with(&expected), "{}", order.message);
    setup.stop_planner().await;
}

#[tokio::test(start_paused = true)]
async fn record_of_a_job_says_why_it_waits_until_a_worker_comes() {
    let mut setup = RunningPlanner::start(0).await;
    sleep(Duration::from_secs(5)).await;
    assert!(setup.record().await.waiting.is_some());
    register_worker(&setup.bus, Target::Gpu, &setup.stop).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(setup.record().await.waiting, None);
    setup.cancel_job().await;
    setup.stop_planner().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_that_wait_for_agents_hold_no_slots() {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    register_worker(&bus, Target::Cpu, &stop).await;
    let planner_settings = PlannerSettings { max_jobs: 2, ..PlannerSettings::default() };
    let metrics = Metrics::new("test");
    let planner = tokio::spawn(run(bus.clone(), planner_settings, metrics.clone(), stop.clone()));
    for number in 0..20 {
        submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards(&format!("gpu-{number}"), "gpu", 0)).await;
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bus.backlog(Queue::Shards(Target::Gpu, JobLength::Short)).await.unwrap(), 2 * 20);
    // The alert on a planner that stands still (docs/operations.md) relies on these two metrics.
    let retries = |text: String| -> u64 {
        assert!(text.contains("forge_jobs_active{service=\"test\"} 0"), "{text}");
        let series = "forge_messages_total{service=\"test\",queue=\"jobs\",outcome=\"retry\"} ";
        text.lines().find_map(|line| line.strip_prefix(series)?.parse().ok()).unwrap_or(0)
    };
    let before = retries(metrics.encode());
    sleep(Duration::from_secs(60)).await;
    assert!(retries(metrics.encode()) >= before + 20, "waiting jobs are not seen as handled");
    submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("cpu", "cpu", 0)).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bus.backlog(Queue::Shards(Target::Cpu, JobLength::Short)).await.unwrap(), 2);
    stop.cancel();
    planner.await.unwrap().unwrap();
}

/// A planner with one slot on a bus whose bucket of programs answers with `error` to its first
/// `failures` writes. Returns the instants of the writes.
fn start_with_failing_programs(
    bus: &Arc<MemoryBus>,
    error: BusError,
    failures: usize,
    stop: &CancellationToken,
) -> (Arc<Mutex<Vec<Instant>>>, PlannerTask) {
    let writes = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&writes);
    let faulty = FaultyBus::new(bus.clone(), move |operation| match operation {
        BusOperation::Put { bucket: Bucket::Programs, .. } => {
            let mut writes = log.lock().unwrap();
            writes.push(Instant::now());
            if writes.len() <= failures { BusFault::Error(error.clone()) } else { BusFault::None }
        }
        _ => BusFault::None,
    });
    let settings = PlannerSettings { max_jobs: 1, ..PlannerSettings::default() };
    let planner = tokio::spawn(run(Arc::new(faulty), settings, Metrics::new("test"), stop.clone()));
    (writes, planner)
}

#[tokio::test(start_paused = true)]
async fn job_that_the_bus_refuses_holds_no_slot_and_is_retried_with_backoff() {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    register_worker(&bus, Target::Cpu, &stop).await;
    let denied = BusError::Unusable("permission denied".to_owned());
    let (writes, planner) = start_with_failing_programs(&bus, denied, 12, &stop);
    submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("denied", "cpu", 0)).await;
    sleep(Duration::from_secs(30)).await;
    let early = writes.lock().unwrap().len();
    assert!((3..=8).contains(&early), "{early} attempts in 30 s");
    assert_eq!(bus.backlog(Queue::Shards(Target::Cpu, JobLength::Short)).await.unwrap(), 0);
    // The job is given back between two attempts: with the one slot, admission reaches others.
    submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("other", "cpu", 0)).await;
    sleep(Duration::from_secs(2)).await;
    let other = job_records::get(bus.as_ref(), &Bucket::default_jobs(), &"other".parse().unwrap()).await;
    assert!(other.unwrap().is_some(), "the slot is free");
    // Once the operator has acted, a job starts. Its shards are not overdue yet.
    sleep(Duration::from_secs(230)).await;
    assert_eq!(bus.backlog(Queue::Shards(Target::Cpu, JobLength::Short)).await.unwrap(), 2);
    let intervals: Vec<_> =
        writes.lock().unwrap().windows(2).map(|pair| pair[1].duration_since(pair[0])).collect();
    assert!(intervals.iter().all(|&interval| interval <= Duration::from_secs(61)), "{intervals:?}");
    stop.cancel();
    planner.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn job_that_the_bus_will_never_accept_is_ended() {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    register_worker(&bus, Target::Cpu, &stop).await;
    let too_large = BusError::TooLarge { size: 2, limit: 1 };
    let (writes, planner) = start_with_failing_programs(&bus, too_large, usize::MAX, &stop);
    submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("large", "cpu", 0)).await;
    let order = next_end_order(bus.as_ref()).await;
    assert_eq!((order.code, order.job_id.as_str()), (FailureCode::Internal, "large"));
    assert!(order.message.contains("at most 1 are accepted"), "{}", order.message);
    assert_eq!(writes.lock().unwrap().len(), 1);
    stop.cancel();
    planner.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn submitter_with_many_jobs_does_not_keep_others_out() {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    register_worker(&bus, Target::Gpu, &stop).await;
    let planner_settings = PlannerSettings { max_jobs: 2, ..PlannerSettings::default() };
    let planner = tokio::spawn(run(bus.clone(), planner_settings, Metrics::new("test"), stop.clone()));
    let alices = topology::submit_subject(&alice());
    for number in 0..50 {
        submit(bus.as_ref(), &alices, two_shards(&format!("alice-{number}"), "gpu", 0)).await;
    }
    sleep(Duration::from_secs(10)).await;
    let bucket = Bucket::default_jobs();
    let jobs = bus.keys(&bucket).await.unwrap();
    assert_eq!(jobs.len(), 2, "alice holds both slots: {jobs:?}");
    submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("bob", "gpu", 0)).await;
    sleep(Duration::from_secs(10)).await;
    fail_job(bus.as_ref(), &jobs[0].parse().unwrap(), FailureCode::Cancelled, "").await;
    sleep(Duration::from_secs(1)).await;
    let bob = job_records::get(bus.as_ref(), &bucket, &"bob".parse().unwrap()).await.unwrap();
    assert_eq!(bob.unwrap().record.state, JobState::Planned);
    stop.cancel();
    planner.await.unwrap().unwrap();
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
async fn dead_letter_goes_to_a_verifier_and_does_not_end_its_job() {
    let mut setup = RunningPlanner::start_with_gpu().await;
    let mut tasks = BTreeSet::new();
    // A worker receives each of the two shards as often as it may, without returning a result.
    for _ in 0..topology::MAX_SHARD_DELIVERIES {
        for (delivery, task) in setup.receive_shards(2).await {
            tasks.insert(task.task_id);
            delivery.lease.retry(Duration::ZERO).await;
        }
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(tasks.len(), 2, "one hand-out of each shard");
    assert_eq!(setup.bus.backlog(Queue::Verifications(JobLength::Short)).await.unwrap(), 2);
    assert_eq!(setup.bus.backlog(Queue::End).await.unwrap(), 0);
    assert_eq!(setup.bus.backlog(Queue::DeadLetters).await.unwrap(), 0);
    setup.stop_planner().await;
}

#[tokio::test(start_paused = true)]
async fn takeover_dispatches_only_shards_without_an_accepted_result() {
    let mut setup = RunningPlanner::start_with_gpu().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.dispatched().await, (2, 0, 0));
    let uid = setup.record().await.uid;
    let other_version = Message::new(topology::outcomes_subject(uid), r#"{"protocol": 2, "outcomes": [7]}"#);
    setup.bus.publish(other_version, "other").await.unwrap();
    let shard_id = ShardId { height: 0, index: 0 };
    setup
        .publish_outcome(ShardOutcome::Accepted {
            shard_id,
            task_id: TaskId([0; 32]),
            wall_us: 1,
            result_bytes: 1,
        })
        .await;
    setup.stop_planner().await;
    setup.start_next_planner();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.dispatched().await, (1, 0, 0));
    let (_, task) = setup.receive_shards(1).await.remove(0);
    assert_eq!((task.job_uid, task.shard_id.index), (uid, 1));
    setup.stop_planner().await;
}

#[tokio::test(start_paused = true)]
async fn job_fails_when_a_shard_crashes_in_isolation() {
    let mut setup = RunningPlanner::start_with_gpu().await;
    sleep(Duration::from_secs(1)).await;
    let (_, task) = setup.receive_shards(1).await.remove(0);
    let (shard_id, task_id, reason) = (task.shard_id, task.task_id, "signal 11".to_owned());
    setup.publish_outcome(ShardOutcome::Crashed { shard_id, task_id, reason }).await;
    let order = next_end_order(setup.bus.as_ref()).await;
    assert_eq!((order.code, order.job_uid), (FailureCode::ExecutionFailed, setup.record().await.uid));
    assert!(order.message.contains("crashed a verifier or its isolated process"), "{}", order.message);
    setup.stop_planner().await;
}

#[tokio::test]
async fn planner_without_a_namespace_is_refused() {
    let settings = PlannerSettings { namespaces: Vec::new(), ..PlannerSettings::default() };
    let refused = run(memory_bus().await, settings, Metrics::new("test"), CancellationToken::new()).await;
    assert!(matches!(refused, Err(BusError::Unusable(_))), "{refused:?}");
}
