//! The fold against the kernel's own merge, in all orders and with all that workers and verifiers may say.

use forge_contract::{
    agent::{Hardware, Identity},
    verdict::verdict_signing_payload,
};
use forge_kernel::{
    backend::{Backend, simd::Simd},
    reduction::merge_results,
    request::Request,
};
use serde_json::{Value, json};

use super::*;

fn identity(number: u8) -> Identity {
    Identity::from_random([number; 32])
}

/// A job of so many leaves, which are its shards, and their results.
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

fn fold(job: &Arc<Job>, excluded: &[u8]) -> Fold {
    let excluded = excluded.iter().map(|&number| identity(number).id().clone());
    Fold::new(Arc::clone(job), b"key", excluded.collect())
}

fn shard(job: &Job, position: usize) -> ShardId {
    job.request.plan.shards().nth(position).unwrap()
}

fn attestation(job: &Job, by: u8, result: &ShardResult) -> Attestation {
    let identity = identity(by);
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

fn take(fold: &mut Fold, position: usize, by: u8, result: &ShardResult) -> Taken {
    let job = Arc::clone(fold.job());
    fold.take(shard(&job, position), attestation(&job, by, result), result)
}

fn judge(fold: &mut Fold, position: usize, by: u8, result: &ShardResult, outcome: VerdictOutcome) -> Meaning {
    let job = Arc::clone(fold.job());
    let (id, Attestation { agent_id, result_hash, .. }) =
        (shard(&job, position), attestation(&job, by, result));
    fold.judge(id, &verdict(&job, id, outcome, agent_id, result_hash))
}

fn verdict(
    job: &Job,
    id: ShardId,
    outcome: VerdictOutcome,
    agent_id: AgentId,
    result_hash: Digest,
) -> Verdict {
    let verifier = identity(100);
    let signature = verifier.sign(&verdict_signing_payload(&job.id, id, outcome, &agent_id, result_hash));
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

/// Positions of what is to be checked.
fn asked(fold: &mut Fold) -> Vec<u64> {
    fold.checks_to_ask().iter().map(|(shard, _)| shard.index).collect()
}

/// The numbers below `count`, as good as shuffled.
fn shuffled(count: usize, step: usize) -> Vec<usize> {
    (0..count).map(|number| (number * step + 3) % count).collect()
}

/// The same result with one occurrence more.
fn wrong(result: &ShardResult) -> ShardResult {
    let mut wrong = result.clone();
    wrong.components[0].occurrences += 1;
    wrong
}

#[test]
fn any_order_gives_the_bytes_of_the_merge_in_order() {
    let (job, results) = job(13, Value::Null, json!({}));
    let expected = merge_results(&job.request.program, &results).encode();
    for order in [(0..13).collect(), (0..13).rev().collect(), shuffled(13, 5), shuffled(13, 8)] {
        let mut fold = fold(&job, &[]);
        for position in order {
            assert!(!fold.is_complete());
            assert_eq!(take(&mut fold, position, 1, &results[position]), Taken::Accepted);
        }
        assert!(fold.is_complete() && asked(&mut fold).is_empty());
        let (merged, reason) = fold.result().unwrap();
        assert_eq!((merged.encode(), reason), (expected.clone(), StopReason::BudgetExhausted));
        assert_eq!(fold.progress().iterations_done, 13 * 65_536 - 7);
        assert_eq!(fold.executions().len(), 13);
    }
}

#[test]
fn convergence_ends_where_a_run_in_order_does() {
    for (half_width, reason) in [(0.012, StopReason::BandReached), (1e-6, StopReason::BudgetExhausted)] {
        let convergence = json!({"metric": "mean", "relative_half_width": half_width});
        let (job, results) = job(24, convergence, json!({}));
        let (request, mut monitor) = (&job.request, job.request.monitor().unwrap());
        let stops = |end: &usize| {
            let prefix = merge_results(&request.program, &results[..*end]);
            let tested = request.plan.checkpoints().contains(&prefix.iterations);
            tested && monitor.test(&prefix).is_some()
        };
        let end = (1..=24).find(stops).unwrap_or(24);
        assert_eq!(end < 24, reason == StopReason::BandReached, "{end}");
        let expected = merge_results(&request.program, &results[..end]).encode();
        for order in [(0..24).collect(), (0..24).rev().collect(), shuffled(24, 5), shuffled(24, 7)] {
            let mut fold = fold(&job, &[]);
            for position in order {
                let beyond = fold.is_complete();
                let taken = take(&mut fold, position, 1, &results[position]);
                assert_eq!(taken, if beyond { Taken::NotNeeded } else { Taken::Accepted });
            }
            let (merged, why) = fold.result().unwrap();
            assert_eq!((merged.encode(), why), (expected.clone(), reason));
            let progress = fold.progress();
            assert_eq!((progress.shards, progress.shards_done), (end as u64, end as u64));
            assert_eq!(progress.iterations_done, merged.iterations);
        }
    }
}

#[test]
fn what_is_not_of_the_job_is_wrong() {
    let (job, results) = job(3, Value::Null, json!({}));
    let mut fold = fold(&job, &[]);
    assert!(
        matches!(take(&mut fold, 2, 1, &results[0]), Taken::Wrong(reason) if reason.contains("iterations"))
    );
    let other = ShardId { height: 1, index: 0 };
    let taken = fold.take(other, attestation(&job, 1, &results[0]), &results[0]);
    assert!(matches!(taken, Taken::Wrong(reason) if reason.contains("not in the plan")));
    let foreign = Attestation { program: Digest([1; 32]), ..attestation(&job, 1, &results[0]) };
    assert!(matches!(fold.take(shard(&job, 0), foreign, &results[0]), Taken::Wrong(_)));
    assert!((0..3).all(|position| fold.wants(shard(&job, position))) && !fold.wants(other));
    assert_eq!(fold.progress().shards_done, 0);
}

#[test]
fn the_same_again_is_not_needed() {
    let (job, results) = job(2, Value::Null, json!({}));
    let mut fold = fold(&job, &[]);
    assert_eq!(take(&mut fold, 0, 1, &results[0]), Taken::Accepted);
    assert!(fold.counts(shard(&job, 0), &attestation(&job, 1, &results[0])));
    assert!(!fold.counts(shard(&job, 0), &attestation(&job, 2, &results[0])));
    // By the same agent, by another, and what the same agent says upon reflection.
    assert_eq!(take(&mut fold, 0, 1, &results[0]), Taken::NotNeeded);
    assert_eq!(take(&mut fold, 0, 2, &results[0]), Taken::NotNeeded);
    assert_eq!(take(&mut fold, 0, 1, &wrong(&results[0])), Taken::NotNeeded);
    assert_eq!(fold.progress().shards_done, 1);
    assert!(asked(&mut fold).is_empty());
}

#[test]
fn two_that_contradict_each_other_are_both_checked() {
    let (job, results) = job(2, Value::Null, json!({}));
    let mut fold = fold(&job, &[]);
    take(&mut fold, 0, 1, &results[0]);
    take(&mut fold, 1, 1, &results[1]);
    assert_eq!(take(&mut fold, 0, 2, &wrong(&results[0])), Taken::Contradicts);
    assert!(!fold.is_complete());
    assert_eq!((asked(&mut fold), asked(&mut fold)), (vec![0, 0], vec![]));
    assert_eq!(judge(&mut fold, 0, 1, &results[0], VerdictOutcome::Confirmed), Meaning::Noted);
    assert!(!fold.is_complete());
    assert_eq!(judge(&mut fold, 0, 2, &wrong(&results[0]), VerdictOutcome::Refuted), Meaning::Noted);
    assert!(fold.is_complete());
    assert_eq!(fold.result().unwrap().0.encode(), merge_results(&job.request.program, &results).encode());
    let verification = fold.verification();
    assert_eq!((verification.refuted.len(), verification.checked.len()), (1, 1));
    assert_eq!(verification.refuted[0].agent_id, *identity(2).id());
}

#[test]
fn a_result_that_counted_and_is_refuted_has_the_fold_begin_anew() {
    let (job, results) = job(3, Value::Null, json!({"verify": "full"}));
    let mut first = fold(&job, &[]);
    take(&mut first, 0, 1, &wrong(&results[0]));
    take(&mut first, 1, 1, &results[1]);
    take(&mut first, 2, 2, &results[2]);
    assert_eq!(asked(&mut first), [0, 1, 2]);
    assert_eq!(judge(&mut first, 2, 2, &results[2], VerdictOutcome::Confirmed), Meaning::Noted);
    assert_eq!(judge(&mut first, 0, 1, &wrong(&results[0]), VerdictOutcome::Refuted), Meaning::BeginAnew);
    assert_eq!(first.excluded().iter().collect::<Vec<_>>(), [identity(1).id()]);

    // The stream again: results of the excluded agent are not offered.
    let mut second = fold(&job, &[1]);
    take(&mut second, 2, 2, &results[2]);
    judge(&mut second, 2, 2, &results[2], VerdictOutcome::Confirmed);
    assert_eq!(judge(&mut second, 0, 1, &wrong(&results[0]), VerdictOutcome::Refuted), Meaning::Noted);
    for (position, result) in results.iter().enumerate().take(2) {
        take(&mut second, position, 2, result);
    }
    assert_eq!(asked(&mut second), [0, 1]);
    for (position, result) in results.iter().enumerate().take(2) {
        assert!(!second.is_complete());
        judge(&mut second, position, 2, result, VerdictOutcome::Confirmed);
    }
    assert!(second.is_complete());
    assert_eq!(second.result().unwrap().0.encode(), merge_results(&job.request.program, &results).encode());
    assert_eq!(second.verification().refuted.len(), 1);
    assert!(second.executions().iter().all(|one| one.agent_id == identity(2).id().as_str()));
    assert_eq!(judge(&mut second, 0, 2, &results[0], VerdictOutcome::Undecided), Meaning::Undecided);
}

#[test]
fn a_share_of_the_shards_is_checked_and_the_job_waits_for_it() {
    let (job, results) = job(12, Value::Null, json!({"verify": "spotcheck", "verify_ratio": 0.25}));
    let mut fold = fold(&job, &[]);
    shuffled(12, 5).into_iter().for_each(|position| drop(take(&mut fold, position, 1, &results[position])));
    let chosen = asked(&mut fold);
    assert_eq!(chosen.len(), 3);
    for shard in chosen {
        assert!(!fold.is_complete());
        // A verdict about something else does not count.
        judge(&mut fold, shard as usize, 1, &wrong(&results[shard as usize]), VerdictOutcome::Confirmed);
        assert!(!fold.is_complete());
        judge(&mut fold, shard as usize, 1, &results[shard as usize], VerdictOutcome::Confirmed);
    }
    assert!(fold.is_complete());
    assert_eq!((fold.progress().shards_verified, fold.verification().checked.len()), (3, 3));
}

#[test]
fn what_one_kind_of_hardware_executed_and_the_other_verified_is_counted() {
    let (job, results) = job(4, Value::Null, json!({"verify": "full"}));
    let mut fold = fold(&job, &[]);
    let device = |on_gpu: bool| on_gpu.then(|| "a card, driver 1".to_owned());
    // Executed and verified by the CPU, by either and the other, and by a GPU twice.
    for (position, result) in results.iter().enumerate() {
        let (shard, adapter) = (shard(&job, position), device(position % 2 == 1));
        let attested = Attestation { adapter, ..attestation(&job, 1, result) };
        let (agent, hash) = (attested.agent_id.clone(), attested.result_hash);
        assert_eq!(fold.take(shard, attested.clone(), result), Taken::Accepted);
        let asked = fold.checks_to_ask();
        assert_eq!((asked.len(), &asked[0].1.adapter), (1, &attested.adapter));
        let confirmed = verdict(&job, shard, VerdictOutcome::Confirmed, agent, hash);
        fold.judge(shard, &Verdict { adapter: device(position >= 2), ..confirmed });
    }
    assert!(fold.is_complete());
    let verification = fold.verification();
    assert_eq!((verification.checked.len(), verification.on_other_hardware), (4, 2));
    let pairs = verification.pairs.iter();
    let hardware: Vec<_> = pairs.map(|pair| (pair.primary_hardware, pair.verifier_hardware)).collect();
    use Hardware::{Cpu, Gpu};
    assert_eq!(hardware, [(Cpu, Cpu), (Cpu, Gpu), (Gpu, Cpu), (Gpu, Gpu)]);
    assert_eq!(verification.pairs[2].primary_adapter, device(true));
    assert_eq!(fold.executions()[3].adapter, device(true));
}

#[test]
fn a_confirmation_from_before_the_run_ended_still_counts_after() {
    let convergence = json!({"metric": "mean", "relative_half_width": 0.012});
    let (job, results) = job(24, convergence, json!({"verify": "spotcheck", "verify_ratio": 0.5}));
    let mut first = fold(&job, &[]);
    (0..24)
        .for_each(|position| drop(take(&mut first, position, 1 + (position % 2) as u8, &results[position])));
    let chosen = asked(&mut first);
    // Agent 2 has been wrong, and the fold begins anew: the verdicts about agent 1 come before the run's end is known
    // again, and nobody gives them a second time.
    let mut second = fold(&job, &[2]);
    let by_one = |shard: &&u64| shard.is_multiple_of(2);
    (0..24).step_by(2).for_each(|position| drop(take(&mut second, position, 1, &results[position])));
    for &shard in chosen.iter().filter(by_one) {
        judge(&mut second, shard as usize, 1, &results[shard as usize], VerdictOutcome::Confirmed);
    }
    (1..24).step_by(2).for_each(|position| drop(take(&mut second, position, 3, &results[position])));
    let left: Vec<_> = chosen.iter().copied().filter(|shard| shard % 2 == 1).collect();
    assert_eq!(asked(&mut second), left);
    assert!(left.len() < chosen.len());
    for shard in left {
        judge(&mut second, shard as usize, 3, &results[shard as usize], VerdictOutcome::Confirmed);
    }
    assert!(second.is_complete());
}
