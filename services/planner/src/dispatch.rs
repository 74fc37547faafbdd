//! Which shards of a job are handed out next. Decides and does nothing: told of results and verdicts in the order of their
//! stream, it gives the same answers to every planner that takes the job over.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use forge_contract::{agent::AgentId, shard::ShardId, verdict::VerdictOutcome};
use forge_kernel::plan::Plan;
use forge_service::moving_average::MovingAverage;

/// After so many attempts of workers a shard is given to a verifier.
const WORKER_ATTEMPTS: u32 = 2;
/// After so many attempts in all the job fails.
const MAX_ATTEMPTS: u32 = 6;
/// Upper bound of a shard's execution time in the average: agents report it themselves.
const MAX_WALL: Duration = Duration::from_secs(3600);
/// Checkpoints beyond the first incomplete one whose shards may be handed out: bounds what an aggregator has to hold.
const CHECKPOINTS_AHEAD: usize = 8;

/// A shard to hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handout {
    /// The shard.
    pub shard: ShardId,
    /// How many times it had been handed out before.
    pub attempt: u32,
    /// To whom.
    pub to: Recipient,
}

/// Who is to execute a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient {
    /// Whichever worker takes it.
    Worker,
    /// A verifier: workers have failed at it.
    Verifier,
}

/// The state of a job's shards.
#[derive(Debug)]
pub struct Dispatcher<'a> {
    plan: &'a Plan,
    fresh: Fresh<'a>,
    /// Shards to hand out again.
    again: VecDeque<(ShardId, u32)>,
    /// Handed out and not returned.
    out: BTreeMap<ShardId, Out>,
    /// Who returned a shard, and at which attempt.
    returned: HashMap<ShardId, (u32, u32)>,
    agents: Vec<AgentId>,
    /// The first iterations, up to this one, have all been returned.
    prefix: Prefix,
    wall: MovingAverage,
    /// Time in which there was nobody to take a shard.
    unattended: Duration,
    exhausted: Option<ShardId>,
}

/// Shards in the order of the plan that have not been handed out, with one to look at.
struct Fresh<'a> {
    shards: Box<dyn Iterator<Item = ShardId> + Send + 'a>,
    next: Option<ShardId>,
}

impl std::fmt::Debug for Fresh<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fresh({:?})", self.next)
    }
}

#[derive(Debug, Clone, Copy)]
struct Out {
    attempt: u32,
    /// By [`Dispatcher::clock`].
    since: Duration,
}

/// Iterations from 0 on that have been returned without a gap.
#[derive(Debug, Default)]
struct Prefix {
    end: u64,
    /// Ranges beyond a gap: start and end.
    beyond: BTreeMap<u64, u64>,
}

impl Prefix {
    fn add(&mut self, start: u64, end: u64) {
        self.beyond.insert(start, end);
        while let Some(end) = self.beyond.remove(&self.end) {
            self.end = end;
        }
    }
}

impl<'a> Dispatcher<'a> {
    /// Before the first shard.
    pub fn new(plan: &'a Plan) -> Self {
        let mut shards: Box<dyn Iterator<Item = ShardId> + Send + 'a> = Box::new(plan.shards());
        let next = shards.next();
        Self {
            plan,
            fresh: Fresh { shards, next },
            again: VecDeque::new(),
            out: BTreeMap::new(),
            returned: HashMap::new(),
            agents: Vec::new(),
            prefix: Prefix::default(),
            wall: MovingAverage::default(),
            unattended: Duration::ZERO,
            exhausted: None,
        }
    }

    /// A result of a shard has come; `wall_us` is the time it took, by what its agent says.
    pub fn returned(&mut self, shard: ShardId, agent: &AgentId, wall_us: u64) {
        let attempt = self.out.remove(&shard).map_or(0, |out| out.attempt);
        self.again.retain(|(again, _)| *again != shard);
        self.wall.add(Duration::from_micros(wall_us).min(MAX_WALL));
        let range = self.plan.range(shard);
        self.prefix.add(range.start, range.end);
        let agent = self.agent(agent);
        self.returned.entry(shard).or_insert((agent, attempt));
    }

    fn agent(&mut self, agent: &AgentId) -> u32 {
        let known = self.agents.iter().position(|known| known == agent);
        known.unwrap_or_else(|| {
            self.agents.push(agent.clone());
            self.agents.len() - 1
        }) as u32
    }

    /// A verdict about a result has come.
    pub fn judged(&mut self, shard: ShardId, agent: &AgentId, outcome: VerdictOutcome) {
        match outcome {
            VerdictOutcome::Confirmed | VerdictOutcome::Undecided => {}
            VerdictOutcome::Rejected => {
                let number = self.agent(agent);
                if self.returned.get(&shard).is_some_and(|(by, _)| *by == number) {
                    self.hand_out_again(shard);
                }
            }
            VerdictOutcome::Refuted => {
                let number = self.agent(agent);
                let mut theirs: Vec<_> = self
                    .returned
                    .iter()
                    .filter(|(_, (by, _))| *by == number)
                    .map(|(shard, _)| *shard)
                    .collect();
                theirs.sort_by_key(|shard| shard.leaves().start);
                theirs.into_iter().for_each(|shard| self.hand_out_again(shard));
            }
        }
    }

    fn hand_out_again(&mut self, shard: ShardId) {
        if let Some((_, attempt)) = self.returned.remove(&shard) {
            self.again.push_back((shard, attempt + 1));
        }
    }

    /// For so long in all there has been no worker to take a shard.
    pub fn unattended(&mut self, total: Duration) {
        self.unattended = total;
    }

    /// The time by which a shard's patience is measured. A first attempt waits for workers as long as there are none; of what
    /// workers have failed at, a verifier gets hold in any case.
    fn clock(&self, attempt: u32, now: Duration) -> Duration {
        if attempt == 0 { now.saturating_sub(self.unattended) } else { now }
    }

    /// Shards that were handed out before `now` − `patience` and have not come back are handed out again; with every
    /// attempt the patience doubles.
    pub fn overdue(&mut self, now: Duration, patience: Duration) {
        let late = |out: &Out| {
            let waited = self.clock(out.attempt, now).saturating_sub(out.since);
            waited > patience * (1 << out.attempt.min(8))
        };
        let late: Vec<_> =
            self.out.iter().filter(|(_, out)| late(out)).map(|(id, out)| (*id, *out)).collect();
        for (shard, out) in late {
            self.out.remove(&shard);
            self.again.push_back((shard, out.attempt + 1));
        }
    }

    /// The shards to hand out now, so that at most `window` are out.
    pub fn take(&mut self, window: usize, now: Duration) -> Vec<Handout> {
        let mut handouts = Vec::new();
        while self.out.len() < window {
            let Some((shard, attempt)) = self.next() else { break };
            if attempt >= MAX_ATTEMPTS {
                self.exhausted = Some(shard);
                break;
            }
            let to = if attempt < WORKER_ATTEMPTS { Recipient::Worker } else { Recipient::Verifier };
            self.out.insert(shard, Out { attempt, since: self.clock(attempt, now) });
            handouts.push(Handout { shard, attempt, to });
        }
        handouts
    }

    fn next(&mut self) -> Option<(ShardId, u32)> {
        if let Some(again) = self.again.pop_front() {
            return Some(again);
        }
        while let Some(shard) = self.fresh.next {
            if !self.returned.contains_key(&shard) && self.plan.range(shard).end > self.horizon() {
                return None;
            }
            self.fresh.next = self.fresh.shards.next();
            // A planner that takes a job over sees results of shards that it has not handed out.
            if !self.returned.contains_key(&shard) {
                return Some((shard, 0));
            }
        }
        None
    }

    /// The iteration up to which shards may be handed out.
    fn horizon(&self) -> u64 {
        let checkpoints = self.plan.checkpoints();
        let incomplete = checkpoints.partition_point(|&checkpoint| checkpoint <= self.prefix.end);
        checkpoints.get(incomplete + CHECKPOINTS_AHEAD).copied().unwrap_or(u64::MAX)
    }

    /// Mean time of a shard, once one is known.
    pub fn mean_wall(&self) -> Option<Duration> {
        self.wall.mean()
    }

    /// A shard that has failed so often that the job has to.
    pub fn exhausted(&self) -> Option<ShardId> {
        self.exhausted
    }

    /// Shards handed out and not returned.
    pub fn outstanding(&self) -> usize {
        self.out.len()
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::{agent::Identity, shard::LEAF_ITERATIONS};

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn agent(number: u8) -> AgentId {
        Identity::from_random([number; 32]).id().clone()
    }

    fn leaf(index: u64) -> ShardId {
        ShardId { height: 0, index }
    }

    fn indexes(handouts: &[Handout]) -> Vec<u64> {
        handouts.iter().map(|handout| handout.shard.index).collect()
    }

    #[test]
    fn the_window_is_topped_up_as_results_come() {
        let plan = Plan::new(10 * LEAF_ITERATIONS, 1, None);
        let mut dispatcher = Dispatcher::new(&plan);
        assert_eq!(indexes(&dispatcher.take(3, NOW)), [0, 1, 2]);
        assert_eq!(indexes(&dispatcher.take(3, NOW)), [0; 0]);
        dispatcher.returned(leaf(1), &agent(1), 1000);
        dispatcher.returned(leaf(1), &agent(2), 1000);
        assert_eq!(indexes(&dispatcher.take(3, NOW)), [3]);
        assert_eq!(indexes(&dispatcher.take(100, NOW)), [4, 5, 6, 7, 8, 9]);
        assert_eq!(dispatcher.outstanding(), 9);
        assert_eq!(dispatcher.mean_wall(), Some(Duration::from_millis(1)));
    }

    #[test]
    fn a_planner_that_takes_over_hands_out_what_is_missing() {
        let plan = Plan::new(5 * LEAF_ITERATIONS, 1, None);
        let mut dispatcher = Dispatcher::new(&plan);
        [0, 1, 3].iter().for_each(|&index| dispatcher.returned(leaf(index), &agent(1), 1));
        assert_eq!(indexes(&dispatcher.take(100, NOW)), [2, 4]);
    }

    #[test]
    fn all_shards_of_a_refuted_agent_are_executed_again() {
        let plan = Plan::new(4 * LEAF_ITERATIONS, 1, None);
        let mut dispatcher = Dispatcher::new(&plan);
        dispatcher.take(100, NOW);
        for (index, by) in [(0, 1), (1, 2), (2, 1), (3, 2)] {
            dispatcher.returned(leaf(index), &agent(by), 1);
        }
        dispatcher.judged(leaf(2), &agent(1), VerdictOutcome::Refuted);
        let handouts = dispatcher.take(100, NOW);
        assert_eq!(indexes(&handouts), [0, 2]);
        assert!(handouts.iter().all(|handout| handout.attempt == 1 && handout.to == Recipient::Worker));
    }

    #[test]
    fn a_shard_goes_to_a_verifier_when_workers_fail_and_ends_the_job_when_all_do() {
        let plan = Plan::new(1, 1, None);
        let mut dispatcher = Dispatcher::new(&plan);
        let mut recipients = Vec::new();
        for _ in 0..MAX_ATTEMPTS {
            recipients.extend(dispatcher.take(1, NOW).into_iter().map(|handout| handout.to));
            dispatcher.returned(leaf(0), &agent(1), 1);
            dispatcher.judged(leaf(0), &agent(1), VerdictOutcome::Rejected);
        }
        use Recipient::{Verifier, Worker};
        assert_eq!(recipients, [Worker, Worker, Verifier, Verifier, Verifier, Verifier]);
        assert_eq!((dispatcher.take(1, NOW), dispatcher.exhausted()), (Vec::new(), Some(leaf(0))));
    }

    #[test]
    fn overdue_shards_are_handed_out_again_with_more_patience() {
        let plan = Plan::new(2 * LEAF_ITERATIONS, 1, None);
        let mut dispatcher = Dispatcher::new(&plan);
        let (patience, second) = (Duration::from_secs(10), Duration::from_secs(1));
        dispatcher.take(2, NOW);
        dispatcher.returned(leaf(0), &agent(1), 1);
        dispatcher.overdue(10 * second, patience);
        assert_eq!(dispatcher.take(9, 10 * second), []);
        dispatcher.overdue(11 * second, patience);
        let handouts = dispatcher.take(9, 11 * second);
        assert_eq!((indexes(&handouts), handouts[0].attempt), (vec![1], 1));
        dispatcher.overdue(31 * second, patience);
        assert_eq!(dispatcher.take(9, 31 * second), []);
    }

    #[test]
    fn what_nobody_could_take_is_not_overdue_but_what_workers_failed_at_is() {
        let plan = Plan::new(2 * LEAF_ITERATIONS, 1, None);
        let mut dispatcher = Dispatcher::new(&plan);
        let (patience, second) = (Duration::from_secs(10), Duration::from_secs(1));
        dispatcher.take(2, NOW);
        dispatcher.returned(leaf(0), &agent(1), 1);
        dispatcher.judged(leaf(0), &agent(1), VerdictOutcome::Rejected);
        assert_eq!(dispatcher.take(2, 5 * second)[0].attempt, 1);
        // Then the worker goes.
        dispatcher.unattended(95 * second);
        dispatcher.overdue(100 * second, patience);
        let handouts = dispatcher.take(2, 100 * second);
        assert_eq!((indexes(&handouts), handouts[0].to), (vec![0], Recipient::Verifier));
        // And another comes.
        dispatcher.overdue(106 * second, patience);
        assert_eq!(indexes(&dispatcher.take(2, 106 * second)), [1]);
    }

    #[test]
    fn nobody_runs_far_beyond_a_checkpoint() {
        let plan = Plan::new(1000 * LEAF_ITERATIONS, 1, Some(1));
        let mut dispatcher = Dispatcher::new(&plan);
        let handouts = dispatcher.take(10_000, NOW);
        // Checkpoints 1, 2, 3, 4, 5, 6, 7, 8, 10, 12: the ninth beyond the first.
        assert_eq!(plan.range(handouts.last().unwrap().shard).end, 10 * LEAF_ITERATIONS);
        dispatcher.returned(leaf(0), &agent(1), 1);
        assert_eq!(plan.range(dispatcher.take(10_000, NOW).last().unwrap().shard).end, 12 * LEAF_ITERATIONS);
    }
}
