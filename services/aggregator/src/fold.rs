//! The fold: takes in a job's results in any order, merges them by segments between checkpoints, and says which of them are
//! to be checked. A pure function of what it is told; memory does not grow with iterations, and by some 200 bytes a shard.

mod report;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use forge_contract::{
    agent::AgentId,
    artifact::RefutedResult,
    digest::Digest,
    shard::ShardId,
    shard_result::ShardResult,
    task::{Attestation, Claim},
    verdict::{Verdict, VerdictOutcome},
};
use forge_documents::Job;
use forge_kernel::{
    convergence::{ConvergenceMonitor, StopReason},
    reduction::{Reduction, ShapeMismatch},
    verification,
};

/// The state of a job's results.
#[derive(Debug)]
pub struct Fold {
    job: Arc<Job>,
    key: Vec<u8>,
    share: f64,
    /// The shards of the plan, in order.
    shards: Vec<ShardId>,
    accepted: Vec<Option<Attestation>>,
    /// Where segments end: positions in `shards`. At all but the last, convergence is tested, or at all.
    ends: Vec<usize>,
    /// Segments of which some results are there and not all.
    open: BTreeMap<usize, Segment>,
    /// Segments merged so far.
    closed: usize,
    merged: Reduction,
    monitor: Option<ConvergenceMonitor>,
    /// Why and with how many shards the run ends, once it is known.
    ending: Option<(StopReason, usize)>,
    taken: usize,
    iterations: u64,
    /// Positions of the shards that policy wants checked.
    chosen: BTreeSet<usize>,
    /// Results to have checked, by position: that of the accepted result, and of any other that contradicts it.
    checks: BTreeMap<(usize, AgentId), Check>,
    /// Checks that have not come out.
    waiting: BTreeSet<(usize, AgentId)>,
    /// Checks that have not been asked for.
    unasked: Vec<(usize, AgentId)>,
    /// Results that a verifier confirmed, and by what: when a fold begins anew, the stream tells of them before it is
    /// known that their shards are to be checked, and nobody judges them a second time.
    confirmed: BTreeMap<(usize, AgentId, Digest), Executor>,
    excluded: BTreeSet<AgentId>,
    refuted: Vec<RefutedResult>,
}

#[derive(Debug)]
struct Segment {
    reduction: Reduction,
    results: usize,
}

#[derive(Debug)]
struct Check {
    claim: Claim,
    /// What confirmed it.
    confirmed: Option<Executor>,
}

/// What executed a shard: its backend, and the device where that is not the CPU.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Executor {
    backend: String,
    adapter: Option<String>,
}

/// What became of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Accepted,
    /// Its shard has been returned before, with the same bytes; or it lies beyond the end of the run.
    NotNeeded,
    /// Its shard has been returned before, with other bytes: both are to be checked.
    Contradicts,
    /// It cannot be of this job, and why.
    Wrong(String),
}

/// What a verdict means for the fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// It was noted.
    Noted,
    /// A result that counted does not any more: the fold has to begin anew, with [`Fold::excluded`].
    BeginAnew,
    /// Nobody can tell which result of the shard is right.
    Undecided,
}

impl Fold {
    /// Before the first result. `key` is the secret by which shards are chosen for a check; results of `excluded` agents
    /// do not count.
    pub fn new(job: Arc<Job>, key: &[u8], excluded: BTreeSet<AgentId>) -> Self {
        let request = &job.request;
        let shards: Vec<_> = request.plan.shards().collect();
        let position = |iteration: u64| shards.partition_point(|&id| request.plan.range(id).end <= iteration);
        let mut ends: Vec<_> = request.plan.checkpoints().iter().map(|&end| position(end)).collect();
        if ends.last() != Some(&shards.len()) {
            ends.push(shards.len());
        }
        let mut fold = Self {
            key: key.to_vec(),
            share: verification::ratio(&request.envelope.policy),
            accepted: vec![None; shards.len()],
            ends,
            open: BTreeMap::new(),
            closed: 0,
            merged: Reduction::new(&request.program),
            monitor: request.monitor(),
            ending: None,
            taken: 0,
            iterations: 0,
            chosen: BTreeSet::new(),
            checks: BTreeMap::new(),
            waiting: BTreeSet::new(),
            unasked: Vec::new(),
            confirmed: BTreeMap::new(),
            excluded,
            refuted: Vec::new(),
            shards,
            job,
        };
        // Where a run that may converge ends is not known yet, unless all shards are checked anyway.
        if fold.monitor.is_none() || fold.share >= 1.0 {
            fold.choose(fold.shards.len());
        }
        fold
    }

    /// Chooses the shards to check, of a run of so many shards.
    fn choose(&mut self, shards: usize) {
        let count = verification::sample_size(self.share, shards as u64);
        let chosen = verification::select_shards(
            &self.key,
            &self.job.id,
            self.shards[..shards].iter().copied(),
            count,
        );
        self.chosen = chosen.into_iter().collect();
        for position in self.chosen.clone() {
            if let Some(attestation) = self.accepted[position].clone() {
                self.check(position, &attestation);
            }
        }
    }

    /// The job.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Agents whose results do not count.
    pub fn excluded(&self) -> &BTreeSet<AgentId> {
        &self.excluded
    }

    /// Whether this result of a shard is the one that counts.
    pub fn counts(&self, shard: ShardId, attestation: &Attestation) -> bool {
        let accepted = self.position(shard).and_then(|position| self.accepted[position].as_ref());
        accepted
            .is_some_and(|a| a.agent_id == attestation.agent_id && a.result_hash == attestation.result_hash)
    }

    /// Whether the result of a shard is still wanted.
    pub fn wants(&self, shard: ShardId) -> bool {
        self.position(shard).is_some_and(|position| self.accepted[position].is_none())
    }

    fn position(&self, shard: ShardId) -> Option<usize> {
        let start = shard.leaves().start;
        self.shards
            .binary_search_by_key(&start, |shard| shard.leaves().start)
            .ok()
            .filter(|&at| self.shards[at] == shard)
    }

    /// Takes in a result whose bytes have the attested hash and whose signature is right.
    pub fn take(&mut self, shard: ShardId, attestation: Attestation, result: &ShardResult) -> Taken {
        let Some(position) = self.position(shard) else {
            // Once the run has ended, shards beyond its end are forgotten.
            return match self.ending {
                Some(_) => Taken::NotNeeded,
                None => Taken::Wrong(format!("shard {shard} is not in the plan")),
            };
        };
        if attestation.program != self.job.request.program_digest {
            return Taken::Wrong(format!("it is of program {}", attestation.program));
        }
        if let Some(accepted) = &self.accepted[position] {
            if accepted.result_hash == attestation.result_hash || accepted.agent_id == attestation.agent_id {
                return Taken::NotNeeded;
            }
            let accepted = accepted.clone();
            self.check(position, &accepted);
            self.check(position, &attestation);
            return Taken::Contradicts;
        }
        let planned = self.job.request.shard(shard).iterations;
        if result.iterations != planned {
            return Taken::Wrong(format!(
                "it has {} iterations, where {planned} were asked for",
                result.iterations
            ));
        }
        if let Err(mismatch) = self.merge(position, result) {
            return Taken::Wrong(mismatch.to_string());
        }
        self.taken += 1;
        self.iterations += planned;
        if self.chosen.contains(&position) {
            self.check(position, &attestation);
        }
        self.accepted[position] = Some(attestation);
        self.close_segments();
        Taken::Accepted
    }

    fn merge(&mut self, position: usize, result: &ShardResult) -> Result<(), ShapeMismatch> {
        let segment = self.ends.partition_point(|&end| end <= position);
        let program = &self.job.request.program;
        let fresh = || Segment { reduction: Reduction::new(program), results: 0 };
        let segment = self.open.entry(segment).or_insert_with(fresh);
        segment.reduction.add(result)?;
        segment.results += 1;
        Ok(())
    }

    /// Merges the segments that are complete and next in order, and ends the run where it converges.
    fn close_segments(&mut self) {
        while self.ending.is_none() {
            let start = self.closed.checked_sub(1).map_or(0, |last| self.ends[last]);
            let end = self.ends[self.closed];
            if self.open.get(&self.closed).is_none_or(|segment| segment.results < end - start) {
                return;
            }
            if let Some(segment) = self.open.remove(&self.closed) {
                let merged = self.merged.add(&segment.reduction.result());
                merged.expect("a segment has the shape of its program");
            }
            self.closed += 1;
            let tested = self.closed <= self.job.request.plan.checkpoints().len();
            let stopped = self.monitor.as_mut().filter(|_| tested);
            let stopped = stopped.and_then(|monitor| monitor.test(&self.merged.result()));
            self.ending = match stopped {
                Some(reason) => Some((reason, end)),
                None if self.closed == self.ends.len() => Some((StopReason::BudgetExhausted, end)),
                None => None,
            };
            if self.ending.is_some() {
                self.end_at(end);
            }
        }
    }

    /// Forgets what lies beyond the end of the run.
    fn end_at(&mut self, end: usize) {
        self.open.clear();
        self.accepted.truncate(end);
        self.shards.truncate(end);
        self.checks.retain(|(position, _), _| *position < end);
        self.waiting.retain(|(position, _)| *position < end);
        self.taken = end;
        self.iterations = self.merged.iterations();
        self.choose(end);
    }

    /// Takes in a verdict whose signature is right.
    pub fn judge(&mut self, shard: ShardId, verdict: &Verdict) -> Meaning {
        let Some(position) = self.position(shard) else { return Meaning::Noted };
        match verdict.outcome {
            VerdictOutcome::Rejected => Meaning::Noted,
            VerdictOutcome::Undecided => Meaning::Undecided,
            VerdictOutcome::Confirmed => {
                let Verdict { agent_id, result_hash, backend, adapter, .. } = verdict;
                let executor = Executor { backend: backend.clone(), adapter: adapter.clone() };
                let key = (position, agent_id.clone());
                let claimed = self.checks.get_mut(&key);
                if let Some(check) = claimed.filter(|check| check.claim.result_hash == *result_hash) {
                    check.confirmed = Some(executor.clone());
                    self.waiting.remove(&key);
                }
                self.confirmed.insert((position, agent_id.clone(), *result_hash), executor);
                Meaning::Noted
            }
            VerdictOutcome::Refuted => self.refute(position, shard, verdict),
        }
    }

    fn refute(&mut self, position: usize, shard: ShardId, verdict: &Verdict) -> Meaning {
        let key = (position, verdict.agent_id.clone());
        self.checks.remove(&key);
        self.waiting.remove(&key);
        let known = self.refuted.iter().any(|r| r.shard_id == shard && r.agent_id == verdict.agent_id);
        if !known {
            self.refuted.push(RefutedResult {
                shard_id: shard,
                agent_id: verdict.agent_id.clone(),
                claimed: verdict.result_hash,
                correct: verdict.correct,
                verifier_id: verdict.verifier_id.clone(),
                signature: verdict.signature.clone(),
            });
        }
        self.excluded.insert(verdict.agent_id.clone());
        let counted = |accepted: &Option<Attestation>| {
            accepted.as_ref().is_some_and(|accepted| accepted.agent_id == verdict.agent_id)
        };
        if self.accepted.iter().any(counted) { Meaning::BeginAnew } else { Meaning::Noted }
    }

    /// Wants a result checked.
    fn check(&mut self, position: usize, attestation: &Attestation) {
        let Attestation { agent_id, backend, adapter, result_hash, .. } = attestation.clone();
        let confirmed = self.confirmed.get(&(position, agent_id.clone(), result_hash)).cloned();
        let claim = Claim { agent_id: agent_id.clone(), backend, adapter, result_hash };
        let key = (position, agent_id);
        if let Entry::Vacant(vacant) = self.checks.entry(key.clone()) {
            if confirmed.is_none() {
                self.waiting.insert(key.clone());
                self.unasked.push(key);
            }
            vacant.insert(Check { claim, confirmed });
        }
    }

    /// Results to have checked that have not been asked for; asked for from now on.
    pub fn checks_to_ask(&mut self) -> Vec<(ShardId, Claim)> {
        let unasked = std::mem::take(&mut self.unasked).into_iter();
        let open = unasked.filter(|key| self.waiting.contains(key));
        let asked = open.filter_map(|key| Some((self.shards[key.0], self.checks.get(&key)?.claim.clone())));
        asked.collect()
    }

    /// Whether all results are in, and all checks have come out well.
    pub fn is_complete(&self) -> bool {
        // Cheap before dear: this is asked after every message.
        self.ending.is_some()
            && self.waiting.is_empty()
            && self.chosen.iter().all(|&position| {
                let accepted = self.accepted[position].as_ref();
                let key = accepted.map(|accepted| (position, accepted.agent_id.clone()));
                key.and_then(|key| self.checks.get(&key)).is_some_and(|check| check.confirmed.is_some())
            })
            && self.checks.values().all(|check| check.confirmed.is_some())
    }

    /// The merged result and why the run ended, once it has.
    pub fn result(&self) -> Option<(ShardResult, StopReason)> {
        self.ending.map(|(reason, _)| (self.merged.result(), reason))
    }
}

#[cfg(test)]
mod tests;
