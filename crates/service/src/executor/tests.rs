//! Which shards share a call, and what becomes of each of them, with a backend that waits to be let go.

use std::{
    sync::{
        Mutex,
        atomic::AtomicU64,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
};

use forge_contract::{ids::JobId, shard::ShardId};
use forge_kernel::{backend::scalar::Scalar, request::Request};
use tokio::task::{JoinHandle, yield_now};

use super::*;

/// What a call comes to once it is let go.
#[derive(Debug, Clone, Copy)]
enum Go {
    Right,
    Lost,
    Panic,
    /// One result less than there are shards.
    Short,
}

/// The reference, which waits before each call until it is told what to do.
struct Gated {
    batch: usize,
    go: Mutex<mpsc::Receiver<Go>>,
    /// The shards of each call: job seeds and indexes are told apart by the index alone.
    calls: Mutex<Vec<Vec<u64>>>,
}

impl Gated {
    fn new(batch: usize) -> (Arc<Self>, Sender<Go>) {
        let (sender, go) = mpsc::channel();
        (Arc::new(Self { batch, go: Mutex::new(go), calls: Mutex::default() }), sender)
    }

    fn calls(&self) -> Vec<Vec<u64>> {
        self.calls.lock().unwrap().clone()
    }

    fn told(&self, control: &dyn ExecutionControl) -> Option<Go> {
        let go = self.go.lock().unwrap();
        loop {
            match go.recv_timeout(Duration::from_millis(1)) {
                Ok(go) => return Some(go),
                Err(RecvTimeoutError::Timeout) if control.advance(0).is_continue() => {}
                Err(_) => return None,
            }
        }
    }
}

impl Backend for Gated {
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
        self.calls.lock().unwrap().push(shards.iter().map(|shard| shard.id.index).collect());
        match self.told(control) {
            None => Err(ExecutionError::Cancelled),
            Some(Go::Lost) => Err(ExecutionError::Device("gone".to_owned())),
            Some(Go::Panic) => panic!("a bug"),
            Some(Go::Short) => Scalar.execute(program, &shards[1..], control),
            Some(Go::Right) => Scalar.execute(program, shards, control),
        }
    }
}

/// A program of so many claims a year, and its hash.
fn program(frequency: f64) -> (Arc<Program>, Digest) {
    let envelope = format!(
        r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}},
             "args": {{"iterations": 1000, "claim_freq": {frequency}, "claim_severity_mu": 1, "claim_severity_sig": 1}}}}"#
    );
    let request = Request::from_json(envelope.as_bytes()).unwrap();
    (request.program, request.program_digest)
}

struct Setup {
    executor: Executor,
    backend: Arc<Gated>,
    go: Sender<Go>,
    advanced: Arc<AtomicU64>,
    model: (Arc<Program>, Digest),
}

type Running = JoinHandle<Result<ShardExecution, ExecutionFailure>>;

impl Setup {
    /// One slot, and a backend that takes so many shards.
    fn new(batch: usize) -> Self {
        let advanced = Arc::new(AtomicU64::new(0));
        let (counted, (backend, go)) = (Arc::clone(&advanced), Gated::new(batch));
        let advance: ProgressCallback = Arc::new(move |iterations| {
            counted.fetch_add(iterations, Ordering::SeqCst);
        });
        Self { executor: Executor::new(1, Some(advance)), backend, go, advanced, model: program(0.1) }
    }

    /// The shard of an index, which has 10 iterations more than the one before.
    fn task(&self, job: &str, index: u64) -> ShardTask {
        ShardTask {
            job_id: job.parse::<JobId>().unwrap(),
            shard_id: ShardId { height: 0, index },
            iterations: 10 * (index + 1),
            seed: Digest([index as u8; 32]),
            program: self.model.1,
            kernel: 1,
            attempt: 0,
        }
    }

    fn start(&self, task: ShardTask, program: &Arc<Program>, stop: &StopFlag) -> Running {
        let (executor, backend, program) = (self.executor.clone(), self.backend.clone(), program.clone());
        let stop = stop.clone();
        tokio::spawn(async move { executor.execute(backend, program, task, stop).await })
    }

    /// Starts a shard and waits until it waits for a slot.
    async fn queue(&self, task: ShardTask, program: &Arc<Program>, stop: &StopFlag) -> Running {
        let before = self.waiting();
        let running = self.start(task, program, stop);
        while self.waiting() == before {
            yield_now().await;
        }
        running
    }

    /// Starts a shard that takes the slot.
    async fn occupy(&self, index: u64) -> Running {
        let calls = self.backend.calls().len();
        let running = self.start(self.task("a", index), &self.model.0, &StopFlag::default());
        self.called(calls + 1).await;
        running
    }

    async fn add(&self, indexes: impl IntoIterator<Item = u64>) -> Vec<Running> {
        let mut running = Vec::new();
        for index in indexes {
            running.push(self.queue(self.task("a", index), &self.model.0, &StopFlag::default()).await);
        }
        running
    }

    fn waiting(&self) -> usize {
        self.executor.batches.waiting()
    }

    async fn called(&self, calls: usize) {
        while self.backend.calls().len() < calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn right(&self, index: u64) -> Digest {
        let shard = self.task("a", index).shard();
        Scalar.execute(&self.model.0, &[shard], &()).unwrap().remove(0).digest()
    }
}

async fn hash(running: Running) -> Digest {
    running.await.unwrap().unwrap().hash
}

#[tokio::test]
async fn shards_that_wait_are_executed_together_and_each_caller_gets_its_own() {
    let setup = Setup::new(4);
    let first = setup.occupy(0).await;
    let others = setup.add(1..=6).await;
    (0..3).for_each(|_| setup.go.send(Go::Right).unwrap());
    assert_eq!(hash(first).await, setup.right(0));
    let mut walls = Vec::new();
    for (index, running) in (1..).zip(others) {
        let executed = running.await.unwrap().unwrap();
        assert_eq!((executed.hash, executed.iterations), (setup.right(index), 10 * (index + 1)));
        assert_eq!(executed.hash, Digest::hash_parts(&[&executed.bytes]));
        walls.push(executed.wall.as_nanos());
    }
    assert_eq!(setup.backend.calls(), [vec![0], vec![1, 2, 3, 4], vec![5, 6]]);
    // Shards of 20 and of 50 iterations.
    assert!((walls[3] * 2).abs_diff(walls[0] * 5) <= 5, "{walls:?}");
    assert_eq!(setup.advanced.load(Ordering::SeqCst), (1..=7).map(|number| number * 10).sum::<u64>());
}

#[tokio::test]
async fn the_time_of_a_batch_is_shared_out_and_not_counted_for_each() {
    let setup = Setup::new(8);
    let first = setup.occupy(0).await;
    let others = setup.add(1..=8).await;
    setup.go.send(Go::Right).unwrap();
    setup.called(2).await;
    let started = Instant::now();
    thread::sleep(Duration::from_millis(20));
    setup.go.send(Go::Right).unwrap();
    let mut sum = Duration::ZERO;
    for running in others {
        sum += running.await.unwrap().unwrap().wall;
    }
    assert!(
        sum >= Duration::from_millis(19) && sum < started.elapsed() + Duration::from_millis(20),
        "{sum:?}"
    );
    assert!(first.await.unwrap().unwrap().wall > Duration::ZERO);
}

#[tokio::test]
async fn a_backend_that_takes_one_shard_gets_one() {
    let setup = Setup::new(1);
    let first = setup.occupy(0).await;
    let others: Vec<_> = (1..=3)
        .map(|index| setup.start(setup.task("a", index), &setup.model.0, &StopFlag::default()))
        .collect();
    (0..4).for_each(|_| setup.go.send(Go::Right).unwrap());
    assert_eq!(hash(first).await, setup.right(0));
    for (index, running) in (1..).zip(others) {
        assert_eq!(hash(running).await, setup.right(index));
    }
    assert!(setup.backend.calls().iter().all(|call| call.len() == 1));
}

#[tokio::test]
async fn jobs_and_programs_do_not_mix() {
    let setup = Setup::new(64);
    let (other, digest) = program(0.2);
    let flag = StopFlag::default();
    let mut running = vec![setup.occupy(0).await];
    for index in [1, 4] {
        running.push(setup.queue(setup.task("a", index), &setup.model.0, &flag).await);
        running.push(setup.queue(setup.task("b", index + 1), &setup.model.0, &flag).await);
        let task = ShardTask { program: digest, ..setup.task("a", index + 2) };
        running.push(setup.queue(task, &other, &flag).await);
    }
    (0..4).for_each(|_| setup.go.send(Go::Right).unwrap());
    for running in running {
        assert!(running.await.unwrap().is_ok());
    }
    assert_eq!(setup.backend.calls(), [vec![0], vec![1, 4], vec![2, 5], vec![3, 6]]);
}

#[tokio::test]
async fn what_goes_wrong_goes_wrong_for_the_batch_alone() {
    for (go, says) in [
        (Go::Lost, "gone"),
        (Go::Panic, "gated panicked: a bug"),
        (Go::Short, "gated returned 2 results for 3 shards"),
    ] {
        let setup = Setup::new(3);
        let first = setup.occupy(0).await;
        let others = setup.add(1..=5).await;
        [Go::Right, go, Go::Right].into_iter().for_each(|go| setup.go.send(go).unwrap());
        assert_eq!(hash(first).await, setup.right(0));
        for (index, running) in (1..).zip(others) {
            match running.await.unwrap() {
                Ok(executed) => assert_eq!((index > 3, executed.hash), (true, setup.right(index))),
                Err(ExecutionFailure::Backend(reason)) => {
                    assert!(index <= 3 && reason.contains(says), "{reason}")
                }
                Err(ExecutionFailure::Stopped) => panic!("nobody stopped {index}"),
            }
        }
    }
}

#[tokio::test]
async fn who_is_dropped_while_waiting_holds_nobody_up() {
    let setup = Setup::new(2);
    let first = setup.occupy(0).await;
    let mut others = setup.add(1..=5).await;
    // The one that is next to get the slot, and one in the middle.
    for index in [3, 0] {
        others.remove(index).abort();
    }
    yield_now().await;
    (0..3).for_each(|_| setup.go.send(Go::Right).unwrap());
    assert_eq!(hash(first).await, setup.right(0));
    for (index, running) in [2, 3, 5].into_iter().zip(others) {
        assert_eq!(hash(running).await, setup.right(index));
    }
    assert_eq!(setup.backend.calls(), [vec![0], vec![2, 3], vec![5]]);
    assert_eq!(setup.waiting(), 0);
}

#[tokio::test]
async fn who_is_dropped_while_executing_takes_nobody_along() {
    let setup = Setup::new(2);
    let first = setup.occupy(0).await;
    let mut others = setup.add(1..=2).await;
    setup.go.send(Go::Right).unwrap();
    setup.called(2).await;
    others.remove(0).abort();
    setup.go.send(Go::Right).unwrap();
    assert_eq!(hash(others.remove(0)).await, setup.right(2));
    assert_eq!(hash(first).await, setup.right(0));
}

#[tokio::test]
async fn a_shard_that_is_stopped_while_it_waits_is_not_executed() {
    let setup = Setup::new(4);
    let first = setup.occupy(0).await;
    let (stop, go_on) = (StopFlag::default(), StopFlag::default());
    let one = setup.queue(setup.task("a", 1), &setup.model.0, &stop).await;
    let other = setup.queue(setup.task("a", 2), &setup.model.0, &go_on).await;
    stop.stop();
    (0..2).for_each(|_| setup.go.send(Go::Right).unwrap());
    assert_eq!(one.await.unwrap().unwrap_err(), ExecutionFailure::Stopped);
    assert_eq!(hash(other).await, setup.right(2));
    assert_eq!(hash(first).await, setup.right(0));
    assert_eq!(setup.backend.calls(), [vec![0], vec![2]]);
}

#[tokio::test]
async fn a_call_is_broken_off_when_all_its_shards_are_stopped() {
    let setup = Setup::new(4);
    let first = setup.occupy(0).await;
    let stops = [StopFlag::default(), StopFlag::default()];
    let one = setup.queue(setup.task("a", 1), &setup.model.0, &stops[0]).await;
    let other = setup.queue(setup.task("a", 2), &setup.model.0, &stops[1]).await;
    setup.go.send(Go::Right).unwrap();
    setup.called(2).await;
    stops[0].stop();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!one.is_finished() && !other.is_finished());
    stops[1].stop();
    assert_eq!(one.await.unwrap().unwrap_err(), ExecutionFailure::Stopped);
    assert_eq!(other.await.unwrap().unwrap_err(), ExecutionFailure::Stopped);
    assert_eq!(hash(first).await, setup.right(0));
}
