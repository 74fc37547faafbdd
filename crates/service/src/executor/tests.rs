//! Which shards share a call, and the outcome of each, with a backend whose calls wait for the test
//! to release them.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use forge_contract::{
    digest::Digest,
    ids::{JobUid, TaskId},
    protocol::PROTOCOL,
    shard::{Shard, ShardId},
    shard_result::ShardResult,
};
use forge_kernel::{
    backend::{ExecutionControl, ExecutionError, scalar::Scalar},
    request::Request,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, yield_now},
    time::Instant,
};

use super::*;

/// How a released call ends.
#[derive(Debug, Clone, Copy)]
enum Release {
    Success,
    DeviceLost,
    Panic,
    /// The call returns one result too few.
    MissingResult,
}

/// The reference backend, each of whose calls waits for a [`Release`].
struct GatedBackend {
    batch: usize,
    releases: Mutex<mpsc::Receiver<Release>>,
    /// The shard indexes of each call.
    calls: watch::Sender<Vec<Vec<u64>>>,
    /// How often a call has asked whether it is to go on.
    polls: watch::Sender<usize>,
}

impl GatedBackend {
    fn new(batch: usize) -> (Arc<Self>, Sender<Release>) {
        let (sender, releases) = mpsc::channel();
        let (calls, polls) = (watch::Sender::default(), watch::Sender::default());
        (Arc::new(Self { batch, releases: Mutex::new(releases), calls, polls }), sender)
    }

    fn calls(&self) -> Vec<Vec<u64>> {
        self.calls.borrow().clone()
    }

    fn wait_for_release(&self, control: &dyn ExecutionControl) -> Option<Release> {
        let releases = self.releases.lock().unwrap();
        loop {
            match releases.recv_timeout(Duration::from_millis(1)) {
                Ok(release) => return Some(release),
                Err(RecvTimeoutError::Timeout) if control.advance(0).is_continue() => {
                    self.polls.send_modify(|polls| *polls += 1);
                }
                Err(_) => return None,
            }
        }
    }
}

impl Backend for GatedBackend {
    fn name(&self) -> &str {
        "gated"
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
        self.calls.send_modify(|calls| calls.push(shards.iter().map(|shard| shard.id.index).collect()));
        match self.wait_for_release(control) {
            None => Err(ExecutionError::Cancelled),
            Some(Release::DeviceLost) => Err(ExecutionError::Device("gone".to_owned())),
            Some(Release::Panic) => panic!("a bug"),
            Some(Release::MissingResult) => Scalar.execute(program, &shards[1..], control),
            Some(Release::Success) => Scalar.execute(program, shards, control),
        }
    }
}

/// The program of a model with this claim frequency, and its hash.
fn program(frequency: f64) -> (Arc<Program>, Digest) {
    let envelope = format!(
        r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}},
             "args": {{"iterations": 1000, "claim_freq": {frequency}, "claim_severity_mu": 1, "claim_severity_sig": 1}}}}"#
    );
    let request = Request::from_json(envelope.as_bytes()).unwrap();
    (request.program, request.program_digest)
}

struct ExecutorFixture {
    executor: Executor,
    backend: Arc<GatedBackend>,
    releases: Sender<Release>,
    progress: Arc<AtomicU64>,
    model: (Arc<Program>, Digest),
}

type RunningShard = JoinHandle<Result<ShardExecution, ExecutionFailure>>;

impl ExecutorFixture {
    /// One slot, and a backend with this batch size.
    fn new(batch: usize) -> Self {
        let progress = Arc::new(AtomicU64::new(0));
        let (counted, (backend, releases)) = (Arc::clone(&progress), GatedBackend::new(batch));
        let callback: ProgressCallback = Arc::new(move |iterations| {
            counted.fetch_add(iterations, Ordering::SeqCst);
        });
        Self { executor: Executor::new(1, Some(callback)), backend, releases, progress, model: program(0.1) }
    }

    /// A shard of `10 * (index + 1)` iterations.
    fn task(&self, job: &str, index: u64) -> ShardTask {
        ShardTask {
            protocol: PROTOCOL,
            job_uid: JobUid([job.as_bytes()[0]; 16]),
            shard_id: ShardId { height: 0, index },
            iterations: 10 * (index + 1),
            seed: Digest([index as u8; 32]),
            program: self.model.1,
            kernel: 1,
            task_id: TaskId([0; 32]),
        }
    }

    fn start(&self, task: ShardTask, program: &Arc<Program>, stop: &StopFlag) -> RunningShard {
        let (executor, backend, program) = (self.executor.clone(), self.backend.clone(), program.clone());
        let stop = stop.clone();
        tokio::spawn(async move { executor.execute(JobLength::Long, backend, program, task, stop).await })
    }

    /// Starts a shard and waits until it is queued.
    async fn start_queued(&self, task: ShardTask, program: &Arc<Program>, stop: &StopFlag) -> RunningShard {
        let before = self.queued_shards();
        let running = self.start(task, program, stop);
        while self.queued_shards() == before {
            yield_now().await;
        }
        running
    }

    /// Starts a shard and waits until it occupies the slot.
    async fn occupy(&self, index: u64) -> RunningShard {
        let calls = self.backend.calls().len();
        let running = self.start(self.task("a", index), &self.model.0, &StopFlag::default());
        self.wait_for_calls(calls + 1).await;
        running
    }

    async fn start_all_queued(&self, indexes: impl IntoIterator<Item = u64>) -> Vec<RunningShard> {
        let mut running = Vec::new();
        for index in indexes {
            running.push(self.start_queued(self.task("a", index), &self.model.0, &StopFlag::default()).await);
        }
        running
    }

    fn queued_shards(&self) -> usize {
        self.executor.long.batches.queued_shards()
    }

    #[expect(clippy::disallowed_methods, reason = "one receiver waits, in a test of threads")]
    async fn wait_for_calls(&self, calls: usize) {
        self.backend.calls.subscribe().wait_for(|seen| seen.len() >= calls).await.unwrap();
    }

    /// Waits until the current call has asked twice more whether it is to go on.
    #[expect(clippy::disallowed_methods, reason = "one receiver waits, in a test of threads")]
    async fn wait_for_polls(&self) {
        let mut polls = self.backend.polls.subscribe();
        let before = *polls.borrow_and_update();
        polls.wait_for(|polls| *polls >= before + 2).await.unwrap();
    }

    fn expected_hash(&self, index: u64) -> Digest {
        let shard = self.task("a", index).shard();
        Scalar.execute(&self.model.0, &[shard], &()).unwrap().remove(0).digest()
    }
}

async fn hash(running: RunningShard) -> Digest {
    running.await.unwrap().unwrap().hash
}

#[tokio::test]
async fn queued_shards_share_a_call_and_each_caller_gets_its_own_result() {
    let fixture = ExecutorFixture::new(4);
    let first = fixture.occupy(0).await;
    let others = fixture.start_all_queued(1..=6).await;
    (0..3).for_each(|_| fixture.releases.send(Release::Success).unwrap());
    assert_eq!(hash(first).await, fixture.expected_hash(0));
    let mut walls = Vec::new();
    for (index, running) in (1..).zip(others) {
        let executed = running.await.unwrap().unwrap();
        assert_eq!((executed.hash, executed.iterations), (fixture.expected_hash(index), 10 * (index + 1)));
        assert_eq!(executed.hash, Digest::hash_parts(&[&executed.bytes]));
        walls.push(executed.wall.as_nanos());
    }
    assert_eq!(fixture.backend.calls(), [vec![0], vec![1, 2, 3, 4], vec![5, 6]]);
    // These two shards have 20 and 50 iterations.
    assert!((walls[3] * 2).abs_diff(walls[0] * 5) <= 5, "{walls:?}");
    assert_eq!(fixture.progress.load(Ordering::SeqCst), (1..=7).map(|number| number * 10).sum::<u64>());
}

#[tokio::test]
async fn the_time_of_a_batch_is_divided_among_its_shards() {
    let fixture = ExecutorFixture::new(8);
    let first = fixture.occupy(0).await;
    let others = fixture.start_all_queued(1..=8).await;
    let before_call = Instant::now();
    fixture.releases.send(Release::Success).unwrap();
    fixture.wait_for_calls(2).await;
    let in_call = Instant::now();
    fixture.wait_for_polls().await;
    let least = in_call.elapsed();
    fixture.releases.send(Release::Success).unwrap();
    let mut sum = Duration::ZERO;
    for running in others {
        sum += running.await.unwrap().unwrap().wall;
    }
    // Each shard's part is rounded down.
    let rounding = Duration::from_micros(8);
    assert!(sum + rounding >= least && sum <= before_call.elapsed(), "{least:?} {sum:?}");
    assert!(first.await.unwrap().unwrap().wall > Duration::ZERO);
}

#[tokio::test]
async fn a_backend_with_batch_size_one_gets_one_shard_per_call() {
    let fixture = ExecutorFixture::new(1);
    let first = fixture.occupy(0).await;
    let others: Vec<_> = (1..=3)
        .map(|index| fixture.start(fixture.task("a", index), &fixture.model.0, &StopFlag::default()))
        .collect();
    (0..4).for_each(|_| fixture.releases.send(Release::Success).unwrap());
    assert_eq!(hash(first).await, fixture.expected_hash(0));
    for (index, running) in (1..).zip(others) {
        assert_eq!(hash(running).await, fixture.expected_hash(index));
    }
    assert!(fixture.backend.calls().iter().all(|call| call.len() == 1));
}

#[tokio::test]
async fn shards_of_different_jobs_or_programs_never_share_a_call() {
    let fixture = ExecutorFixture::new(64);
    let (other, digest) = program(0.2);
    let flag = StopFlag::default();
    let mut running = vec![fixture.occupy(0).await];
    for index in [1, 4] {
        running.push(fixture.start_queued(fixture.task("a", index), &fixture.model.0, &flag).await);
        running.push(fixture.start_queued(fixture.task("b", index + 1), &fixture.model.0, &flag).await);
        let task = ShardTask { program: digest, ..fixture.task("a", index + 2) };
        running.push(fixture.start_queued(task, &other, &flag).await);
    }
    (0..4).for_each(|_| fixture.releases.send(Release::Success).unwrap());
    for running in running {
        assert!(running.await.unwrap().is_ok());
    }
    assert_eq!(fixture.backend.calls(), [vec![0], vec![1, 4], vec![2, 5], vec![3, 6]]);
}

#[tokio::test]
async fn a_failed_call_fails_only_the_shards_of_its_batch() {
    for (release, text) in [
        (Release::DeviceLost, "gone"),
        (Release::Panic, "gated panicked: a bug"),
        (Release::MissingResult, "gated returned 2 results for 3 shards"),
    ] {
        let fixture = ExecutorFixture::new(3);
        let first = fixture.occupy(0).await;
        let others = fixture.start_all_queued(1..=5).await;
        [Release::Success, release, Release::Success]
            .into_iter()
            .for_each(|release| fixture.releases.send(release).unwrap());
        assert_eq!(hash(first).await, fixture.expected_hash(0));
        for (index, running) in (1..).zip(others) {
            match running.await.unwrap() {
                Ok(executed) => assert_eq!((index > 3, executed.hash), (true, fixture.expected_hash(index))),
                Err(ExecutionFailure::Backend(reason) | ExecutionFailure::Crashed(reason)) => {
                    assert!(index <= 3 && reason.contains(text), "{reason}")
                }
                Err(ExecutionFailure::Stopped) => panic!("shard {index} was not stopped"),
            }
        }
    }
}

#[tokio::test]
async fn cancelling_queued_callers_does_not_block_the_others() {
    let fixture = ExecutorFixture::new(2);
    let first = fixture.occupy(0).await;
    let mut others = fixture.start_all_queued(1..=5).await;
    // The next one to get the slot, and one in the middle.
    for index in [3, 0] {
        others.remove(index).abort();
    }
    yield_now().await;
    (0..3).for_each(|_| fixture.releases.send(Release::Success).unwrap());
    assert_eq!(hash(first).await, fixture.expected_hash(0));
    for (index, running) in [2, 3, 5].into_iter().zip(others) {
        assert_eq!(hash(running).await, fixture.expected_hash(index));
    }
    assert_eq!(fixture.backend.calls(), [vec![0], vec![2, 3], vec![5]]);
    assert_eq!(fixture.queued_shards(), 0);
}

#[tokio::test]
async fn cancelling_one_caller_does_not_cancel_the_rest_of_the_batch() {
    let fixture = ExecutorFixture::new(2);
    let first = fixture.occupy(0).await;
    let mut others = fixture.start_all_queued(1..=2).await;
    fixture.releases.send(Release::Success).unwrap();
    fixture.wait_for_calls(2).await;
    others.remove(0).abort();
    fixture.releases.send(Release::Success).unwrap();
    assert_eq!(hash(others.remove(0)).await, fixture.expected_hash(2));
    assert_eq!(hash(first).await, fixture.expected_hash(0));
}

#[tokio::test]
async fn a_shard_stopped_while_queued_is_not_executed() {
    let fixture = ExecutorFixture::new(4);
    let first = fixture.occupy(0).await;
    let (stop, keep_running) = (StopFlag::default(), StopFlag::default());
    let one = fixture.start_queued(fixture.task("a", 1), &fixture.model.0, &stop).await;
    let other = fixture.start_queued(fixture.task("a", 2), &fixture.model.0, &keep_running).await;
    stop.stop();
    (0..2).for_each(|_| fixture.releases.send(Release::Success).unwrap());
    assert_eq!(one.await.unwrap().unwrap_err(), ExecutionFailure::Stopped);
    assert_eq!(hash(other).await, fixture.expected_hash(2));
    assert_eq!(hash(first).await, fixture.expected_hash(0));
    assert_eq!(fixture.backend.calls(), [vec![0], vec![2]]);
}

#[tokio::test]
async fn a_call_is_cancelled_once_all_its_shards_are_stopped() {
    let fixture = ExecutorFixture::new(4);
    let first = fixture.occupy(0).await;
    let stops = [StopFlag::default(), StopFlag::default()];
    let one = fixture.start_queued(fixture.task("a", 1), &fixture.model.0, &stops[0]).await;
    let other = fixture.start_queued(fixture.task("a", 2), &fixture.model.0, &stops[1]).await;
    fixture.releases.send(Release::Success).unwrap();
    fixture.wait_for_calls(2).await;
    stops[0].stop();
    fixture.wait_for_polls().await;
    assert!(!one.is_finished() && !other.is_finished());
    stops[1].stop();
    assert_eq!(one.await.unwrap().unwrap_err(), ExecutionFailure::Stopped);
    assert_eq!(other.await.unwrap().unwrap_err(), ExecutionFailure::Stopped);
    assert_eq!(hash(first).await, fixture.expected_hash(0));
}
