//! The reduction against the kernel's own merge, in every order of arrival and with everything that
//! workers and verifiers may send.

use forge_contract::{
    agent::{Hardware, Identity},
    artifact::Contradiction,
    digest::Digest,
    verdict::verdict_signing_payload,
};
use forge_kernel::{
    backend::{Backend, simd::Simd},
    convergence::StopReason,
    reduction::merge_results,
    request::Request,
};
use serde_json::{Value, json};

use super::*;

fn identity(number: u8) -> Identity {
    Identity::from_random([number; 32])
}

/// A job whose shards are single leaves, with the results of the shards.
fn job(leaves: u64, convergence: Value, policy: Value) -> (Arc<Job>, Vec<ShardResult>) {
    let mut args = json!({"iterations": leaves * 65_536 - 7, "claim_freq": 0.1, "claim_severity_mu": 6,
        "claim_severity_sig": 1});
    if !convergence.is_null() {
        args["convergence"] = convergence;
    }
    let envelope = json!({"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "args": args,
        "seed": {"mode": "explicit", "value": "fold"}, "policy": policy});
    let job = Job::new(Request::from_json(envelope.to_string().as_bytes()).unwrap());
    let request = &job.request;
    let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
    assert_eq!(shards.len() as u64, leaves);
    let results = Simd::new().execute(&request.program, &shards, &()).unwrap();
    (Arc::new(job), results)
}

fn reduction(job: &Arc<Job>) -> JobReduction {
    JobReduction::new(Arc::clone(job), VerificationKey::from(b"key".as_slice()))
}

fn shard(job: &Job, position: usize) -> ShardId {
    job.request.plan.shards().nth(position).unwrap()
}

fn attestation(job: &Job, agent: u8, result: &ShardResult) -> Attestation {
    let identity = identity(agent);
    Attestation {
        agent_id: identity.id().clone(),
        backend: "simd".to_owned(),
        adapter: None,
        program: job.request.program_digest,
        result_hash: Digest::hash_parts(&[&result.encode()]),
        wall_us: 1,
        cpu_us: 1,
        signature: identity.sign(b""),
    }
}

fn add(reduction: &mut JobReduction, position: usize, agent: u8, result: &ShardResult) -> ResultDisposition {
    let job = Arc::clone(&reduction.job);
    reduction.add_result(shard(&job, position), attestation(&job, agent, result), result).unwrap()
}

fn apply(
    reduction: &mut JobReduction,
    position: usize,
    agent: u8,
    result: &ShardResult,
    outcome: VerdictOutcome,
) -> VerdictEffect {
    let job = Arc::clone(&reduction.job);
    let Attestation { agent_id, result_hash, .. } = attestation(&job, agent, result);
    let shard = shard(&job, position);
    reduction.apply_verdict(shard, &verdict(&job, shard, outcome, agent_id, result_hash))
}

fn confirm(reduction: &mut JobReduction, position: usize, agent: u8, result: &ShardResult) {
    let effect = apply(reduction, position, agent, result, VerdictOutcome::Confirmed);
    assert_eq!(effect, VerdictEffect::Recorded);
}

fn refute(reduction: &mut JobReduction, position: usize, agent: u8, result: &ShardResult) -> VerdictEffect {
    apply(reduction, position, agent, result, VerdictOutcome::Refuted)
}

fn verdict(
    job: &Job,
    shard: ShardId,
    outcome: VerdictOutcome,
    agent_id: AgentId,
    result_hash: Digest,
) -> Verdict {
    let verifier = identity(100);
    let signature = verifier.sign(&verdict_signing_payload(&job.id, shard, outcome, &agent_id, result_hash));
    Verdict {
        outcome,
        agent_id,
        result_hash,
        correct: None,
        verifier_id: verifier.id().clone(),
        backend: "scalar".to_owned(),
        adapter: None,
        reason: String::new(),
        signature,
    }
}

/// Indexes of the shards whose verification has to be requested.
fn requested(reduction: &mut JobReduction) -> Vec<u64> {
    reduction.take_verification_requests().iter().map(|(shard, _)| shard.index).collect()
}

/// Contradictions in the report: shard index and agent.
fn contradictions(reduction: &JobReduction) -> Vec<(u64, AgentId)> {
    let contradictions = reduction.verification().contradictions.into_iter();
    contradictions.map(|contradiction| (contradiction.shard_id.index, contradiction.agent_id)).collect()
}

/// A permutation of `0..count`; `step` and `count` are coprime.
fn permutation(count: usize, step: usize) -> Vec<usize> {
    (0..count).map(|number| (number * step + 3) % count).collect()
}

/// The result with one occurrence more.
fn falsified(result: &ShardResult) -> ShardResult {
    let mut falsified = result.clone();
    falsified.components[0].occurrences += 1;
    falsified
}

#[test]
fn every_order_of_arrival_gives_the_bytes_of_the_merge_in_plan_order() {
    let (job, results) = job(13, Value::Null, json!({}));
    let expected = merge_results(&job.request.program, &results).encode();
    for order in [(0..13).collect(), (0..13).rev().collect(), permutation(13, 5), permutation(13, 8)] {
        let mut reduction = reduction(&job);
        for position in order {
            assert!(!reduction.is_complete());
            assert_eq!(add(&mut reduction, position, 1, &results[position]), ResultDisposition::Accepted);
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
        let (job, results) = job(24, convergence, json!({}));
        let (request, mut monitor) = (&job.request, job.request.monitor().unwrap());
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
                let disposition = add(&mut reduction, position, 1, &results[position]);
                let expected =
                    if has_ended { ResultDisposition::Redundant } else { ResultDisposition::Accepted };
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
fn result_that_cannot_belong_to_the_job_is_invalid() {
    let (job, results) = job(3, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    let invalid_because = |disposition: ResultDisposition, expected: &str| {
        let ResultDisposition::Invalid(reason) = disposition else { panic!("{disposition:?}") };
        assert!(reason.contains(expected), "{reason}");
    };
    invalid_because(add(&mut reduction, 2, 1, &results[0]), "iterations");
    let unplanned = ShardId { height: 1, index: 0 };
    let attested = attestation(&job, 1, &results[0]);
    let disposition = reduction.add_result(unplanned, attested.clone(), &results[0]).unwrap();
    invalid_because(disposition, "not in the plan");
    let foreign = Attestation { program: Digest([1; 32]), ..attested };
    let disposition = reduction.add_result(shard(&job, 0), foreign, &results[0]).unwrap();
    invalid_because(disposition, "another program");
    let mut misshapen = results[0].clone();
    misshapen.components.clear();
    invalid_because(add(&mut reduction, 0, 1, &misshapen), "components");
    assert!((0..3).all(|position| reduction.needs_result(shard(&job, position))));
    assert!(!reduction.needs_result(unplanned));
    assert_eq!(reduction.progress().shards_done, 0);
}

#[test]
fn equal_result_of_an_accepted_shard_is_redundant() {
    let (job, results) = job(2, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    assert_eq!(add(&mut reduction, 0, 1, &results[0]), ResultDisposition::Accepted);
    assert!(reduction.is_accepted(shard(&job, 0), &attestation(&job, 1, &results[0])));
    assert!(!reduction.is_accepted(shard(&job, 0), &attestation(&job, 2, &results[0])));
    for agent in [1, 2] {
        assert_eq!(add(&mut reduction, 0, agent, &results[0]), ResultDisposition::Redundant);
    }
    assert_eq!(reduction.progress().shards_done, 1);
    assert!(requested(&mut reduction).is_empty() && contradictions(&reduction).is_empty());
}

#[test]
fn contradicting_results_are_both_verified_and_reported() {
    let (job, results) = job(2, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    let falsified = falsified(&results[0]);
    add(&mut reduction, 0, 1, &results[0]);
    add(&mut reduction, 1, 1, &results[1]);
    let accepted_agent = identity(1).id().clone();
    let disposition = add(&mut reduction, 0, 2, &falsified);
    assert_eq!(disposition, ResultDisposition::Contradicting(accepted_agent));
    // The same contradiction again is a duplicate.
    assert_eq!(add(&mut reduction, 0, 2, &falsified), ResultDisposition::Redundant);
    assert!(!reduction.is_complete());
    assert_eq!((requested(&mut reduction), requested(&mut reduction)), (vec![0, 0], vec![]));
    confirm(&mut reduction, 0, 1, &results[0]);
    assert!(!reduction.is_complete());
    assert_eq!(refute(&mut reduction, 0, 2, &falsified), VerdictEffect::Recorded);
    assert!(reduction.is_complete());
    let reduced = reduction.reduced_job().unwrap();
    assert_eq!(reduced.merged.encode(), merge_results(&job.request.program, &results).encode());
    assert_eq!((reduced.verification.refuted.len(), reduced.verification.checked.len()), (1, 1));
    assert_eq!(reduced.verification.refuted[0].agent_id, *identity(2).id());
    let expected = Contradiction {
        shard_id: shard(&job, 0),
        agent_id: identity(2).id().clone(),
        result_hash: falsified.digest(),
        signature: identity(2).sign(b""),
    };
    assert_eq!(reduced.verification.contradictions, [expected]);
}

#[test]
fn agent_that_contradicts_itself_is_reported() {
    let (job, results) = job(2, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    add(&mut reduction, 0, 1, &results[0]);
    let agent = identity(1).id().clone();
    let disposition = add(&mut reduction, 0, 1, &falsified(&results[0]));
    assert_eq!(disposition, ResultDisposition::Contradicting(agent.clone()));
    assert!(requested(&mut reduction).is_empty());
    assert_eq!(contradictions(&reduction), [(0, agent.clone())]);
    // Further results are not kept: an agent must not fill the aggregator's memory.
    let third = falsified(&falsified(&results[0]));
    assert_eq!(add(&mut reduction, 0, 1, &third), ResultDisposition::Redundant);
    assert_eq!(contradictions(&reduction), [(0, agent)]);
}

#[test]
fn contradiction_is_reported_whichever_result_arrives_first() {
    let (job, results) = job(2, Value::Null, json!({}));
    let falsified = falsified(&results[0]);
    let mut reduction = reduction(&job);
    add(&mut reduction, 0, 2, &falsified);
    let disposition = add(&mut reduction, 0, 1, &results[0]);
    assert!(matches!(disposition, ResultDisposition::Contradicting(_)));
    assert_eq!(refute(&mut reduction, 0, 2, &falsified), VerdictEffect::RestartRequired);
    let mut restarted = reduction.restart();
    assert!(contradictions(&restarted).is_empty(), "no result is accepted yet");
    for (position, result) in results.iter().enumerate() {
        assert_eq!(add(&mut restarted, position, 1, result), ResultDisposition::Accepted);
    }
    assert_eq!(contradictions(&restarted), [(0, identity(2).id().clone())]);
}

#[test]
fn refuting_an_accepted_result_restarts_the_reduction_without_its_agent() {
    let (job, results) = job(3, Value::Null, json!({"verify": "full"}));
    let mut first = reduction(&job);
    let falsified = falsified(&results[0]);
    add(&mut first, 0, 1, &falsified);
    add(&mut first, 1, 1, &results[1]);
    add(&mut first, 2, 2, &results[2]);
    assert_eq!(requested(&mut first), [0, 1, 2]);
    confirm(&mut first, 2, 2, &results[2]);
    assert_eq!(refute(&mut first, 0, 1, &falsified), VerdictEffect::RestartRequired);
    let mut second = first.restart();
    assert_eq!(second.excluded_agents().iter().collect::<Vec<_>>(), [identity(1).id()]);

    // The stream is replayed. The collector rejects the results of the excluded agent.
    add(&mut second, 2, 2, &results[2]);
    confirm(&mut second, 2, 2, &results[2]);
    assert_eq!(refute(&mut second, 0, 1, &falsified), VerdictEffect::Recorded);
    for (position, result) in results.iter().enumerate().take(2) {
        add(&mut second, position, 2, result);
    }
    assert_eq!(requested(&mut second), [0, 1]);
    for (position, result) in results.iter().enumerate().take(2) {
        assert!(!second.is_complete());
        confirm(&mut second, position, 2, result);
    }
    assert!(second.is_complete());
    let reduced = second.reduced_job().unwrap();
    assert_eq!(reduced.merged.encode(), merge_results(&job.request.program, &results).encode());
    assert_eq!(reduced.verification.refuted.len(), 1);
    assert!(reduced.executions.iter().all(|execution| execution.agent_id == identity(2).id().as_str()));
    let effect = apply(&mut second, 0, 2, &results[0], VerdictOutcome::Undecided);
    assert_eq!(effect, VerdictEffect::Undecidable);
}

#[test]
fn job_waits_for_the_verification_of_a_sample() {
    let (job, results) = job(12, Value::Null, json!({"verify": "spotcheck", "verify_ratio": 0.25}));
    let mut reduction = reduction(&job);
    for position in permutation(12, 5) {
        add(&mut reduction, position, 1, &results[position]);
    }
    let sample = requested(&mut reduction);
    assert_eq!(sample.len(), 3);
    for shard in sample {
        assert!(!reduction.is_complete());
        // A confirmation of another result of the shard has no effect.
        confirm(&mut reduction, shard as usize, 1, &falsified(&results[shard as usize]));
        assert!(!reduction.is_complete());
        confirm(&mut reduction, shard as usize, 1, &results[shard as usize]);
    }
    assert!(reduction.is_complete());
    assert_eq!(reduction.progress().shards_verified, 3);
    assert_eq!(reduction.verification().checked.len(), 3);
}

#[test]
fn report_counts_shards_executed_and_verified_on_different_hardware() {
    let (job, results) = job(4, Value::Null, json!({"verify": "full"}));
    let mut reduction = reduction(&job);
    let adapter = |on_gpu: bool| on_gpu.then(|| "a card, driver 1".to_owned());
    // Executed and verified on: CPU and CPU, GPU and CPU, CPU and GPU, GPU and GPU.
    for (position, result) in results.iter().enumerate() {
        let (shard, device) = (shard(&job, position), adapter(position % 2 == 1));
        let attested = Attestation { adapter: device, ..attestation(&job, 1, result) };
        let (agent, hash) = (attested.agent_id.clone(), attested.result_hash);
        let disposition = reduction.add_result(shard, attested.clone(), result);
        assert_eq!(disposition, Ok(ResultDisposition::Accepted));
        let requests = reduction.take_verification_requests();
        assert_eq!((requests.len(), &requests[0].1.adapter), (1, &attested.adapter));
        let confirmed = verdict(&job, shard, VerdictOutcome::Confirmed, agent, hash);
        reduction.apply_verdict(shard, &Verdict { adapter: adapter(position >= 2), ..confirmed });
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
fn confirmation_received_before_the_end_of_the_run_counts_after_it() {
    let convergence = json!({"metric": "mean", "relative_half_width": 0.012});
    let (job, results) = job(24, convergence, json!({"verify": "spotcheck", "verify_ratio": 0.5}));
    let mut first = reduction(&job);
    for (position, result) in results.iter().enumerate() {
        add(&mut first, position, 1 + (position % 2) as u8, result);
    }
    let sample = requested(&mut first);
    assert_eq!(refute(&mut first, 1, 2, &results[1]), VerdictEffect::RestartRequired);
    // The replay has the verdicts about agent 1 before the end of the run is known again. They are
    // not sent a second time.
    let mut second = first.restart();
    for position in (0..24).step_by(2) {
        add(&mut second, position, 1, &results[position]);
    }
    for &shard in sample.iter().filter(|shard| shard.is_multiple_of(2)) {
        confirm(&mut second, shard as usize, 1, &results[shard as usize]);
    }
    for position in (1..24).step_by(2) {
        add(&mut second, position, 3, &results[position]);
    }
    let unconfirmed: Vec<_> = sample.iter().copied().filter(|shard| shard % 2 == 1).collect();
    assert_eq!(requested(&mut second), unconfirmed);
    assert!(unconfirmed.len() < sample.len());
    for shard in unconfirmed {
        confirm(&mut second, shard as usize, 3, &results[shard as usize]);
    }
    assert!(second.is_complete());
}

#[test]
fn incomplete_reduction_has_no_reduced_job() {
    let (job, results) = job(2, Value::Null, json!({}));
    let mut reduction = reduction(&job);
    add(&mut reduction, 0, 1, &results[0]);
    let error = reduction.reduced_job().unwrap_err();
    assert_eq!(error, AggregationError::MissingResults { accepted: 1, shards: 2 });
}
