//! The reduction against the kernel's own merge, in every order of arrival and with everything that
//! workers and verifiers may send.

mod invented;
mod memory;
mod orders;
mod pools;
mod protocol;
mod simulation;

use forge_contract::{
    agent::Hardware,
    verdict::{Verdict, VerdictOutcome, VerdictStatement},
};
use forge_kernel::{convergence::StopReason, reduction::merge_results};
use forge_service::memory_budget::MemoryBudget;
use serde_json::{Value, json};

use super::*;
use crate::test_job::{Sender, TestJob, falsified, identity, pool, verdict};

/// The agents of two pools, and their first hand-outs.
const A: Sender = Sender("alpha", 1, 1);
const B: Sender = Sender("beta", 2, 2);

/// Memory in which nothing is kept, but everything may be held.
fn unlimited_memory() -> ResultMemory {
    ResultMemory { max_kept_bytes: 0, budget: MemoryBudget::new(u64::MAX) }
}

fn reduction(job: &TestJob) -> JobReduction {
    JobReduction::new(Arc::clone(&job.context), unlimited_memory())
}

/// Receives a result while nothing is in quarantine.
fn add(
    reduction: &mut JobReduction,
    job: &TestJob,
    sender: Sender,
    position: usize,
    result: &ShardResult,
) -> ResultDisposition {
    let result = job.result(sender, position, result);
    reduction.receive(&pool(sender.0), result, |_, _| false).unwrap()
}

fn judge(
    reduction: &mut JobReduction,
    job: &TestJob,
    sender: Sender,
    position: usize,
    result: &ShardResult,
    outcome: VerdictOutcome,
) -> VerdictEffect {
    let verdict = verdict(&job.statement(sender, position, result), outcome);
    reduction.apply_verdict(job.shard(position), &verdict).unwrap()
}

/// Positions of the shards whose verification has to be requested.
fn requested(reduction: &mut JobReduction) -> Vec<usize> {
    let requests = reduction.take_verification_requests();
    requests.iter().map(|request| request.shard.index as usize).collect()
}

/// Contradictions in the report: position and agent.
fn contradictions(reduction: &JobReduction) -> Vec<(usize, AgentId)> {
    let contradictions = reduction.verification().contradictions.into_iter();
    contradictions
        .map(|result| (result.statement.shard_id.index as usize, result.statement.agent_id))
        .collect()
}

/// A permutation of `0..count`; `step` and `count` are coprime.
fn permutation(count: usize, step: usize) -> Vec<usize> {
    (0..count).map(|number| (number * step + 3) % count).collect()
}

fn is_rejected(disposition: &ResultDisposition) -> bool {
    matches!(disposition, ResultDisposition::Rejected(_))
}

#[test]
fn every_order_of_arrival_gives_the_bytes_of_the_merge_in_plan_order() {
    let job = TestJob::new(13, Value::Null, json!({}));
    let expected = merge_results(&job.context.job.request.program, &job.results).encode();
    for order in [(0..13).collect(), (0..13).rev().collect(), permutation(13, 5), permutation(13, 8)] {
        let mut reduction = reduction(&job);
        for position in order {
            assert!(!reduction.is_complete());
            let disposition = add(&mut reduction, &job, A, position, &job.results[position]);
            assert_eq!(disposition, ResultDisposition::Accepted);
        }
        assert!(reduction.is_complete() && requested(&mut reduction).is_empty());
        let reduced = reduction.reduced_job().unwrap();
        assert_eq!(
            (reduced.merged.encode(), reduced.stop_reason),
            (expected.clone(), StopReason::BudgetExhausted)
        );
        assert_eq!(reduced.progress.iterations_done, 13 * 65_536 - 7);
        assert_eq!(reduced.executions.len(), 13);
    }
}

#[test]
fn run_converges_where_a_run_in_plan_order_does() {
    for (half_width, reason) in [(0.012, StopReason::BandReached), (1e-6, StopReason::BudgetExhausted)] {
        let convergence = json!({"metric": "mean", "relative_half_width": half_width});
        let job = TestJob::new(24, convergence, json!({}));
        let (request, results) = (&job.context.job.request, &job.results);
        let mut monitor = request.monitor().unwrap();
        let converges = |end: &usize| {
            let prefix = merge_results(&request.program, &results[..*end]);
            let is_checkpoint = request.plan.checkpoints().contains(&prefix.iterations);
            is_checkpoint && monitor.test(&prefix).is_some()
        };
        let end = (1..=24).find(converges).unwrap_or(24);
        assert_eq!(end < 24, reason == StopReason::BandReached, "{end}");
        let expected = merge_results(&request.program, &results[..end]).encode();
        for order in [(0..24).collect(), (0..24).rev().collect(), permutation(24, 5), permutation(24, 7)] {
            let mut reduction = reduction(&job);
            for position in order {
                let has_ended = reduction.is_complete();
                let disposition = add(&mut reduction, &job, A, position, &results[position]);
                let expected =
                    if has_ended { ResultDisposition::BeyondRun } else { ResultDisposition::Accepted };
                assert_eq!(disposition, expected);
            }
            let reduced = reduction.reduced_job().unwrap();
            assert_eq!((reduced.merged.encode(), reduced.stop_reason), (expected.clone(), reason));
            assert_eq!((reduced.progress.shards, reduced.progress.shards_done), (end as u64, end as u64));
            assert_eq!(reduced.progress.iterations_done, reduced.merged.iterations);
        }
    }
}

#[test]
fn every_result_has_an_outcome_and_a_task_is_rejected_once() {
    let job = TestJob::new(2, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    let (shard, task) = (job.shard(0), job.task(0, 1));
    for number in 0..3 {
        let mut broken = job.result(A, 0, &job.results[0]);
        broken.bytes = vec![number].into();
        let disposition = reduction.receive(&pool("alpha"), broken, |_, _| false).unwrap();
        assert_eq!(is_rejected(&disposition), number == 0, "{disposition:?}");
    }
    let rejected = ShardOutcome::Rejected { shard_id: shard, task_id: task };
    assert_eq!(reduction.take_outcomes(), [rejected]);
    // Another result of the rejected task does not count; one of the next task does.
    assert_eq!(add(&mut reduction, &job, A, 0, &job.results[0]), ResultDisposition::Redundant);
    let again = Sender("alpha", 1, 3);
    assert_eq!(add(&mut reduction, &job, again, 0, &job.results[0]), ResultDisposition::Accepted);
    let result_bytes = job.results[0].encode().len() as u64;
    let accepted =
        ShardOutcome::Accepted { shard_id: shard, task_id: job.task(0, 3), wall_us: 1, result_bytes };
    assert_eq!(reduction.take_outcomes(), [accepted]);
    for sender in [again, A, B] {
        assert_eq!(add(&mut reduction, &job, sender, 0, &job.results[0]), ResultDisposition::Redundant);
    }
    assert!(reduction.take_outcomes().is_empty() && requested(&mut reduction).is_empty());
    assert_eq!(reduction.progress().shards_done, 1);
}

#[test]
fn rejection_of_one_pool_leaves_the_task_to_another_pool() {
    let job = TestJob::new(2, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    // One worker answers with nonsense and returns the shard to the queue; another one executes it.
    let mut broken = job.result(A, 0, &job.results[0]);
    broken.bytes = vec![1].into();
    assert!(is_rejected(&reduction.receive(&pool("alpha"), broken, |_, _| false).unwrap()));
    let same_task = Sender("beta", 2, 1);
    assert_eq!(add(&mut reduction, &job, same_task, 0, &job.results[0]), ResultDisposition::Accepted);
}

#[test]
fn result_of_a_quarantined_agent_is_rejected_and_its_shard_stays_open() {
    let job = TestJob::new(2, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    let result = job.result(A, 0, &job.results[0]);
    let disposition =
        reduction.receive(&pool("alpha"), result, |_, agent| agent == identity(1).id()).unwrap();
    assert!(is_rejected(&disposition));
    add(&mut reduction, &job, B, 1, &job.results[1]);
    let (shard_id, task_id) = (job.shard(0), job.task(0, 1));
    assert_eq!(reduction.take_outcomes()[0], ShardOutcome::Rejected { shard_id, task_id });
    // An aggregator that died may have accepted both.
    reduction.reopen(BTreeSet::from([shard_id, job.shard(1)]));
    assert_eq!(reduction.take_outcomes(), [ShardOutcome::Reopened { shard_id }]);
}

#[test]
fn contradicting_results_are_both_verified_and_reported() {
    let job = TestJob::new(2, Value::Null, json!({}));
    let (right, wrong) = (&job.results[0], falsified(&job.results[0], 1));
    let mut reduction = reduction(&job);
    add(&mut reduction, &job, A, 0, right);
    add(&mut reduction, &job, A, 1, &job.results[1]);
    let disposition = add(&mut reduction, &job, B, 0, &wrong);
    assert_eq!(disposition, ResultDisposition::Contradicting(identity(1).id().clone()));
    // The same contradiction again is a duplicate, and a third result of the pool is not examined.
    assert_eq!(add(&mut reduction, &job, B, 0, &wrong), ResultDisposition::Redundant);
    let second = add(&mut reduction, &job, Sender("beta", 3, 4), 0, &falsified(right, 2));
    assert!(matches!(second, ResultDisposition::Contradicting(_)));
    assert!(is_rejected(&add(&mut reduction, &job, Sender("beta", 4, 5), 0, &falsified(right, 3))));
    assert!(!reduction.is_complete());
    assert_eq!((requested(&mut reduction), requested(&mut reduction)), (vec![0, 0, 0], vec![]));
    judge(&mut reduction, &job, A, 0, right, VerdictOutcome::Confirmed);
    judge(&mut reduction, &job, Sender("beta", 3, 4), 0, &falsified(right, 2), VerdictOutcome::Refuted);
    assert!(!reduction.is_complete());
    let effect = judge(&mut reduction, &job, B, 0, &wrong, VerdictOutcome::Refuted);
    assert_eq!(effect, VerdictEffect::Recorded);
    assert!(reduction.is_complete());
    let reduced = reduction.reduced_job().unwrap();
    assert_eq!(
        reduced.merged.encode(),
        merge_results(&job.context.job.request.program, &job.results).encode()
    );
    let verification = reduced.verification;
    assert_eq!((verification.refuted.len(), verification.checked.len()), (2, 1));
    assert_eq!(verification.suspect_pools, [pool("beta")]);
    let contradicting: Vec<_> = verification.contradictions.iter().map(|result| &result.statement).collect();
    assert_eq!(contradicting.len(), 2);
    assert!(contradicting.contains(&&job.statement(B, 0, &wrong)));
    assert!(verification.contradictions.iter().all(Attestation::is_signature_valid));
}

#[test]
fn agent_that_contradicts_itself_is_found_out_whichever_result_arrives_first() {
    let job = TestJob::new(2, Value::Null, json!({}));
    let (right, wrong) = (&job.results[0], falsified(&job.results[0], 1));
    let again = Sender("alpha", 1, 9);
    for wrong_first in [false, true] {
        let mut first = reduction(&job);
        let (early, late) = if wrong_first { (&wrong, right) } else { (right, &wrong) };
        add(&mut first, &job, A, 0, early);
        assert!(matches!(add(&mut first, &job, again, 0, late), ResultDisposition::Contradicting(_)));
        assert_eq!(requested(&mut first), [0, 0]);
        let liar = if wrong_first { A } else { again };
        let effect = judge(&mut first, &job, liar, 0, &wrong, VerdictOutcome::Refuted);
        // Also the right result is the pool's, so it counts only if it is confirmed.
        assert_eq!(effect, VerdictEffect::RestartRequired);
        let mut second = first.restart();
        for (position, result) in job.results.iter().enumerate() {
            assert_eq!(add(&mut second, &job, B, position, result), ResultDisposition::Accepted);
        }
        assert_eq!(contradictions(&second), [(0, identity(1).id().clone())]);
    }
}

#[test]
fn job_waits_for_the_verification_of_a_sample() {
    let job = TestJob::new(12, Value::Null, json!({"verify": "spotcheck", "verify_ratio": 0.25}));
    let mut reduction = reduction(&job);
    for position in permutation(12, 5) {
        add(&mut reduction, &job, A, position, &job.results[position]);
    }
    let sample = requested(&mut reduction);
    assert_eq!(sample.len(), 3);
    for position in sample {
        assert!(!reduction.is_complete());
        // A confirmation of another result of the shard has no effect.
        let other = falsified(&job.results[position], 1);
        judge(&mut reduction, &job, A, position, &other, VerdictOutcome::Confirmed);
        assert!(!reduction.is_complete());
        judge(&mut reduction, &job, A, position, &job.results[position], VerdictOutcome::Confirmed);
    }
    assert!(reduction.is_complete());
    assert_eq!(reduction.progress().shards_verified, 3);
    let verification = reduction.verification();
    assert_eq!((verification.checked.len(), verification.drawn), (3, 3));
    assert!(verification.checked.iter().all(Verdict::is_signature_valid));
    assert!(verification.checked.is_sorted_by_key(|verdict| verdict.statement.shard_id.index));
    assert_eq!(verification.escape, verification::escape_probabilities(12, 3));
}

#[test]
fn report_counts_shards_executed_and_verified_on_different_hardware() {
    let job = TestJob::new(4, Value::Null, json!({"verify": "full"}));
    let mut reduction = reduction(&job);
    let adapter = |on_gpu: bool| on_gpu.then(|| "a card, driver 1".to_owned());
    // Executed and verified on: CPU and CPU, GPU and CPU, CPU and GPU, GPU and GPU.
    for (position, result) in job.results.iter().enumerate() {
        let statement =
            ResultStatement { adapter: adapter(position % 2 == 1), ..job.statement(A, position, result) };
        let mut returned = job.result(A, position, result);
        returned.attestation = crate::test_job::attest(statement.clone(), 1);
        let disposition = reduction.receive(&pool("alpha"), returned, |_, _| false);
        assert_eq!(disposition, Ok(ResultDisposition::Accepted));
        let requests = reduction.take_verification_requests();
        assert_eq!((requests.len(), &requests[0].claim.adapter), (1, &statement.adapter));
        let confirmed = verdict(&statement, VerdictOutcome::Confirmed).statement;
        let confirmed =
            VerdictStatement { adapter: adapter(position >= 2), ..confirmed }.sign(&identity(100));
        reduction.apply_verdict(job.shard(position), &confirmed).unwrap();
    }
    assert!(reduction.is_complete());
    let verification = reduction.verification();
    assert_eq!((verification.checked.len(), verification.on_other_hardware), (4, 2));
    let pairs = verification.pairs.iter();
    let hardware: Vec<_> = pairs.map(|pair| (pair.primary_hardware, pair.verifier_hardware)).collect();
    use Hardware::{Cpu, Gpu};
    assert_eq!(hardware, [(Cpu, Cpu), (Cpu, Gpu), (Gpu, Cpu), (Gpu, Gpu)]);
    assert_eq!(verification.pairs[2].primary_adapter, adapter(true));
    assert_eq!(reduction.executions()[3].adapter, adapter(true));
}

#[test]
fn undecided_verification_fails_the_job() {
    let job = TestJob::new(2, Value::Null, json!({"verify": "full"}));
    let mut reduction = reduction(&job);
    add(&mut reduction, &job, A, 0, &job.results[0]);
    let effect = judge(&mut reduction, &job, A, 0, &job.results[0], VerdictOutcome::Undecided);
    assert_eq!(effect, VerdictEffect::Undecidable);
    let error = reduction.reduced_job().unwrap_err();
    assert_eq!(error, AggregationError::MissingResults { accepted: 1, shards: 2 });
}
