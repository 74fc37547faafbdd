//! The jobs of a simulation and their right results.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use fastrand::Rng;
use forge_contract::digest::Digest;
use forge_documents::{Job, JobResult};
use forge_kernel::{convergence::StopReason, reduction::Reduction, request::Request};
use forge_service::model_cache::ModelCache;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::backends::right_result;

/// Compiled models of all seeds.
pub static MODELS: LazyLock<Arc<ModelCache>> = LazyLock::new(|| Arc::new(ModelCache::new(64)));

/// Op and args of a model, by number.
fn model(number: usize) -> (&'static str, Value) {
    let insurance = |iterations: u64, frequency: f64| json!({"iterations": iterations, "claim_freq": frequency, "claim_severity_mu": 6, "claim_severity_sig": 1});
    match number {
        0 => ("insurance.v1", insurance(1000, 0.1)),
        1 => ("insurance.v1", insurance(150_000, 0.2)),
        2 => ("eta.v1", json!({"iterations": 5000, "base_eta": 30, "traffic_mean": 5, "traffic_std": 2})),
        3 => ("eta.v1", json!({"iterations": 400_000, "base_eta": 90, "traffic_mean": 9, "traffic_std": 2})),
        4 => {
            let mut args = insurance(900_000, 0.3);
            args["convergence"] = json!({"metric": "mean", "relative_half_width": 0.01, "confidence": 0.95,
                "min_iterations": 100_000});
            ("insurance.v1", args)
        }
        5 => {
            let mut args = insurance(700_000, 0.05);
            args["cat_prob"] = json!(0.01);
            args["cat_mu"] = json!(8);
            args["cat_sig"] = json!(1);
            ("insurance.v1", args)
        }
        6 => ("risk.compound.v1", portfolio(150_000, 1)),
        _ => ("risk.compound.v1", portfolio(70_000, LARGE_PORTFOLIO_PERILS)),
    }
}

/// Number of models.
const MODEL_COUNT: usize = 8;

/// Perils of a portfolio whose program is stored in two parts.
const LARGE_PORTFOLIO_PERILS: usize = 31;

/// Args of a portfolio of two lines with attritional losses, perils, and a treaty on all of them.
fn portfolio(iterations: u64, perils: usize) -> Value {
    let peril = |number: usize| {
        json!({"name": format!("peril-{number}"), "count": {"poisson": 0.4}, "strikes": [
            {"line": "property", "severity": {"lognormal": {"mean": 4_000_000 + 1000 * number, "cv": 2.5}}},
            {"line": "motor", "severity": {"lognormal": {"mean": 800_000 + 1000 * number, "cv": 2}},
             "rank": "same"},
        ]})
    };
    let attritional = json!({"name": "attritional", "annual": [
        {"line": "motor", "amount": {"lognormal": {"mean": 30_000_000, "cv": 0.08}}},
        {"line": "property", "amount": {"gamma": {"mean": 12_000_000, "cv": 0.1}}},
    ]});
    let groups: Vec<_> = std::iter::once(attritional).chain((0..perils).map(peril)).collect();
    json!({
        "iterations": iterations, "lines": ["motor", "property"], "groups": groups,
        "treaties": [{"name": "Stop loss", "kind": "aggregate_xl", "covers": ["motor", "property"],
            "limit": 20_000_000, "attachment": 60_000_000, "premium": 700_000}],
        "report": {"allocation": true},
    })
}

/// A submission that clients make.
#[derive(Debug, Clone)]
pub struct PlannedSubmission {
    pub job_id: String,
    /// What is sent.
    pub envelope: String,
    /// Whether the envelope is valid.
    pub is_valid: bool,
    pub submitter: &'static str,
}

/// Draws the envelope of a job.
pub fn draw_submission(rng: &mut Rng, job_id: String) -> PlannedSubmission {
    let (profile, args) = model(rng.usize(0..MODEL_COUNT));
    let verify = ["none", "spotcheck", "full"][rng.usize(0..3)];
    let mut policy = json!({"verify": verify});
    if rng.u8(0..4) == 0 {
        policy["target"] = json!("cpu");
    }
    if rng.u8(0..4) == 0 {
        policy["min_agents"] = json!(rng.u32(1..=3));
    }
    if rng.u8(0..4) == 0 {
        // At least the largest minimum: an envelope with less is refused.
        policy["max_agents"] = json!(rng.u32(3..=4));
    }
    if rng.u8(0..5) == 0 {
        policy["timeout_ms"] = json!(rng.u64(100..=60_000));
    }
    let persist = rng.u8(0..4) != 0;
    let mut envelope = json!({
        "op": {"name": "mc", "version": 1, "profile": profile}, "args": args, "policy": policy,
        "ctx": {"job_id": job_id},
        "artifacts": {"persist": persist, "include": ["result_json", "executions_json", "verification_json"]},
    });
    let is_valid = rng.u8(0..10) != 0;
    if !is_valid {
        envelope["args"]["iterations"] = json!(-1);
    }
    let submitter = ["alice", "bob"][rng.usize(0..2)];
    PlannedSubmission { job_id, envelope: envelope.to_string(), is_valid, submitter }
}

/// The request of a valid envelope.
pub fn parse(envelope: &str) -> Request {
    Request::from_json_with(envelope.as_bytes(), &**MODELS).expect("the workload's envelopes are valid")
}

/// The hash of the result that a job must have: its shards are executed one after the other, and
/// merged in the plan's order.
pub fn right_hash(job: &Job) -> Digest {
    static HASHES: LazyLock<Mutex<BTreeMap<String, Digest>>> = LazyLock::new(Mutex::default);
    let request = &job.request;
    let key = format!("{:?}", request.replay_key);
    if let Some(hash) = HASHES.lock().get(&key) {
        return *hash;
    }
    let (mut reduction, mut monitor) = (Reduction::new(&request.program), request.monitor());
    let mut reason = StopReason::BudgetExhausted;
    for id in request.plan.shards() {
        let result = right_result(&request.program, &request.shard(id));
        reduction.add(&result).expect("the result is of this program");
        let end = reduction.iterations();
        if let Some(monitor) = &mut monitor
            && request.plan.checkpoints().contains(&end)
            && let Some(stop) = monitor.test(&reduction.result())
        {
            reason = stop;
            break;
        }
    }
    let hash = JobResult::new(request, reduction.result(), reason).hash;
    HASHES.lock().insert(key, hash);
    hash
}

#[test]
fn one_portfolio_has_a_program_that_is_stored_in_parts() {
    let (profile, args) = model(MODEL_COUNT - 1);
    let envelope = json!({"op": {"name": "mc", "version": 1, "profile": profile}, "args": args,
        "ctx": {"job_id": "j"}});
    let length = parse(&envelope.to_string()).program.encode().len();
    assert!(length > 600 << 10, "{length}");
}
