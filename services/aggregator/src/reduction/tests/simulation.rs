//! A job's messages as the streams hold them, an aggregator that follows them, and a planner that
//! follows its outcomes.

use std::collections::BTreeSet;

use forge_contract::task::Claim;

use super::*;
use crate::test_job::unsigned_verdict;

/// One aggregator and what the streams hold.
pub(super) struct Simulation<'a> {
    pub job: &'a TestJob,
    pub reduction: JobReduction,
    results: Vec<AttestedResult>,
    verdicts: Vec<Verdict>,
    /// Shards that the planner believes accepted.
    pub accepted: BTreeSet<ShardId>,
    pub restarts: usize,
}

impl<'a> Simulation<'a> {
    pub fn new(job: &'a TestJob) -> Self {
        Self {
            job,
            reduction: reduction(job),
            results: Vec::new(),
            verdicts: Vec::new(),
            accepted: BTreeSet::new(),
            restarts: 0,
        }
    }

    pub fn return_result(&mut self, result: AttestedResult) -> ResultDisposition {
        self.results.push(result.clone());
        let disposition = receive(&mut self.reduction, result);
        self.follow_outcomes();
        disposition
    }

    pub fn return_verdict(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict.clone());
        let effect = self.reduction.apply_verdict(verdict.statement.shard_id, &verdict).unwrap();
        if effect == VerdictEffect::RestartRequired {
            self.restarts += 1;
            let reduction = std::mem::replace(&mut self.reduction, reduction(self.job));
            self.reduction = reduction.restart();
            replay(&mut self.reduction, &self.results, &self.verdicts);
        }
        self.follow_outcomes();
    }

    /// Answers every verification that is requested, until none is.
    pub fn verify_all(&mut self) {
        loop {
            let requests = self.reduction.take_verification_requests();
            if requests.is_empty() {
                return;
            }
            for VerificationRequest { shard, task, claim } in requests {
                self.return_verdict(self.true_verdict(shard, task, &claim));
            }
        }
    }

    fn true_verdict(&self, shard: ShardId, task: TaskId, claim: &Claim) -> Verdict {
        let right = self.job.truth[shard.index as usize].1;
        let outcome =
            if right == claim.result_hash { VerdictOutcome::Confirmed } else { VerdictOutcome::Refuted };
        unsigned_verdict(shard, task, claim, outcome)
    }

    /// An aggregator that takes the job over now.
    pub fn successor(&self) -> JobReduction {
        let mut successor = reduction(self.job);
        replay(&mut successor, &self.results, &self.verdicts);
        successor.reopen(self.accepted.clone());
        successor
    }

    /// Replaces the aggregator by its successor.
    pub fn take_over(&mut self) {
        self.reduction = self.successor();
        self.follow_outcomes();
    }

    fn follow_outcomes(&mut self) {
        for outcome in self.reduction.take_outcomes() {
            match outcome {
                ShardOutcome::Accepted { shard_id, .. } => drop(self.accepted.insert(shard_id)),
                ShardOutcome::Reopened { shard_id } => drop(self.accepted.remove(&shard_id)),
                _ => {}
            }
        }
        let accepted = self.reduction.accepted.values().map(|accepted| accepted.statement.shard_id);
        let is_open =
            |shard: &ShardId| self.job.context.position(*shard).is_some_and(|at| at < self.reduction.shards);
        let believed: BTreeSet<_> = self.accepted.iter().copied().filter(is_open).collect();
        assert_eq!(believed, accepted.collect(), "the planner follows the aggregator");
    }
}

/// Receives a result without examining its signature and content, which the caller knows.
fn receive(reduction: &mut JobReduction, result: AttestedResult) -> ResultDisposition {
    let pool = result.statement().pool.clone();
    let decode = |_: &JobContext, result: &AttestedResult| Ok(ShardResult::decode(&result.bytes).unwrap());
    reduction.receive_with(&pool, result, |_, _| false, decode).unwrap()
}

fn replay(reduction: &mut JobReduction, results: &[AttestedResult], verdicts: &[Verdict]) {
    for verdict in verdicts {
        let effect = reduction.apply_verdict(verdict.statement.shard_id, verdict).unwrap();
        assert_eq!(effect, VerdictEffect::Recorded, "nothing is accepted yet");
    }
    for result in results {
        receive(reduction, result.clone());
    }
}
