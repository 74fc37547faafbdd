//! Workers on the in-process bus: batches for a batching backend, the effect of a failing backend
//! on a queue, shards that are left to other workers, and quarantine.

mod programs;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use forge_bus::{
    Bus,
    memory::MemoryBus,
    testing::{BusFault, BusOperation, FaultyBus},
    topology::{JobLength, Stream, TopologySettings},
};
use forge_contract::{
    agent::{PoolQuarantineRecord, QuarantineRecord},
    digest::Digest,
    ids::TaskId,
    program::Program,
    protocol::PROTOCOL,
    shard::{Shard, ShardId},
    shard_result::ShardResult,
};
use forge_kernel::{
    backend::{ExecutionControl, ExecutionError, scalar::Scalar},
    request::Request,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::*;

/// Turns that every other task of the runtime has during an execution of [`FlakyGpu`].
const TURNS: usize = 1000;

/// The reference backend, presented as a GPU whose first calls fail.
struct FlakyGpu {
    /// The runtime of the worker, of one thread.
    runtime: tokio::runtime::Handle,
    batch: usize,
    /// Number of calls that fail.
    failing_calls: usize,
    calls: AtomicUsize,
    /// Batch sizes, and the number of calls that each shard was part of.
    log: Mutex<(Vec<usize>, BTreeMap<ShardId, usize>)>,
}

impl FlakyGpu {
    fn new(batch: usize, failing_calls: usize) -> Arc<Self> {
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Self { runtime, batch, failing_calls, calls: AtomicUsize::new(0), log: Mutex::default() })
    }

    fn batch_sizes(&self) -> Vec<usize> {
        self.log.lock().unwrap().0.clone()
    }
}

impl Backend for FlakyGpu {
    fn name(&self) -> &str {
        "gpu"
    }

    fn adapter(&self) -> Option<&str> {
        Some("test adapter, driver 1")
    }

    fn batch_size(&self) -> usize {
        self.batch
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        {
            let mut log = self.log.lock().unwrap();
            log.0.push(shards.len());
            shards.iter().for_each(|shard| *log.1.entry(shard.id).or_default() += 1);
        }
        // Opening a device and executing a batch take time, in which the worker receives shards.
        let turns = self.runtime.spawn(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
        self.runtime.block_on(turns).expect("the runtime is in use");
        if call < self.failing_calls {
            return Err(ExecutionError::Device("the device is lost".to_owned()));
        }
        Scalar.execute(program, shards, control)
    }
}

const JOB: JobUid = JobUid([1; 16]);

/// A bus with queued shards of a short job for a target.
async fn bus(target: Target, shards: u64) -> Arc<MemoryBus> {
    let bus = MemoryBus::new(TopologySettings::default());
    bus.prepare().await.unwrap();
    publish_shards(&bus, (target, JobLength::Short), 0..shards).await;
    bus
}

/// Publishes the program of a job and these shards of it.
async fn publish_shards(bus: &Arc<MemoryBus>, (target, length): (Target, JobLength), indexes: Range<u64>) {
    let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": 1000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}"#;
    let request = Request::from_json(envelope).unwrap();
    let programs = ProgramStore::new(bus.clone(), 1);
    programs.put(request.program_digest, &request.program).await.unwrap();
    for index in indexes {
        let shard_id = ShardId { height: 0, index };
        let task = ShardTask {
            protocol: PROTOCOL,
            job_uid: JOB,
            shard_id,
            iterations: 10,
            seed: Digest([1; 32]),
            program: request.program_digest,
            kernel: KERNEL,
            task_id: TaskId([2; 32]),
        };
        let subject = topology::shard_subject(target, length, JOB, shard_id);
        let message = Message::new(subject, serde_json::to_vec(&task).unwrap());
        bus.publish(message, &index.to_string()).await.unwrap();
    }
}

fn pool() -> PoolName {
    "rented".parse().unwrap()
}

fn start_worker(
    bus: &Arc<MemoryBus>,
    backend: Arc<dyn Backend>,
    number: u8,
    stop: &CancellationToken,
) -> JoinHandle<Result<(), BusError>> {
    start_on(bus.clone(), backend, number, true, stop)
}

/// Starts a worker for the hardware of its backend, and for `any` if it `accepts_any_target`.
fn start_on(
    bus: SharedBus,
    backend: Arc<dyn Backend>,
    number: u8,
    accepts_any_target: bool,
    stop: &CancellationToken,
) -> JoinHandle<Result<(), BusError>> {
    let settings = WorkerSettings { accepts_any_target, ..settings(backend.as_ref()) };
    let identity = Identity::from_random([number; 32]);
    tokio::spawn(run(bus, backend, identity, settings, Metrics::new("test"), stop.clone()))
}

/// Settings of a worker with one slot, for the hardware of its backend and for `any`.
fn settings(backend: &dyn Backend) -> WorkerSettings {
    WorkerSettings {
        executor: Executor::new(1, None),
        slots: 1,
        target: forge_contract::agent::Hardware::from_adapter(backend.adapter()).target(),
        accepts_any_target: true,
        lease: Duration::from_secs(30),
        pool: pool(),
    }
}

/// Waits for `count` results and returns the backends and adapters that their attestations name.
async fn results(bus: &Arc<MemoryBus>, count: usize) -> Vec<(String, Option<String>)> {
    let messages = bus.replay(Stream::Results, vec![topology::results_filter(JOB)]).await.unwrap();
    let statements = messages.map(|stored| {
        let (attestation, _) = shard_messages::parse_result(&stored.message.payload).unwrap();
        assert!(attestation.is_signature_valid());
        let statement = attestation.statement;
        let subject = topology::parse_result_subject(&stored.message.subject);
        assert_eq!(subject, Some((pool(), JOB, statement.shard_id)));
        assert_eq!((&statement.pool, statement.task_id), (&pool(), TaskId([2; 32])));
        (statement.backend, statement.adapter)
    });
    statements.take(count).collect().await
}

#[tokio::test]
async fn a_batching_backend_gets_full_batches() {
    let (gpu, stop) = (FlakyGpu::new(8, 0), CancellationToken::new());
    let bus = bus(Target::Gpu, 200).await;
    let worker = start_worker(&bus, gpu.clone(), 1, &stop);
    let results = results(&bus, 200).await;
    assert!(results.iter().all(|(name, adapter)| name == "gpu" && adapter.as_deref() == gpu.adapter()));
    stop.cancel();
    worker.await.unwrap().unwrap();
    let sizes = gpu.batch_sizes();
    let full = sizes.iter().filter(|&&size| size == 8).count();
    assert!(sizes.iter().all(|&size| size <= 8) && full >= 20, "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_device_lost_once_costs_its_shards_few_redeliveries() {
    let (gpu, stop) = (FlakyGpu::new(8, 2), CancellationToken::new());
    let bus = bus(Target::Any, 100).await;
    let worker = start_worker(&bus, gpu.clone(), 1, &stop);
    assert_eq!(results(&bus, 100).await.len(), 100);
    stop.cancel();
    worker.await.unwrap().unwrap();
    let max_calls = gpu.log.lock().unwrap().1.values().copied().max();
    assert!(max_calls <= Some(3), "{max_calls:?}");
    assert_eq!(bus.message_count(Stream::DeadLetters), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_always_fails_leaves_the_shards_to_other_workers() {
    let (gpu, stop) = (FlakyGpu::new(64, usize::MAX), CancellationToken::new());
    let bus = bus(Target::Any, 1000).await;
    let started = Instant::now();
    let failing = start_worker(&bus, gpu.clone(), 1, &stop);
    // The breaker limits it to its first in-flight shards, and then to one shard after each pause.
    sleep(Duration::from_millis(1300)).await;
    let (calls, shards) = (gpu.batch_sizes().len(), gpu.batch_sizes().iter().sum::<usize>());
    assert!(calls <= 12 && shards <= 256, "{:?}", gpu.batch_sizes());
    let healthy = start_worker(&bus, Arc::new(Scalar), 2, &stop);
    let results = results(&bus, 1000).await;
    assert!(results.iter().all(|(name, adapter)| name == "scalar" && adapter.is_none()));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(bus.message_count(Stream::DeadLetters), 0);
    stop.cancel();
    failing.await.unwrap().unwrap();
    healthy.await.unwrap().unwrap();
}

/// The reference backend, whose calls for shards from [`Self::FIRST_SLOW`] on end with the test.
struct SlowBackend {
    slow_calls: watch::Sender<usize>,
    test: Mutex<mpsc::Receiver<()>>,
}

impl SlowBackend {
    const FIRST_SLOW: u64 = 10;

    /// The backend, and what ends its slow calls when it is dropped.
    fn new() -> (Arc<Self>, mpsc::Sender<()>) {
        let (sender, receiver) = mpsc::channel();
        let backend = Self { slow_calls: watch::Sender::default(), test: Mutex::new(receiver) };
        (Arc::new(backend), sender)
    }
}

impl Backend for SlowBackend {
    fn name(&self) -> &str {
        "slow"
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        if shards[0].id.index < Self::FIRST_SLOW {
            return Scalar.execute(program, shards, control);
        }
        self.slow_calls.send_modify(|calls| *calls += 1);
        let _ = self.test.lock().unwrap().recv();
        Err(ExecutionError::Cancelled)
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "one receiver waits, in a test of threads")]
async fn shards_of_a_short_job_do_not_wait_for_those_of_a_long_one() {
    let (bus, stop) = (bus(Target::Cpu, 0).await, CancellationToken::new());
    let (backend, _test) = SlowBackend::new();
    let slow = SlowBackend::FIRST_SLOW..SlowBackend::FIRST_SLOW + 20;
    publish_shards(&bus, (Target::Cpu, JobLength::Long), slow).await;
    let worker = start_worker(&bus, backend.clone(), 1, &stop);
    backend.slow_calls.subscribe().wait_for(|calls| *calls > 0).await.unwrap();
    // The only slot for long jobs is occupied for ever.
    publish_shards(&bus, (Target::Cpu, JobLength::Short), 0..3).await;
    assert_eq!(results(&bus, 3).await.len(), 3);
    assert_eq!(*backend.slow_calls.borrow(), 1);
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn shards_of_another_version_are_left_to_other_workers() {
    let bus = bus(Target::Cpu, 0).await;
    let payloads = [r#"{"protocol": 2, "shards": []}"#, "not JSON"];
    for (index, payload) in (0..).zip(payloads) {
        let subject =
            topology::shard_subject(Target::Cpu, JobLength::Short, JOB, ShardId { height: 0, index });
        bus.publish(Message::new(subject, payload), &index.to_string()).await.unwrap();
    }
    let stop = CancellationToken::new();
    let worker = start_worker(&bus, Arc::new(Scalar), 1, &stop);
    sleep(OTHER_WORKER_DELAY * 2).await;
    assert_eq!(bus.backlog(Queue::Shards(Target::Cpu, JobLength::Short)).await.unwrap(), 2);
    assert_eq!(bus.message_count(Stream::Results), 0);
    stop.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_stops_when_its_key_or_its_pool_is_in_quarantine() {
    let id = Identity::from_random([1; 32]).id().clone();
    let agent = QuarantineRecord {
        schema: QuarantineRecord::SCHEMA.to_owned(),
        agent_id: id.clone(),
        pool: pool(),
        job_uid: JOB,
        shard_id: ShardId { height: 0, index: 0 },
        claimed: Digest([1; 32]),
        correct: Digest([2; 32]),
        verifier_id: Identity::from_random([2; 32]).id().clone(),
    };
    let of_pool = |pool| PoolQuarantineRecord {
        schema: PoolQuarantineRecord::SCHEMA.to_owned(),
        pool,
        agents: vec![id.clone()],
    };
    for by_pool in [false, true] {
        let bus = bus(Target::Cpu, 0).await;
        let shared: SharedBus = bus.clone();
        let worker = start_worker(&bus, Arc::new(Scalar), 1, &CancellationToken::new());
        registry::quarantine_pool(&shared, &of_pool(PoolName::default())).await.unwrap();
        sleep(QUARANTINE_CHECK_INTERVAL * 3).await;
        assert!(!worker.is_finished(), "another pool is in quarantine");
        let name = if by_pool {
            registry::quarantine_pool(&shared, &of_pool(pool())).await.unwrap();
            "rented"
        } else {
            registry::quarantine_agent(&shared, &agent).await.unwrap();
            id.as_str()
        };
        let error = worker.await.unwrap().unwrap_err();
        let expected = format!("then run `forge quarantine lift {name}`");
        assert!(matches!(&error, BusError::Unusable(text) if text.ends_with(&expected)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_stored_is_kept_until_it_can_and_uses_up_no_delivery() {
    let inner = bus(Target::Cpu, 1).await;
    let outage = Duration::from_secs(600);
    let (start, attempts) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&attempts);
    let faulty = Arc::new(FaultyBus::new(inner.clone(), move |operation| match operation {
        BusOperation::Publish { subject } if subject.starts_with("forge.v1.results.") => {
            counted.fetch_add(1, Ordering::Relaxed);
            match start.elapsed() < outage {
                true => BusFault::Error(BusError::Full("the disk of the server is full".to_owned())),
                false => BusFault::None,
            }
        }
        _ => BusFault::None,
    }));
    let stop = CancellationToken::new();
    let worker = start_on(faulty, Arc::new(Scalar), 1, true, &stop);
    assert_eq!(results(&inner, 1).await.len(), 1);
    assert!(start.elapsed() >= outage && attempts.load(Ordering::Relaxed) > 10);
    assert_eq!(inner.message_count(Stream::DeadLetters), 0);
    stop.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_large_for_a_message_is_returned_once_without_its_content() {
    let inner = bus(Target::Cpu, 1).await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    // An outage of the server follows, which uses up no delivery.
    let failures = 10;
    let faulty = Arc::new(FaultyBus::new(inner.clone(), move |operation| match operation {
        BusOperation::Publish { subject } if subject.starts_with("forge.v1.results.") => {
            match counted.fetch_add(1, Ordering::Relaxed) {
                0 => BusFault::Error(BusError::TooLarge { size: 9, limit: 8 }),
                failed if failed <= failures => {
                    BusFault::Error(BusError::Unavailable("no server".to_owned()))
                }
                _ => BusFault::None,
            }
        }
        _ => BusFault::None,
    }));
    let stop = CancellationToken::new();
    let worker = start_on(faulty, Arc::new(Scalar), 1, true, &stop);
    let mut messages = inner.replay(Stream::Results, vec![topology::results_filter(JOB)]).await.unwrap();
    let stored = messages.next().await.unwrap();
    let (attestation, content) = shard_messages::parse_result(&stored.message.payload).unwrap();
    assert!(attestation.is_signature_valid() && content.is_empty());
    while inner.backlog(Queue::Shards(Target::Cpu, JobLength::Short)).await.unwrap() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(attempts.load(Ordering::Relaxed), failures + 2);
    assert_eq!(inner.message_count(Stream::DeadLetters), 0);
    stop.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_beside_a_gpu_takes_only_shards_for_its_own_hardware() {
    let bus = bus(Target::Any, 1).await;
    let stop = CancellationToken::new();
    let worker = start_on(bus.clone(), Arc::new(Scalar), 1, false, &stop);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bus.backlog(Queue::Shards(Target::Any, JobLength::Short)).await.unwrap(), 1);
    stop.cancel();
    worker.await.unwrap().unwrap();
}

/// A planner that was frozen publishes shards after an aggregator has purged those of the job.
#[tokio::test(start_paused = true)]
async fn shards_of_a_job_that_has_ended_are_acknowledged_and_become_no_dead_letters() {
    const SHARD_TIME: Duration = Duration::from_secs(30);
    let (bus, stop) = (bus(Target::Cpu, 2).await, CancellationToken::new());
    let settings = WorkerSettings { executor: Executor::inline(1, SHARD_TIME), ..settings(&Scalar) };
    let identity = Identity::from_random([1; 32]);
    let metrics = Metrics::new("test");
    let worker = tokio::spawn(run(bus.clone(), Arc::new(Scalar), identity, settings, metrics, stop.clone()));
    // One is being executed, and the other one waits for the slot.
    sleep(SHARD_TIME / 2).await;
    bus.broadcast(Message::new(topology::job_ended_subject(JOB), JOB.to_string())).await.unwrap();
    sleep(10 * SHARD_TIME).await;
    let left = [Stream::Shards, Stream::DeadLetters, Stream::Results].map(|stream| bus.message_count(stream));
    assert_eq!(left, [0, 0, 0]);
    stop.cancel();
    worker.await.unwrap().unwrap();
}

#[test]
fn notices_that_no_aggregator_wrote_stop_no_shard() {
    let job = JobUid([0xab; 16]);
    let uid = job.to_string();
    let job_of =
        |content: &str| ended_job(&Message::new(topology::job_ended_subject(job), content.to_owned()));
    assert_eq!(job_of(&uid), Some(job));
    // Replies of JetStream to a pull request, and to a published message.
    for content in ["", r#"{"stream":"FORGE_RESULTS","seq":1}"#, &uid.to_uppercase(), &format!("{uid} ")] {
        assert_eq!(job_of(content), None, "{content}");
    }
}
