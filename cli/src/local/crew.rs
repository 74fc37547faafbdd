//! A crew of threads that execute shards. They take shards in order, and hand results on in order, whichever finishes
//! first. Nobody runs more than a few shards ahead, so that memory does not grow with the run.

use std::{
    any::Any,
    collections::BTreeMap,
    iter::Enumerate,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use forge_contract::{
    artifact::Phase, digest::Digest, error::FailureCode, shard::ShardId, shard_result::ShardResult,
};
use forge_kernel::{
    execute::{Backend, Control, ExecuteError},
    request::Request,
};

use super::{clock::thread_cpu_time, stop::Stop};
use crate::failure::JobFailure;

/// Shards a thread may be ahead of the first one that is not done.
const AHEAD: u64 = 4;

/// Threads that execute shards of one request.
#[derive(Clone, Copy)]
pub struct Crew<'a> {
    /// Whose shards.
    pub request: &'a Request,
    /// What executes them.
    pub backend: &'a dyn Backend,
    /// How many threads.
    pub threads: usize,
    /// What ends it from outside.
    pub stop: &'a Stop,
    /// What failures are recorded as.
    pub phase: Phase,
}

/// A shard that has been executed.
#[derive(Debug)]
pub struct Done {
    /// The shard.
    pub id: ShardId,
    /// Number of the thread, from 1.
    pub agent: usize,
    /// The result.
    pub result: ShardResult,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub hash: Digest,
    /// Time from start to end.
    pub wall: Duration,
    /// CPU time of the thread.
    pub cpu: Duration,
}

/// What the threads share.
struct Queue<I: Iterator, F> {
    shards: Enumerate<I>,
    taken: u64,
    /// Done, but not the next in order.
    waiting: BTreeMap<u64, Done>,
    folded: u64,
    fold: F,
    end: Option<Result<(), JobFailure>>,
}

/// A queue, and the bell that rings when it has changed.
struct Shared<I: Iterator, F> {
    queue: Mutex<Queue<I, F>>,
    changed: Condvar,
    ended: AtomicBool,
}

impl Crew<'_> {
    /// Executes `shards` and hands each to `fold`, in order, until that answers `Break`.
    ///
    /// # Errors
    /// The run was stopped, or a shard could not be executed.
    pub fn execute<I, F>(&self, shards: I, fold: F) -> Result<(), JobFailure>
    where
        I: Iterator<Item = ShardId> + Send,
        F: FnMut(Done) -> Result<ControlFlow<()>, JobFailure> + Send,
    {
        let queue = Queue {
            shards: shards.enumerate(),
            taken: 0,
            waiting: BTreeMap::new(),
            folded: 0,
            fold,
            end: None,
        };
        let shared =
            Shared { queue: Mutex::new(queue), changed: Condvar::new(), ended: AtomicBool::new(false) };
        thread::scope(|scope| {
            for agent in 2..=self.threads {
                let shared = &shared;
                let spawned = thread::Builder::new().spawn_scoped(scope, move || self.work(agent, shared));
                if spawned.is_err() {
                    // The system gives no more threads: those there are do all the work.
                    break;
                }
            }
            self.work(1, &shared);
        });
        let end = shared.lock().end.take();
        end.unwrap_or(Ok(()))
    }

    fn work<I, F>(&self, agent: usize, shared: &Shared<I, F>)
    where
        I: Iterator<Item = ShardId>,
        F: FnMut(Done) -> Result<ControlFlow<()>, JobFailure>,
    {
        while let Some((number, id)) = shared.take(AHEAD * self.threads as u64) {
            let outcome = self.execute_shard(id, agent, &shared.ended);
            shared.settle(number, outcome);
        }
    }

    fn execute_shard(&self, id: ShardId, agent: usize, ended: &AtomicBool) -> Result<Done, JobFailure> {
        let (start, cpu) = (Instant::now(), thread_cpu_time());
        let shard = self.request.shard(id);
        let control = CrewControl { crew: self, ended };
        let execute = || self.backend.execute(&self.request.program, &[shard], &control);
        let failed = |message: String| JobFailure::new(FailureCode::ExecutionFailed, self.phase, message);
        let mut results = match catch_unwind(AssertUnwindSafe(execute)) {
            Ok(Ok(results)) => results,
            Ok(Err(ExecuteError::Cancelled)) => {
                let stopped = self.stop.reason(self.phase);
                return Err(stopped.unwrap_or_else(|| failed("the execution was cancelled".to_owned())));
            }
            Ok(Err(error)) => return Err(failed(format!("shard {id}: {error}"))),
            Err(panic) => {
                let who = format!("shard {id}: {}", self.backend.name());
                return Err(panicked(self.phase, &who, &*panic));
            }
        };
        let Some(result) = results.pop() else {
            return Err(failed(format!("shard {id}: {} returned nothing", self.backend.name())));
        };
        let bytes = result.encode();
        let hash = Digest::of(&[&bytes]);
        let wall = start.elapsed();
        let used = thread_cpu_time().zip(cpu).map(|(now, then)| now.saturating_sub(then));
        Ok(Done { id, agent, result, bytes, hash, wall, cpu: used.unwrap_or(wall) })
    }
}

impl<I, F> Shared<I, F>
where
    I: Iterator<Item = ShardId>,
{
    fn lock(&self) -> MutexGuard<'_, Queue<I, F>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next shard, once it is no more than `ahead` ahead; `None` when there is none, or the run has ended.
    fn take(&self, ahead: u64) -> Option<(u64, ShardId)> {
        let mut queue = self.lock();
        while queue.end.is_none() && queue.taken - queue.folded >= ahead {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.end.is_some() {
            return None;
        }
        let (_, id) = queue.shards.next()?;
        queue.taken += 1;
        Some((queue.taken - 1, id))
    }

    /// Takes in what became of a shard, and folds as many as are next in order.
    fn settle(&self, number: u64, outcome: Result<Done, JobFailure>)
    where
        F: FnMut(Done) -> Result<ControlFlow<()>, JobFailure>,
    {
        let mut queue = self.lock();
        if queue.end.is_none() {
            queue.end = match outcome {
                Err(failure) => Some(Err(failure)),
                Ok(done) => {
                    queue.waiting.insert(number, done);
                    queue.fold_waiting()
                }
            };
        }
        self.ended.store(queue.end.is_some(), Ordering::Relaxed);
        drop(queue);
        self.changed.notify_all();
    }
}

impl<I, F> Queue<I, F>
where
    I: Iterator<Item = ShardId>,
    F: FnMut(Done) -> Result<ControlFlow<()>, JobFailure>,
{
    fn fold_waiting(&mut self) -> Option<Result<(), JobFailure>> {
        while let Some(done) = self.waiting.remove(&self.folded) {
            self.folded += 1;
            // A panic must end the run for all threads, also those that wait for this fold.
            let folded = catch_unwind(AssertUnwindSafe(|| (self.fold)(done)));
            match folded.unwrap_or_else(|panic| Err(panicked(Phase::Reduce, "the merge", &*panic))) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Some(Ok(())),
                Err(failure) => return Some(Err(failure)),
            }
        }
        None
    }
}

/// Ends the execution of a shard when the run has ended or is to stop.
struct CrewControl<'a> {
    crew: &'a Crew<'a>,
    ended: &'a AtomicBool,
}

impl Control for CrewControl<'_> {
    fn advance(&self, iterations: u64) -> ControlFlow<()> {
        self.crew.stop.advance(iterations);
        let ended = self.ended.load(Ordering::Relaxed);
        if ended || self.crew.stop.reason(self.crew.phase).is_some() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

fn panicked(phase: Phase, who: &str, panic: &(dyn Any + Send)) -> JobFailure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    JobFailure::new(FailureCode::Internal, phase, format!("{who} panicked: {text}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use forge_contract::{program::Program, shard::Shard};
    use forge_kernel::reduce::merge;

    use super::*;

    /// Does for a shard's number what `act` says, and returns an empty result.
    struct Fake<F>(F);

    impl<F: Fn(u64) -> Result<(), ExecuteError> + Send + Sync> Backend for Fake<F> {
        fn name(&self) -> &str {
            "fake"
        }

        fn execute(
            &self,
            program: &Program,
            shards: &[Shard],
            _: &dyn Control,
        ) -> Result<Vec<ShardResult>, ExecuteError> {
            (self.0)(shards[0].id.index).map(|()| vec![merge(program, &[])])
        }
    }

    /// Executes 40 shards on 4 threads; answers the shards folded before `until`, and how it ended.
    fn execute(
        act: impl Fn(u64) -> Result<(), ExecuteError> + Send + Sync,
        until: u64,
    ) -> (Vec<u64>, Result<(), JobFailure>) {
        let envelope = r#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
            "args": {"iterations": 2621440, "claim_freq": 0, "claim_severity_mu": 1, "claim_severity_sig": 1}}"#;
        let request = Request::parse(envelope.as_bytes()).unwrap();
        let (backend, stop) = (Fake(act), Stop::new(Instant::now(), 0));
        let crew =
            Crew { request: &request, backend: &backend, threads: 4, stop: &stop, phase: Phase::Execute };
        let mut folded = Vec::new();
        let ended = crew.execute(request.plan.shards(), |done| {
            folded.push(done.id.index);
            Ok(if done.id.index == until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        (folded, ended)
    }

    #[test]
    fn results_are_folded_in_order_and_nobody_runs_far_ahead() {
        let (first_done, furthest) = (AtomicBool::new(false), AtomicU64::new(0));
        let (folded, ended) = execute(
            |number| {
                if number == 0 {
                    // The others could execute all 40 shards in this time.
                    thread::sleep(Duration::from_millis(100));
                    first_done.store(true, Ordering::SeqCst);
                } else if !first_done.load(Ordering::SeqCst) {
                    furthest.fetch_max(number, Ordering::SeqCst);
                }
                Ok(())
            },
            u64::MAX,
        );
        assert_eq!((folded, ended), ((0..40).collect(), Ok(())));
        assert!(furthest.into_inner() < 4 * AHEAD);
    }

    #[test]
    fn a_fold_that_has_enough_ends_the_run() {
        let executed = AtomicU64::new(0);
        let (folded, ended) = execute(
            |_| {
                executed.fetch_add(1, Ordering::SeqCst);
                Ok(())
            },
            3,
        );
        assert_eq!((folded, ended), (vec![0, 1, 2, 3], Ok(())));
        assert!(executed.into_inner() <= 3 + 4 * AHEAD);
    }

    #[test]
    fn a_shard_that_fails_or_panics_ends_the_run() {
        let device = |number| if number == 5 { Err(ExecuteError::Device("gone".to_owned())) } else { Ok(()) };
        let failure = execute(device, u64::MAX).1.unwrap_err();
        assert_eq!((failure.code, failure.phase), (FailureCode::ExecutionFailed, Phase::Execute));
        assert_eq!(failure.message, "shard 0-5: the device failed: gone");

        let panic = |number| if number == 5 { panic!("a bug") } else { Ok(()) };
        let failure = execute(panic, u64::MAX).1.unwrap_err();
        assert_eq!(failure.code, FailureCode::Internal);
        assert_eq!(failure.message, "shard 0-5: fake panicked: a bug");
    }
}
