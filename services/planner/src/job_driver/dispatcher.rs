//! Decides which shards of a job are dispatched next. Pure: it publishes nothing and reads no
//! clock. It follows the outcomes of the job's shards, and knows neither results nor agents: given
//! the same outcomes, a planner that takes the job over dispatches the same shards, after the same
//! number of failed attempts.

mod recipients;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    iter::Peekable,
    time::Duration,
};

use bit_set::BitSet;
use forge_contract::{ids::TaskId, shard::ShardId, task::ShardOutcome};
use forge_kernel::plan::Plan;
use forge_service::{moving_average::MovingAverage, result_space::ResultVolume};

pub use self::recipients::ShardRecipient;
use self::recipients::WorkerReturns;

/// Attempts that go to workers; later ones go to verifiers.
const WORKER_ATTEMPTS: u32 = 2;
/// Failed attempts of verifiers at a shard after which the job fails. Those of workers never count:
/// a worker could keep the tasks of several planners, and fail them all.
pub const MAX_VERIFIER_FAILURES: usize = 4;
/// Shards may be dispatched up to this many checkpoints beyond the first incomplete one. Bounds the
/// results that an aggregator must buffer.
const CHECKPOINTS_AHEAD: usize = 8;
/// Longer execution times are cut to this. An agent can claim any time, and the mean forgets a
/// claim by an eighth per result: a claim of centuries would keep the window at its minimum for the
/// rest of the job.
const MAX_SHARD_TIME: Duration = Duration::from_secs(3600);
/// Doublings of the patience for overdue shards, at most.
const MAX_PATIENCE_DOUBLINGS: u32 = 4;
/// A worker that has received a shard gets this part of the patience to return it, or
/// [`WITHHELD_SHARD_TIMES`] if that is longer.
const WITHHELD_PATIENCE_DIVISOR: u32 = 10;
/// Mean execution times of a shard, as above.
const WITHHELD_SHARD_TIMES: u32 = 10;

/// A shard to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardDispatch {
    pub shard: ShardId,
    /// Identifies this hand-out.
    pub task: TaskId,
    pub recipient: ShardRecipient,
}

/// A moment, by the clocks that a dispatcher needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DispatchTime {
    /// Time since the dispatch began.
    pub now: Duration,
    /// Total time in which the job has had no live agent.
    pub starved: Duration,
    /// Workers have received every shard that was published before this time.
    pub delivered_before: Duration,
}

/// A shard for which the job must fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FatalShard {
    /// [`MAX_VERIFIER_FAILURES`] attempts at it have failed.
    Exhausted(ShardId),
    /// It crashed a verifier, or the isolated process in which one executed it.
    Crashed { shard: ShardId, reason: String },
    /// Its result is larger than a message may be.
    Oversized { shard: ShardId, reason: String },
}

/// The dispatch state of a job's shards.
#[derive(Debug)]
pub struct Dispatcher<'a> {
    plan: &'a Plan,
    unstarted: UnstartedShards<'a>,
    /// Shards to dispatch again, in the order of the plan: by their first leaf.
    retries: BTreeMap<u64, ShardId>,
    /// Dispatched without a result yet.
    in_flight: BTreeMap<ShardId, InFlightAttempt>,
    /// Positions in the plan of the shards that have an accepted result.
    completed: BitSet,
    /// Number of `completed`.
    completed_count: u64,
    /// Sizes of the accepted results, by position in the plan, and their sum. A position without
    /// an accepted result has size 0, or is missing.
    result_sizes: Vec<u32>,
    accepted_bytes: u64,
    /// The hand-outs of open shards that failed. An aggregator that is restarted may report one
    /// twice.
    failed: HashMap<ShardId, Vec<TaskId>>,
    /// Number of overdue hand-outs, by open shard.
    overdue: HashMap<ShardId, u32>,
    /// Shards that were delivered to workers too often. Only verifiers get them again.
    undeliverable: HashSet<ShardId>,
    prefix: CompletedPrefix,
    shard_time: MovingAverage,
    returns: WorkerReturns,
    fatal: Option<FatalShard>,
}

/// Shards that have not been dispatched, in the order of the plan.
struct UnstartedShards<'a>(Peekable<Box<dyn Iterator<Item = ShardId> + Send + 'a>>);

impl fmt::Debug for UnstartedShards<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnstartedShards(..)")
    }
}

#[derive(Debug, Clone, Copy)]
struct InFlightAttempt {
    task: TaskId,
    /// Number of the attempt, see [`Dispatcher::next_attempt`].
    attempt: u32,
    /// When it was dispatched, by [`running_time`].
    since: Duration,
    recipient: ShardRecipient,
    /// When it was stored in its queue; `None` until that is confirmed.
    published_at: Option<Duration>,
    /// When a worker was first seen to have received it.
    delivered_at: Option<Duration>,
}

/// The longest gapless run of completed iterations from iteration 0 on. It never shrinks: it only
/// limits how far ahead shards are dispatched, and a reopened shard was within that limit before.
#[derive(Debug, Default)]
struct CompletedPrefix {
    /// First iteration that is not completed.
    end: u64,
    /// Completed ranges beyond the first gap: start to end.
    beyond: BTreeMap<u64, u64>,
}

impl CompletedPrefix {
    fn add(&mut self, start: u64, end: u64) {
        if start >= self.end {
            self.beyond.insert(start, end);
        }
        while let Some(end) = self.beyond.remove(&self.end) {
            self.end = end;
        }
    }
}

impl<'a> Dispatcher<'a> {
    /// The state before the first dispatch.
    pub fn new(plan: &'a Plan) -> Self {
        let shards: Box<dyn Iterator<Item = ShardId> + Send + 'a> = Box::new(plan.shards());
        Self {
            plan,
            unstarted: UnstartedShards(shards.peekable()),
            retries: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            completed: BitSet::new(),
            completed_count: 0,
            result_sizes: Vec::new(),
            accepted_bytes: 0,
            failed: HashMap::new(),
            overdue: HashMap::new(),
            undeliverable: HashSet::new(),
            prefix: CompletedPrefix::default(),
            shard_time: MovingAverage::default(),
            returns: WorkerReturns::default(),
            fatal: None,
        }
    }

    /// Updates the state with an outcome. Ignores shards that are not in the plan.
    pub fn apply_outcome(&mut self, outcome: ShardOutcome) {
        let shard = outcome.shard_id();
        if self.plan.position(shard).is_none() {
            return;
        }
        match outcome {
            ShardOutcome::Accepted { wall_us, result_bytes, .. } => {
                self.apply_acceptance(shard, Duration::from_micros(wall_us), result_bytes);
            }
            ShardOutcome::Rejected { task_id, .. } => self.apply_failure(shard, task_id),
            // Several workers have had the shard. It may crash them, so none gets it again.
            ShardOutcome::Undeliverable { task_id, .. } => {
                self.apply_failure(shard, task_id);
                self.undeliverable.insert(shard);
            }
            ShardOutcome::Reopened { .. } => {
                if self.withdraw_acceptance(shard) {
                    self.queue_retry(shard);
                }
            }
            ShardOutcome::Crashed { reason, .. } => self.fail(FatalShard::Crashed { shard, reason }, shard),
            ShardOutcome::Oversized { reason, .. } => {
                self.fail(FatalShard::Oversized { shard, reason }, shard);
            }
        }
    }

    /// Notes that the job must fail, unless the shard has a result.
    fn fail(&mut self, fatal: FatalShard, shard: ShardId) {
        if !self.is_completed(shard) {
            self.fatal.get_or_insert(fatal);
        }
    }

    /// Queues shards for another attempt that have been in flight for longer than `patience`, which
    /// doubles with every attempt at a shard. So are shards that a worker has received and not
    /// returned in a part of that time: where they wait in no queue, nothing explains the delay.
    pub fn requeue_overdue(&mut self, time: DispatchTime, patience: Duration) {
        let withheld_patience = self.withheld_patience(patience);
        let (mut overdue, mut withheld) = (Vec::new(), 0);
        for (shard, in_flight) in &mut self.in_flight {
            if in_flight.published_at.is_some_and(|at| at < time.delivered_before) {
                in_flight.delivered_at.get_or_insert(time.now);
            }
            let held = in_flight.delivered_at.map_or(Duration::ZERO, |at| time.now.saturating_sub(at));
            let is_withheld = in_flight.recipient == ShardRecipient::Worker && held > withheld_patience;
            let waited = running_time(in_flight.attempt, time).saturating_sub(in_flight.since);
            let doublings = in_flight.attempt.min(MAX_PATIENCE_DOUBLINGS);
            if is_withheld || waited > patience * (1 << doublings) {
                overdue.push(*shard);
                withheld += u32::from(is_withheld);
            }
        }
        (0..withheld).for_each(|_| self.returns.count(false));
        for shard in overdue {
            *self.overdue.entry(shard).or_default() += 1;
            self.in_flight.remove(&shard);
            self.queue_retry(shard);
        }
    }

    /// How long a worker may keep a shard.
    fn withheld_patience(&self, patience: Duration) -> Duration {
        let mean = self.shard_time.mean().unwrap_or_default();
        (patience / WITHHELD_PATIENCE_DIVISOR).max(mean * WITHHELD_SHARD_TIMES).min(patience)
    }

    /// Returns the shards to publish now, so that at most `window` are in flight, and counts them
    /// as in flight. `issue_task` makes a new task id for a shard, which
    /// [`ShardRecipient::of_task`] maps to its recipient.
    ///
    /// While workers withhold most shards, half of the window goes to verifiers, and so do all
    /// further attempts.
    ///
    /// # Errors
    /// A shard for which the job must fail.
    pub fn dispatch(
        &mut self,
        window: usize,
        time: DispatchTime,
        mut issue_task: impl FnMut(ShardId, ShardRecipient) -> TaskId,
    ) -> Result<Vec<ShardDispatch>, FatalShard> {
        let mut dispatches = Vec::new();
        let is_with_worker = |in_flight: &&InFlightAttempt| in_flight.recipient == ShardRecipient::Worker;
        let mut with_workers = self.in_flight.values().filter(is_with_worker).count();
        let (worker_attempts, max_with_workers) =
            if self.returns.are_rare() { (1, window.div_ceil(2)) } else { (WORKER_ATTEMPTS, window) };
        while self.fatal.is_none() && self.in_flight.len() < window {
            let Some(shard) = self.next_shard() else { break };
            let attempt = self.next_attempt(shard);
            let goes_to_worker = attempt < worker_attempts
                && with_workers < max_with_workers
                && !self.undeliverable.contains(&shard);
            let recipient = if goes_to_worker { ShardRecipient::Worker } else { ShardRecipient::Verifier };
            with_workers += usize::from(goes_to_worker);
            let (task, since) = (issue_task(shard, recipient), running_time(attempt, time));
            let in_flight =
                InFlightAttempt { task, attempt, since, recipient, published_at: None, delivered_at: None };
            self.in_flight.insert(shard, in_flight);
            dispatches.push(ShardDispatch { shard, task, recipient });
        }
        match &self.fatal {
            Some(fatal) => Err(fatal.clone()),
            None => Ok(dispatches),
        }
    }

    /// Notes that dispatched shards are stored in their queues at `now`.
    pub fn note_published(&mut self, dispatches: &[ShardDispatch], now: Duration) {
        for dispatch in dispatches {
            let in_flight = self.in_flight.get_mut(&dispatch.shard);
            if let Some(in_flight) = in_flight.filter(|in_flight| in_flight.task == dispatch.task) {
                in_flight.published_at = Some(now);
            }
        }
    }

    /// Mean execution time of a shard; `None` before the first result.
    pub fn mean_shard_time(&self) -> Option<Duration> {
        self.shard_time.mean()
    }

    /// What the job's results take of the space for results. Reopened shards count no more: their
    /// results do not, and are removed.
    pub fn result_volume(&self) -> ResultVolume {
        let missing = self.plan.shard_count().saturating_sub(self.completed_count);
        ResultVolume::new(self.completed_count, self.accepted_bytes, missing)
    }

    /// Number of shards in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether only live workers can bring the job forward: shards are in flight, all for the first
    /// time. Later attempts may go to verifiers.
    pub fn needs_workers(&self) -> bool {
        let mut in_flight = self.in_flight.values();
        !self.in_flight.is_empty() && in_flight.all(|in_flight| in_flight.attempt == 0)
    }

    fn apply_acceptance(&mut self, shard: ShardId, wall: Duration, result_bytes: u64) {
        let in_flight = self.in_flight.remove(&shard);
        if in_flight.is_some_and(|in_flight| in_flight.recipient == ShardRecipient::Worker) {
            self.returns.count(true);
        }
        self.retries.remove(&shard.leaves().start);
        self.failed.remove(&shard);
        self.overdue.remove(&shard);
        let Some(position) = self.plan.position(shard).map(|position| position as usize) else { return };
        if self.completed.insert(position) {
            self.completed_count += 1;
            let size = u32::try_from(result_bytes).unwrap_or(u32::MAX);
            if self.result_sizes.len() <= position {
                self.result_sizes.resize(position + 1, 0);
            }
            self.result_sizes[position] = size;
            self.accepted_bytes += u64::from(size);
            self.shard_time.add(wall.min(MAX_SHARD_TIME));
            let range = self.plan.range(shard);
            self.prefix.add(range.start, range.end);
        }
    }

    /// Forgets the accepted result of a shard. Returns whether there was one.
    fn withdraw_acceptance(&mut self, shard: ShardId) -> bool {
        let Some(position) = self.plan.position(shard).map(|position| position as usize) else {
            return false;
        };
        let was_completed = self.completed.remove(position);
        if was_completed {
            self.completed_count -= 1;
            self.accepted_bytes -= u64::from(std::mem::take(&mut self.result_sizes[position]));
        }
        was_completed
    }

    fn is_completed(&self, shard: ShardId) -> bool {
        self.plan.position(shard).is_some_and(|position| self.completed.contains(position as usize))
    }

    /// Counts a failed hand-out of an open shard, which is dispatched again if no other hand-out is
    /// in flight.
    fn apply_failure(&mut self, shard: ShardId, task: TaskId) {
        if self.is_completed(shard) {
            return;
        }
        let failed = self.failed.entry(shard).or_default();
        if failed.contains(&task) {
            return;
        }
        failed.push(task);
        let of_verifiers =
            failed.iter().filter(|task| ShardRecipient::of_task(**task) == ShardRecipient::Verifier);
        if of_verifiers.count() >= MAX_VERIFIER_FAILURES {
            self.fatal.get_or_insert(FatalShard::Exhausted(shard));
        }
        if self.in_flight.get(&shard).is_some_and(|in_flight| in_flight.task == task) {
            self.in_flight.remove(&shard);
            self.queue_retry(shard);
        }
    }

    /// Queues a shard that is neither completed nor in flight. One that was never dispatched here
    /// stays unstarted.
    fn queue_retry(&mut self, shard: ShardId) {
        let start = shard.leaves().start;
        let is_unstarted = self.unstarted.0.peek().is_some_and(|next| start >= next.leaves().start);
        if !is_unstarted {
            self.retries.insert(start, shard);
        }
    }

    /// Number of the next attempt at a shard, from 0: its hand-outs that failed or became overdue.
    /// Overdue ones are known only to the planner that dispatched them. They do not count as
    /// failures, because a shard that waits in a busy queue is overdue too.
    fn next_attempt(&self, shard: ShardId) -> u32 {
        let failed = self.failed.get(&shard).map_or(0, Vec::len);
        failed as u32 + self.overdue.get(&shard).copied().unwrap_or(0)
    }

    /// The next shard to dispatch.
    fn next_shard(&mut self) -> Option<ShardId> {
        if let Some((_, shard)) = self.retries.pop_first() {
            return Some(shard);
        }
        let horizon = self.horizon();
        while let Some(&shard) = self.unstarted.0.peek() {
            // A planner that takes a job over knows results of shards that it did not dispatch.
            let is_completed = self.is_completed(shard);
            if !is_completed && self.plan.range(shard).end > horizon {
                return None;
            }
            self.unstarted.0.next();
            if !is_completed {
                return Some(shard);
            }
        }
        None
    }

    /// The iteration up to which shards may be dispatched.
    fn horizon(&self) -> u64 {
        let checkpoints = self.plan.checkpoints();
        let incomplete = checkpoints.partition_point(|&checkpoint| checkpoint <= self.prefix.end);
        checkpoints.get(incomplete + CHECKPOINTS_AHEAD).copied().unwrap_or(u64::MAX)
    }
}

/// The clock that measures a shard's patience. It stands still for first attempts while the job has
/// no live agent. Later attempts keep running: the next one may go to a verifier, which needs no
/// worker.
fn running_time(attempt: u32, time: DispatchTime) -> Duration {
    if attempt == 0 { time.now.saturating_sub(time.starved) } else { time.now }
}

#[cfg(test)]
mod tests;
