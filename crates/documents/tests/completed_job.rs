//! The documents and the manifest of a completed job.

use std::time::Duration;

use forge_contract::{
    agent::Identity,
    artifact::{Execution, MetricsDocument, Phase, VerificationDocument},
    digest::Digest,
    envelope::VerificationLevel,
    error::FailureCode,
    ids::{JobUid, PoolName, TaskId},
    merkle,
};
use forge_documents::{CompletedJob, Document, Job, JobResult, canonical_json, to_milliseconds};
use forge_kernel::{
    backend::{Backend, scalar::Scalar},
    convergence::StopReason,
    job_key::JobKey,
    reduction::Reduction,
    request::Request,
};

/// A job of three shards, its result, and its executions by two agents with different backends.
fn execute_job(artifacts: &str) -> (Job, JobResult, Vec<Execution>) {
    let envelope = format!(
        r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}},
             "args": {{"iterations": 150000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}},
             "artifacts": {{"include": [{artifacts}]}}}}"#
    );
    let job = Job::new(Request::from_json(envelope.as_bytes()).unwrap());
    let request = &job.request;
    let mut reduction = Reduction::new(&request.program);
    let mut executions = Vec::new();
    for (number, id) in request.plan.shards().enumerate() {
        let shard = request.shard(id);
        let agent = Identity::from_random([number as u8 % 2; 32]);
        let result = Scalar.execute(&request.program, &[shard], &()).unwrap().remove(0);
        reduction.add(&result).unwrap();
        executions.push(Execution {
            pool: PoolName::default(),
            agent_id: agent.id().clone(),
            task_id: TaskId([number as u8; 32]),
            shard_id: id,
            first_iteration: request.plan.range(id).start,
            iterations: shard.iterations,
            seed: shard.seed,
            result_hash: result.digest(),
            backend: if number == 0 { "scalar" } else { "simd" }.to_owned(),
            adapter: None,
            wall_ms: 0.2,
            cpu_ms: 0.1,
            signature: agent.sign(b""),
        });
    }
    let job_result = JobResult::new(request, reduction.result(), StopReason::BudgetExhausted);
    (job, job_result, executions)
}

fn documents(artifacts: &str) -> Vec<Document> {
    let (job, job_result, executions) = execute_job(artifacts);
    let verification = VerificationDocument {
        schema: VerificationDocument::SCHEMA.to_owned(),
        job_id: job.id.clone(),
        replay_key: job.request.replay_key,
        policy: VerificationLevel::None,
        share: 0.0,
        shards: executions.len() as u64,
        drawn: 0,
        checked: Vec::new(),
        on_other_hardware: 0,
        pairs: Vec::new(),
        escape: Vec::new(),
        suspect_pools: Vec::new(),
        refuted: Vec::new(),
        contradictions: Vec::new(),
    };
    let job_key = JobKey::from([7; 32]);
    let completed_job = CompletedJob {
        job: &job,
        job_uid: JobUid([6; 16]),
        job_key: &job_key,
        result: &job_result,
        executions: &executions,
        verification: &verification,
        planning_duration: Duration::from_nanos(1_234_567),
        execution_duration: Duration::from_secs(2),
    };
    let manifest = completed_job.manifest(Vec::new());
    let hashes: Vec<_> = executions.iter().map(|execution| execution.result_hash).collect();
    assert_eq!((manifest.merkle_root, manifest.shards), (merkle::root(&hashes), hashes.len() as u64));
    assert_eq!((manifest.result, manifest.request), (job_result.hash, job.envelope_digest));
    assert_eq!((manifest.job_uid, manifest.job_key), (JobUid([6; 16]), Digest([7; 32])));
    completed_job.documents()
}

#[test]
fn envelope_comes_first_followed_by_the_requested_artifacts() {
    let names = |artifacts| documents(artifacts).iter().map(|document| document.name).collect::<Vec<_>>();
    assert_eq!(names(""), ["envelope.json"]);
    assert_eq!(
        names(r#""result_json", "report_html", "metrics_json", "executions_json", "plan_json", "ept_csv""#),
        // In the order of the kinds, because normalisation sorts `include`.
        [
            "envelope.json",
            "result.json",
            "executions.json",
            "metrics.json",
            "plan.json",
            "ept.csv",
            "report.html"
        ]
    );
}

#[test]
fn metrics_list_every_backend_and_sum_whole_microseconds() {
    let documents = documents(r#""metrics_json""#);
    let metrics: MetricsDocument = serde_json::from_slice(&documents[1].bytes).unwrap();
    assert_eq!((metrics.backend.as_str(), metrics.threads, metrics.shards), ("scalar, simd", 2, 3));
    // Summed as f64, 0.1 + 0.1 + 0.1 would not be 0.3.
    assert_eq!((metrics.plan_ms, metrics.execute_ms, metrics.cpu_ms), (1.234, 2000.0, 0.3));
    assert_eq!(metrics.iterations_per_second, 75_000.0);
    assert_eq!(to_milliseconds(Duration::from_nanos(999)), 0.0);
}

#[test]
fn error_document_carries_the_job_id() {
    let (job, ..) = execute_job("");
    let document = job.error_document(FailureCode::Timeout, Phase::Execute, "too slow", Vec::new());
    assert_eq!((document.job_id.clone(), document.phase), (job.id, Phase::Execute));
    assert!(String::from_utf8(canonical_json(&document)).unwrap().contains(r#""message":"too slow""#));
}
