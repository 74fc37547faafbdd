//! What a job costs an aggregator in memory.

use std::time::Duration;

use bytes::Bytes;
use ethnum::U256;
use forge_contract::{
    agent::Identity,
    digest::Digest,
    distribution::Resolution,
    program::MAX_AMOUNT,
    protocol::PROTOCOL,
    result_details::AllocationClass,
    shard_result::{Distribution, Tally, bucket_of},
};
use forge_documents::{CompletedJob, Job, JobResult};
use forge_kernel::{KERNEL, job_key::JobKey, reduction::Reduction, request::Request};
use forge_service::{job_memory, short_text::MAX_TEXT_BYTES};

use super::*;
use crate::{
    test_allocator::peak_growth,
    test_job::{NO_SIGNATURE, UID, identity, pool, unsigned_verdict},
};

fn context(iterations: u64, convergence: Value, verify: &str) -> Arc<JobContext> {
    let mut args = json!({"iterations": iterations, "claim_freq": 10_000, "claim_severity_mu": 6,
        "claim_severity_sig": 1});
    if !convergence.is_null() {
        args["convergence"] = convergence;
    }
    let envelope = json!({"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "args": args,
        "policy": {"verify": verify}});
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    Arc::new(JobContext::new(Arc::new(Job::new(request)), UID, JobKey::from([7; 32])))
}

/// A result that says nothing but how many iterations it has. Its variance keeps a run from
/// converging.
fn flat_result(context: &JobContext, iterations: u64) -> ShardResult {
    let program = &context.job.request.program;
    let marks = vec![0; program.marks().len()];
    let amounts = || Distribution {
        min: 100,
        max: 100,
        at_marks: marks.clone(),
        histogram: vec![(bucket_of(100) as u32, iterations)],
        listed: Vec::new(),
    };
    ShardResult {
        iterations,
        components: vec![Tally::default(); program.component_count()],
        capped: 0,
        sum: 100 * u128::from(iterations),
        sum_squares: U256::new(10_000_000 * u128::from(iterations)),
        total: amounts(),
        largest: amounts(),
        details: None,
    }
}

/// A worker's result, with texts of the greatest length.
pub(super) fn attested(
    context: &JobContext,
    position: usize,
    shard: ShardId,
    hash: Digest,
) -> AttestedResult {
    let request = &context.job.request;
    let planned = request.shard(shard);
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&(position as u64).to_le_bytes());
    let statement = ResultStatement {
        protocol: PROTOCOL,
        job_uid: UID,
        shard_id: shard,
        iterations: planned.iterations,
        seed: planned.seed,
        program: request.program_digest,
        kernel: KERNEL,
        task_id: context.key.issue_task(UID, shard, nonce),
        pool: pool("alpha"),
        agent_id: identity(1).id().clone(),
        backend: "b".repeat(MAX_TEXT_BYTES),
        adapter: Some("a".repeat(MAX_TEXT_BYTES)),
        result_hash: hash,
    };
    let attestation =
        Attestation { protocol: PROTOCOL, statement, wall_us: 1, cpu_us: 1, signature: NO_SIGNATURE.clone() };
    AttestedResult { shard, position, attestation, bytes: Bytes::from_static(b"result") }
}

fn confirmation(request: VerificationRequest) -> Verdict {
    let VerificationRequest { shard, task, claim } = request;
    let mut verdict = unsigned_verdict(shard, task, &claim, VerdictOutcome::Confirmed);
    verdict.statement.backend = "b".repeat(MAX_TEXT_BYTES);
    verdict.statement.adapter = Some("a".repeat(MAX_TEXT_BYTES));
    verdict.statement.correct = Some(claim.result_hash);
    verdict
}

/// Reduces a job whose results all arrive before the first verdict, and makes its documents.
fn reduce(context: &Arc<JobContext>) -> JobReduction {
    let mut reduction = JobReduction::new(Arc::clone(context), unlimited_memory());
    let request = &context.job.request;
    for (position, shard) in request.plan.shards().enumerate() {
        let result = flat_result(context, request.shard(shard).iterations);
        let hash = Digest::hash_parts(&[&(position as u64).to_le_bytes()]);
        let attested = attested(context, position, shard, hash);
        let disposition = reduction
            .receive_with(&pool("alpha"), attested, |_, _| false, |_, _| Ok(result.clone()))
            .unwrap();
        assert_eq!(disposition, ResultDisposition::Accepted);
        drop(reduction.take_outcomes());
    }
    for request in reduction.take_verification_requests() {
        reduction.apply_verdict(request.shard, &confirmation(request)).unwrap();
    }
    assert!(reduction.is_complete());
    reduction
}

pub(super) fn publish(context: &JobContext, reduction: JobReduction) {
    let reduced = reduction.reduced_job().unwrap();
    drop(reduction);
    let result = JobResult::new(&context.job.request, reduced.merged, reduced.stop_reason);
    let completed = CompletedJob {
        job: &context.job,
        job_uid: UID,
        job_key: &context.key,
        result: &result,
        executions: &reduced.executions,
        verification: &reduced.verification,
        planning_duration: Duration::ZERO,
        execution_duration: Duration::ZERO,
    };
    drop(completed.documents());
}

/// Convergence that is tested at every checkpoint and never reached.
fn never_converges() -> Value {
    json!({"metric": "mean", "relative_half_width": 1e-9})
}

#[test]
fn a_giant_job_costs_little_before_its_results_arrive() {
    let (growth, (context, reduction)) = peak_growth(|| {
        let context = context(1 << 38, never_converges(), "full");
        let reduction = JobReduction::new(Arc::clone(&context), unlimited_memory());
        (context, reduction)
    });
    assert!(context.shards > 500_000, "{}", context.shards);
    assert_eq!(reduction.progress().shards, context.shards);
    assert!(growth < 2 << 20, "{growth} bytes");
}

#[test]
fn the_estimate_covers_a_job_whose_results_are_all_verified() {
    const SHARDS: u64 = 3000;
    let context = context(SHARDS * 262_144, Value::Null, "full");
    assert_eq!(context.shards, SHARDS);
    let (reduced, reduction) = peak_growth(|| reduce(&context));
    let (published, ()) = peak_growth(|| publish(&context, reduction));
    let (used, reserved) = (reduced + published, job_memory::aggregation_bytes(&context.job.request) as i64);
    let per_shard = (used as u64).div_ceil(SHARDS);
    assert!(used <= reserved, "{used} bytes, {per_shard} a shard");
    // An estimate that is far too high would leave memory unused.
    assert!(per_shard > job_memory::BYTES_PER_SHARD / 2, "{per_shard} bytes a shard");
}

#[test]
fn the_estimate_covers_a_small_job_that_may_converge() {
    let (used, reserved) = {
        let (compiled, context) = peak_growth(|| context(64 * 65_536, never_converges(), "full"));
        let (reduced, reduction) = peak_growth(|| reduce(&context));
        let (published, ()) = peak_growth(|| publish(&context, reduction));
        (compiled + reduced + published, job_memory::aggregation_bytes(&context.job.request) as i64)
    };
    assert!(used <= reserved, "{used} of {reserved} bytes");
}

#[test]
fn results_of_more_agents_than_a_pool_may_have_are_rejected() {
    const AGENTS: usize = 4096;
    let context = context((AGENTS as u64 + 3) * 262_144, Value::Null, "none");
    let mut reduction = JobReduction::new(Arc::clone(&context), unlimited_memory());
    let mut receive = |position: usize, agent: usize, pool_name: &str| {
        let shard = context.job.request.plan.shards().nth(position).unwrap();
        let result = flat_result(&context, context.job.request.shard(shard).iterations);
        let mut attested = attested(&context, position, shard, Digest([position as u8; 32]));
        let mut key = [0; 32];
        key[..8].copy_from_slice(&agent.to_le_bytes());
        attested.attestation.statement.agent_id = Identity::from_random(key).id().clone();
        attested.attestation.statement.pool = pool(pool_name);
        reduction.receive_with(&pool(pool_name), attested, |_, _| false, |_, _| Ok(result.clone())).unwrap()
    };
    for agent in 0..AGENTS {
        assert_eq!(receive(agent, agent, "alpha"), ResultDisposition::Accepted);
    }
    let excess = receive(AGENTS, AGENTS, "alpha");
    assert_eq!(excess, ResultDisposition::Rejected(RejectionReason::TooManyAgents));
    assert_eq!(receive(AGENTS + 1, 0, "alpha"), ResultDisposition::Accepted);
    assert_eq!(receive(AGENTS + 2, AGENTS, "beta"), ResultDisposition::Accepted);
}

/// A portfolio whose details fill every bucket.
fn wide_portfolio() -> (Arc<JobContext>, ShardResult) {
    let lines: Vec<String> = (0..8).map(|line| format!("line {line}")).collect();
    let strikes: Vec<_> = lines
        .iter()
        .map(|line| json!({"line": line, "severity": {"lognormal": {"mu": 9, "sigma": 2}}}))
        .collect();
    let treaty = |step: u32| {
        json!({"name": format!("share {step}"), "step": step, "kind": "quota_share", "covers": lines,
            "cession": 0.1})
    };
    let envelope = json!({"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": {
        "iterations": 64 * 65_536, "lines": lines, "treaties": (1..=8).map(treaty).collect::<Vec<_>>(),
        "convergence": never_converges(), "report": {"allocation": true},
        "groups": [{"name": "all", "count": {"poisson": 2}, "strikes": strikes}]}});
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    let iterations = request.shard(request.plan.shards().next().unwrap()).iterations;
    let mut result = Reduction::new(&request.program).result();
    result.iterations = iterations;
    let fill = |distribution: &mut Distribution, resolution: Resolution| {
        let buckets = resolution.buckets() as u64;
        (distribution.min, distribution.max) = (0, MAX_AMOUNT);
        distribution.histogram = (0..buckets as u32).map(|bucket| (bucket, 1)).collect();
        distribution.histogram[0].1 = iterations - buckets + 1;
    };
    fill(&mut result.total, Resolution::FINE);
    fill(&mut result.largest, Resolution::FINE);
    let classes = result.total_classes();
    let details = result.details.as_mut().unwrap();
    details.quantities.iter_mut().for_each(|quantity| fill(&mut quantity.distribution, Resolution::COARSE));
    let class = |&(number, _): &(u64, u64)| AllocationClass { number, sums: vec![0; 16] };
    details.allocation = classes.iter().map(class).collect();
    (Arc::new(JobContext::new(Arc::new(Job::new(request)), UID, JobKey::from([7; 32]))), result)
}

#[test]
fn the_estimate_covers_a_portfolio_that_may_converge() {
    let (context, result) = wide_portfolio();
    let (reduced, mut reduction) =
        peak_growth(|| JobReduction::new(Arc::clone(&context), unlimited_memory()));
    let plan = &context.job.request.plan;
    let (merged, ()) = peak_growth(|| {
        // All segments that planners dispatch at once are open, because the first shard is missing.
        let end = plan.checkpoints()[9];
        let shards = plan.shards().enumerate().skip(1);
        for (position, shard) in shards.take_while(|(_, shard)| plan.range(*shard).end <= end) {
            let result =
                ShardResult { iterations: plan.range(shard).end - plan.range(shard).start, ..result.clone() };
            let attested = attested(&context, position, shard, Digest([position as u8; 32]));
            drop(reduction.receive_with(&pool("alpha"), attested, |_, _| false, |_, _| Ok(result.clone())));
        }
    });
    let (used, reserved) = (reduced + merged, job_memory::aggregation_bytes(&context.job.request) as i64);
    assert!(used <= reserved, "{used} of {reserved} bytes");
    // An estimate that is far too high would leave memory unused.
    assert!(used > reserved / 8, "{used} of {reserved} bytes");
}
