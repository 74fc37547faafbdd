//! Decides which shards of a job are dispatched next. Pure: it publishes nothing and reads no
//! clock. Given the same events in the order of their stream, every planner that takes the job over
//! decides the same.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    iter::Peekable,
    time::Duration,
};

use forge_contract::{agent::AgentId, shard::ShardId, verdict::VerdictOutcome};
use forge_kernel::plan::Plan;
use forge_service::moving_average::MovingAverage;

use super::shard_event::ShardEvent;

/// Attempts that go to workers; later ones go to verifiers.
const WORKER_ATTEMPTS: u32 = 2;
/// Attempts after which the job fails.
pub const MAX_ATTEMPTS: u32 = 6;
/// Shards may be dispatched up to this many checkpoints beyond the first incomplete one. Bounds the
/// results that an aggregator must buffer.
const CHECKPOINTS_AHEAD: usize = 8;
/// Longer execution times are cut to this, so that one false claim cannot distort the mean for
/// long.
const MAX_SHARD_TIME: Duration = Duration::from_secs(3600);
/// Doublings of the patience for overdue shards, at most.
const MAX_PATIENCE_DOUBLINGS: u32 = 8;

/// A shard to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardDispatch {
    pub shard: ShardId,
    /// Number of earlier attempts.
    pub attempt: u32,
    pub recipient: ShardRecipient,
}

/// The kind of agent that executes a dispatched shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardRecipient {
    /// Any worker of the job's target.
    Worker,
    /// A verifier, because workers have failed at the shard.
    Verifier,
}

/// The dispatch state of a job's shards.
#[derive(Debug)]
pub struct Dispatcher<'a> {
    plan: &'a Plan,
    unstarted: UnstartedShards<'a>,
    /// Shards to dispatch again, with the number of their next attempt.
    retries: VecDeque<(ShardId, u32)>,
    /// Dispatched without a result yet.
    in_flight: BTreeMap<ShardId, InFlightAttempt>,
    /// Where the first result of each completed shard came from.
    completed: HashMap<ShardId, ResultOrigin>,
    /// The agents that returned results; [`ResultOrigin`] refers to them by index.
    agents: Vec<AgentId>,
    prefix: CompletedPrefix,
    shard_time: MovingAverage,
    /// Total time in which the job had no live agent.
    starved: Duration,
    exhausted: Option<ShardId>,
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
    attempt: u32,
    /// When it was dispatched, by [`Dispatcher::patience_clock`].
    since: Duration,
}

#[derive(Debug, Clone, Copy)]
struct ResultOrigin {
    /// Index into [`Dispatcher::agents`].
    agent: usize,
    attempt: u32,
}

/// The longest gapless run of completed iterations from iteration 0 on.
#[derive(Debug, Default)]
struct CompletedPrefix {
    /// First iteration that is not completed.
    end: u64,
    /// Completed ranges beyond the first gap: start to end.
    beyond: BTreeMap<u64, u64>,
}

impl CompletedPrefix {
    fn add(&mut self, start: u64, end: u64) {
        self.beyond.insert(start, end);
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
            retries: VecDeque::new(),
            in_flight: BTreeMap::new(),
            completed: HashMap::new(),
            agents: Vec::new(),
            prefix: CompletedPrefix::default(),
            shard_time: MovingAverage::default(),
            starved: Duration::ZERO,
            exhausted: None,
        }
    }

    /// Updates the state with a result or a verdict.
    pub fn apply(&mut self, event: ShardEvent) {
        match event {
            ShardEvent::Result { shard, agent, wall_us } => self.complete(shard, &agent, wall_us),
            ShardEvent::Verdict { shard, agent, outcome } => self.judge(shard, &agent, outcome),
        }
    }

    /// Sets the total time in which the job has had no live agent.
    pub fn set_starved_time(&mut self, total: Duration) {
        self.starved = total;
    }

    /// Queues shards for another attempt that have been in flight for longer than `patience`, which
    /// doubles with every attempt.
    pub fn requeue_overdue(&mut self, now: Duration, patience: Duration) {
        let is_overdue = |in_flight: &InFlightAttempt| {
            let waited = self.patience_clock(in_flight.attempt, now).saturating_sub(in_flight.since);
            waited > patience * (1 << in_flight.attempt.min(MAX_PATIENCE_DOUBLINGS))
        };
        let overdue: Vec<_> = self
            .in_flight
            .iter()
            .filter(|(_, in_flight)| is_overdue(in_flight))
            .map(|(shard, in_flight)| (*shard, in_flight.attempt))
            .collect();
        for (shard, attempt) in overdue {
            self.in_flight.remove(&shard);
            self.retries.push_back((shard, attempt + 1));
        }
    }

    /// Returns the shards to publish now, so that at most `window` are in flight, and counts them
    /// as in flight.
    pub fn dispatch(&mut self, window: usize, now: Duration) -> Vec<ShardDispatch> {
        let mut dispatches = Vec::new();
        while self.in_flight.len() < window {
            let Some((shard, attempt)) = self.next_attempt() else { break };
            if attempt >= MAX_ATTEMPTS {
                self.exhausted = Some(shard);
                break;
            }
            let recipient =
                if attempt < WORKER_ATTEMPTS { ShardRecipient::Worker } else { ShardRecipient::Verifier };
            let since = self.patience_clock(attempt, now);
            self.in_flight.insert(shard, InFlightAttempt { attempt, since });
            dispatches.push(ShardDispatch { shard, attempt, recipient });
        }
        dispatches
    }

    /// Mean execution time of a shard; `None` before the first result.
    pub fn mean_shard_time(&self) -> Option<Duration> {
        self.shard_time.mean()
    }

    /// A shard that has used up [`MAX_ATTEMPTS`]: the job must fail.
    pub fn exhausted(&self) -> Option<ShardId> {
        self.exhausted
    }

    /// Number of shards in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn complete(&mut self, shard: ShardId, agent: &AgentId, wall_us: u64) {
        let attempt = self.in_flight.remove(&shard).map_or(0, |in_flight| in_flight.attempt);
        self.retries.retain(|(retried, _)| *retried != shard);
        self.shard_time.add(Duration::from_micros(wall_us).min(MAX_SHARD_TIME));
        let range = self.plan.range(shard);
        self.prefix.add(range.start, range.end);
        let agent = self.agent_index(agent);
        self.completed.entry(shard).or_insert(ResultOrigin { agent, attempt });
    }

    fn judge(&mut self, shard: ShardId, agent: &AgentId, outcome: VerdictOutcome) {
        match outcome {
            VerdictOutcome::Confirmed | VerdictOutcome::Undecided => {}
            VerdictOutcome::Rejected => {
                let agent = self.agent_index(agent);
                if self.completed.get(&shard).is_some_and(|origin| origin.agent == agent) {
                    self.retry_completed(shard);
                }
            }
            VerdictOutcome::Refuted => {
                let agent = self.agent_index(agent);
                let by_agent = self.completed.iter().filter(|(_, origin)| origin.agent == agent);
                let mut shards: Vec<_> = by_agent.map(|(shard, _)| *shard).collect();
                shards.sort_by_key(|shard| shard.leaves().start);
                shards.into_iter().for_each(|shard| self.retry_completed(shard));
            }
        }
    }

    fn agent_index(&mut self, agent: &AgentId) -> usize {
        self.agents.iter().position(|known| known == agent).unwrap_or_else(|| {
            self.agents.push(agent.clone());
            self.agents.len() - 1
        })
    }

    fn retry_completed(&mut self, shard: ShardId) {
        if let Some(origin) = self.completed.remove(&shard) {
            self.retries.push_back((shard, origin.attempt + 1));
        }
    }

    /// The clock that measures a shard's patience. It stands still for first attempts while the job
    /// has no live agent. Later attempts keep running: the next one may go to a verifier, which
    /// needs no worker.
    fn patience_clock(&self, attempt: u32, now: Duration) -> Duration {
        if attempt == 0 { now.saturating_sub(self.starved) } else { now }
    }

    /// The next shard to dispatch and the number of its attempt.
    fn next_attempt(&mut self) -> Option<(ShardId, u32)> {
        if let Some(retry) = self.retries.pop_front() {
            return Some(retry);
        }
        let horizon = self.horizon();
        while let Some(&shard) = self.unstarted.0.peek() {
            // A planner that takes a job over knows results of shards that it did not dispatch.
            let is_completed = self.completed.contains_key(&shard);
            if !is_completed && self.plan.range(shard).end > horizon {
                return None;
            }
            self.unstarted.0.next();
            if !is_completed {
                return Some((shard, 0));
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

#[cfg(test)]
mod tests;
