//! The choice of backend, the verdicts and the fallback executions of a verifier on the in-process
//! bus.

use std::sync::atomic::{AtomicUsize, Ordering};

use forge_bus::{
    Bus, Message,
    memory::MemoryBus,
    testing::{BusFault, BusOperation, FaultyBus},
    topology::{self, Bucket, JobLength, Stream, TopologySettings},
};
use forge_contract::{
    agent::QuarantineRecord,
    ids::{JobUid, TaskId},
    program::Program,
    protocol::PROTOCOL,
    shard::{Shard, ShardId},
    shard_result::ShardResult,
    task::ShardOutcome,
    verdict::VerdictStatement,
};
use forge_kernel::{
    backend::{ExecutionControl, ExecutionError, scalar::Scalar},
    request::Request,
};
use forge_service::shard_messages;
use futures_util::StreamExt;

use super::*;

/// The reference backend under another name or on other hardware, possibly faulty.
#[derive(Clone, Copy)]
struct TestBackend {
    name: &'static str,
    adapter: Option<&'static str>,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    WrongResult,
    DeviceLost,
    Crash,
}

const CPU: TestBackend = TestBackend { name: "cpu", adapter: None, fault: Fault::None };
const OTHER: TestBackend = TestBackend { name: "other", ..CPU };
const GPU: TestBackend =
    TestBackend { name: "gpu", adapter: Some("test adapter, driver 1"), fault: Fault::None };

impl Backend for TestBackend {
    fn name(&self) -> &str {
        self.name
    }

    fn adapter(&self) -> Option<&str> {
        self.adapter
    }

    fn batch_size(&self) -> usize {
        if self.adapter.is_some() { 4 } else { 1 }
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        if self.fault == Fault::DeviceLost {
            return Err(ExecutionError::Device("the device is lost".to_owned()));
        }
        if self.fault == Fault::Crash {
            return Err(ExecutionError::Crashed("no memory".to_owned()));
        }
        let mut results = Scalar.execute(program, shards, control)?;
        let error = u64::from(self.fault == Fault::WrongResult);
        results.iter_mut().for_each(|result| result.components[0].occurrences += error);
        Ok(results)
    }
}

fn backends(backends: &[TestBackend]) -> Vec<Arc<dyn Backend>> {
    backends.iter().map(|backend| Arc::new(*backend) as Arc<dyn Backend>).collect()
}

const JOB: JobUid = JobUid([1; 16]);

fn pool() -> PoolName {
    "rented".parse().unwrap()
}

fn claim(backend: TestBackend, result_hash: Digest) -> Claim {
    let agent_id = Identity::from_random([1; 32]).id().clone();
    let adapter = backend.adapter.map(str::to_owned);
    Claim { pool: pool(), agent_id, backend: backend.name.to_owned(), adapter, result_hash }
}

#[test]
fn other_hardware_is_preferred_then_another_backend() {
    let order = |available: &[TestBackend], claimed| -> Vec<String> {
        let (available, claim) = (backends(available), claim(claimed, Digest([0; 32])));
        sort_by_independence(&available, &claim).iter().map(|backend| backend.name().to_owned()).collect()
    };
    assert_eq!(order(&[GPU, CPU, OTHER], GPU), ["cpu", "other", "gpu"]);
    assert_eq!(order(&[GPU, CPU, OTHER], CPU), ["gpu", "other", "cpu"]);
    assert_eq!(order(&[CPU, OTHER, GPU], OTHER), ["gpu", "cpu", "other"]);
    assert_eq!(order(&[CPU, OTHER], CPU), ["other", "cpu"]);
    assert_eq!(order(&[CPU, OTHER], GPU), ["cpu", "other"]);
    assert_eq!(order(&[CPU], CPU), ["cpu"]);
    assert_eq!(order(&[GPU], GPU), ["gpu"]);
}

/// A bus that holds the program of the tasks.
async fn bus() -> (Arc<MemoryBus>, Request) {
    let bus = MemoryBus::new(TopologySettings::default());
    bus.prepare().await.unwrap();
    let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": 1000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}"#;
    let request = Request::from_json(envelope).unwrap();
    ProgramStore::new(bus.clone(), 1).put(request.program_digest, &request.program).await.unwrap();
    (bus, request)
}

fn task(request: &Request, index: u64) -> ShardTask {
    ShardTask {
        protocol: PROTOCOL,
        job_uid: JOB,
        shard_id: ShardId { height: 0, index },
        iterations: 10,
        seed: Digest([index as u8; 32]),
        program: request.program_digest,
        kernel: KERNEL,
        task_id: TaskId([index as u8; 32]),
    }
}

fn correct_hash(request: &Request, task: &ShardTask) -> Digest {
    Scalar.execute(&request.program, &[task.shard()], &()).unwrap()[0].digest()
}

async fn publish_task(bus: &MemoryBus, task: ShardTask, claim: Option<Claim>) {
    let subject = topology::verification_subject(JobLength::Short, JOB, task.shard_id);
    let payload = serde_json::to_vec(&VerifierTask { protocol: PROTOCOL, task, claim }).unwrap();
    bus.publish(Message::new(subject.clone(), payload), &subject).await.unwrap();
}

/// A verifier that runs until this is dropped.
struct RunningVerifier(CancellationToken);

impl RunningVerifier {
    fn start(bus: SharedBus, available: &[TestBackend]) -> Self {
        Self::start_with(bus, available, Arc::new(Scalar))
    }

    fn start_with(bus: SharedBus, available: &[TestBackend], reference: Arc<dyn Backend>) -> Self {
        let stop = CancellationToken::new();
        let (executor, lease) = (Executor::new(1, None), Duration::from_secs(30));
        let settings = VerifierSettings { executor, slots: 1, lease, reference };
        let (identity, metrics) = (Identity::from_random([2; 32]), Metrics::new("test"));
        tokio::spawn(run(bus, backends(available), identity, settings, metrics, stop.clone()));
        Self(stop)
    }
}

impl Drop for RunningVerifier {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Waits for `count` verdicts and returns their statements by shard.
async fn collect_verdicts(bus: &MemoryBus, count: usize) -> Vec<VerdictStatement> {
    let messages = bus.replay(Stream::Verdicts, vec![topology::verdicts_filter(JOB)]).await.unwrap();
    let statements = messages.map(|stored| {
        let verdict = shard_messages::parse_verdict(&stored.message.payload).unwrap();
        assert!(verdict.is_signature_valid());
        let statement = verdict.statement;
        let subject = topology::parse_verdict_subject(&stored.message.subject);
        assert_eq!(subject, Some((JOB, statement.shard_id)));
        assert_eq!((statement.job_uid, statement.pool.clone()), (JOB, pool()));
        assert_eq!(statement.task_id, TaskId([statement.shard_id.index as u8; 32]));
        statement
    });
    let mut statements: Vec<_> = statements.take(count).collect().await;
    statements.sort_by_key(|statement| statement.shard_id.index);
    statements
}

/// The verdicts of a verifier with these backends on claims; `false` marks a claim with a wrong
/// hash.
async fn verdicts(available: &[TestBackend], claims: &[(TestBackend, bool)]) -> Vec<VerdictStatement> {
    let (bus, request) = bus().await;
    for (index, (backend, is_correct)) in (0..).zip(claims) {
        let task = task(&request, index);
        let hash = if *is_correct { correct_hash(&request, &task) } else { Digest([9; 32]) };
        publish_task(&bus, task, Some(claim(*backend, hash))).await;
    }
    let _verifier = RunningVerifier::start(bus.clone(), available);
    collect_verdicts(&bus, claims.len()).await
}

fn summaries(verdicts: &[VerdictStatement]) -> Vec<(&str, Option<&str>, VerdictOutcome)> {
    verdicts
        .iter()
        .map(|verdict| (verdict.backend.as_str(), verdict.adapter.as_deref(), verdict.outcome))
        .collect()
}

#[tokio::test]
async fn gpu_results_are_verified_on_a_cpu_and_cpu_results_on_a_gpu() {
    let verdicts = verdicts(&[GPU, CPU], &[(CPU, true), (GPU, true), (OTHER, true), (CPU, true)]).await;
    let (gpu, cpu) =
        (("gpu", GPU.adapter, VerdictOutcome::Confirmed), ("cpu", None, VerdictOutcome::Confirmed));
    assert_eq!(summaries(&verdicts), [gpu, cpu, gpu, gpu]);
}

#[tokio::test]
async fn the_reference_decides_when_results_differ() {
    let wrong = TestBackend { fault: Fault::WrongResult, ..GPU };
    let verdicts = verdicts(&[wrong, CPU], &[(CPU, true), (CPU, false), (GPU, false)]).await;
    let outcomes = [VerdictOutcome::Confirmed, VerdictOutcome::Undecided, VerdictOutcome::Refuted];
    assert_eq!(summaries(&verdicts), outcomes.map(|outcome| ("scalar", None, outcome)));
}

#[tokio::test]
async fn the_next_backend_replaces_a_lost_device() {
    let lost = TestBackend { fault: Fault::DeviceLost, ..GPU };
    let verdicts = verdicts(&[lost, CPU, OTHER], &[(CPU, true), (GPU, true)]).await;
    assert_eq!(
        summaries(&verdicts),
        [("other", None, VerdictOutcome::Confirmed), ("cpu", None, VerdictOutcome::Confirmed)]
    );
}

#[tokio::test]
async fn a_refuted_agent_is_quarantined_with_its_pool_and_job() {
    let (bus, request) = bus().await;
    let claim = claim(CPU, Digest([9; 32]));
    publish_task(&bus, task(&request, 0), Some(claim.clone())).await;
    let _verifier = RunningVerifier::start(bus.clone(), &[CPU]);
    assert_eq!(collect_verdicts(&bus, 1).await[0].outcome, VerdictOutcome::Refuted);
    let key = registry::agent_quarantine_key(&claim.agent_id);
    let entry = bus.get(&Bucket::Agents, &key).await.unwrap().unwrap();
    let record: QuarantineRecord = serde_json::from_slice(&entry.value.unwrap()).unwrap();
    assert_eq!((record.pool, record.job_uid, record.claimed), (pool(), JOB, Digest([9; 32])));
}

#[tokio::test(start_paused = true)]
async fn an_outage_delays_a_verdict_but_never_becomes_one() {
    let (memory, request) = bus().await;
    let faults = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&faults);
    let faulty = FaultyBus::new(memory.clone(), move |operation| {
        let is_affected = matches!(
            operation,
            BusOperation::Get { bucket: Bucket::Programs, .. } | BusOperation::Publish { .. }
        );
        if is_affected && counter.fetch_add(1, Ordering::SeqCst) < 30 {
            return BusFault::Error(BusError::Unavailable("down".to_owned()));
        }
        BusFault::None
    });
    let task = task(&request, 0);
    publish_task(&memory, task.clone(), Some(claim(CPU, correct_hash(&request, &task)))).await;
    let _verifier = RunningVerifier::start(Arc::new(faulty), &[CPU]);
    assert_eq!(collect_verdicts(&memory, 1).await[0].outcome, VerdictOutcome::Confirmed);
    assert!(faults.load(Ordering::SeqCst) > 30);
}

/// What a verifier publishes for a shard that workers failed to execute: its result, or outcomes.
async fn fallback(available: &[TestBackend], reference: Arc<dyn Backend>) -> (Message, ShardTask, Digest) {
    fallback_with(available, reference, |_| BusFault::None).await
}

/// As [`fallback`], with faults of the verifier's bus.
async fn fallback_with(
    available: &[TestBackend],
    reference: Arc<dyn Backend>,
    fault: impl Fn(&BusOperation<'_>) -> BusFault + Send + Sync + 'static,
) -> (Message, ShardTask, Digest) {
    let (bus, request) = bus().await;
    let task = task(&request, 3);
    let hash = correct_hash(&request, &task);
    publish_task(&bus, task.clone(), None).await;
    let mut results = bus.replay(Stream::Results, vec![topology::results_filter(JOB)]).await.unwrap();
    let mut outcomes = bus.replay(Stream::Verdicts, vec![topology::outcomes_subject(JOB)]).await.unwrap();
    let faulty = Arc::new(FaultyBus::new(bus.clone(), move |operation| fault(&operation)));
    let _verifier = RunningVerifier::start_with(faulty, available, reference);
    let stored = tokio::select! {
        stored = results.next() => stored,
        stored = outcomes.next() => stored,
    };
    while bus.backlog(Queue::Verifications(JobLength::Short)).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (stored.unwrap().message, task, hash)
}

fn crash(message: &Message, task: &ShardTask) -> String {
    let mut batch = shard_messages::parse_outcomes(&message.payload).unwrap();
    match batch.outcomes.remove(0) {
        ShardOutcome::Crashed { shard_id, task_id, reason } => {
            assert_eq!((shard_id, task_id), (task.shard_id, task.task_id));
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_workers_failed_to_execute_gets_a_result_of_the_pool_of_verifiers() {
    let (message, task, hash) = fallback(&[OTHER], Arc::new(Scalar)).await;
    let subject = topology::parse_result_subject(&message.subject);
    assert_eq!(subject, Some((PoolName::verifiers(), JOB, task.shard_id)));
    let (attestation, bytes) = shard_messages::parse_result(&message.payload).unwrap();
    assert!(attestation.is_signature_valid());
    assert_eq!(
        (attestation.statement.task_id, attestation.statement.pool),
        (task.task_id, PoolName::verifiers())
    );
    assert_eq!((attestation.statement.result_hash, Digest::hash_parts(&[&bytes])), (hash, hash));
    assert_eq!(attestation.statement.backend, "scalar");
}

#[tokio::test(start_paused = true)]
async fn an_outage_delays_a_fallback_execution() {
    let faults = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&faults);
    let fault = move |operation: &BusOperation<'_>| match operation {
        BusOperation::Get { bucket: Bucket::Programs, .. } if counter.fetch_add(1, Ordering::SeqCst) < 30 => {
            BusFault::Error(BusError::Unavailable("down".to_owned()))
        }
        _ => BusFault::None,
    };
    let (message, _, hash) = fallback_with(&[OTHER], Arc::new(Scalar), fault).await;
    let (attestation, _) = shard_messages::parse_result(&message.payload).unwrap();
    assert_eq!(attestation.statement.result_hash, hash);
    assert!(faults.load(Ordering::SeqCst) > 30);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_execution_that_crashes_is_reported() {
    let dying = TestBackend { fault: Fault::Crash, ..CPU };
    let (message, task, _) = fallback(&[CPU], Arc::new(dying)).await;
    assert_eq!(crash(&message, &task), "cpu crashed: no memory");
}

#[tokio::test(start_paused = true)]
async fn a_fallback_execution_whose_handler_always_panics_is_reported() {
    let fault = |operation: &BusOperation<'_>| {
        assert!(!matches!(operation, BusOperation::Get { bucket: Bucket::Programs, .. }), "planted");
        BusFault::None
    };
    let (message, task, _) = fallback_with(&[CPU], Arc::new(Scalar), fault).await;
    let reason = "handling a message of queue verifications panicked 5 times, last with: planted";
    assert_eq!(crash(&message, &task), reason);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_large_for_a_message_is_reported_as_that() {
    let too_large = |operation: &BusOperation<'_>| match operation {
        BusOperation::Publish { subject } if subject.starts_with("forge.v1.results.") => {
            BusFault::Error(BusError::TooLarge { size: 9, limit: 8 })
        }
        _ => BusFault::None,
    };
    let (message, task, _) = fallback_with(&[CPU], Arc::new(Scalar), too_large).await;
    let outcome = shard_messages::parse_outcomes(&message.payload).unwrap().outcomes.remove(0);
    let reason = BusError::TooLarge { size: 9, limit: 8 }.to_string();
    let expected = ShardOutcome::Oversized { shard_id: task.shard_id, task_id: task.task_id, reason };
    assert_eq!(outcome, expected);
}

#[tokio::test(start_paused = true)]
async fn a_claim_on_a_shard_that_crashes_every_backend_is_undecided_after_some_attempts() {
    let (bus, request) = bus().await;
    let task = task(&request, 0);
    publish_task(&bus, task.clone(), Some(claim(CPU, correct_hash(&request, &task)))).await;
    let [cpu, gpu] = [CPU, GPU].map(|backend| TestBackend { fault: Fault::Crash, ..backend });
    let reference = TestBackend { name: "scalar", ..cpu };
    let started = tokio::time::Instant::now();
    let _verifier = RunningVerifier::start_with(bus.clone(), &[gpu, cpu], Arc::new(reference));
    let verdicts = collect_verdicts(&bus, 1).await;
    assert_eq!(summaries(&verdicts), [("scalar", None, VerdictOutcome::Undecided)]);
    assert!(verdicts[0].reason.contains("crashed: no memory") && verdicts[0].correct.is_none());
    // The waits of two deliveries: at least half of one second and half of two.
    assert!(started.elapsed() >= Duration::from_millis(1500), "two attempts were retried");
}

#[tokio::test]
async fn a_backend_that_survives_a_crashing_shard_decides_about_the_claim() {
    let dying = TestBackend { fault: Fault::Crash, ..GPU };
    let verdicts = verdicts(&[dying], &[(GPU, true), (CPU, false)]).await;
    let outcomes = [VerdictOutcome::Confirmed, VerdictOutcome::Refuted];
    assert_eq!(summaries(&verdicts), outcomes.map(|outcome| ("scalar", None, outcome)));
}
