//! The jobs of a simulation and their right results.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use fastrand::Rng;
use forge_contract::digest::Digest;
use forge_documents::{Job, JobResult};
use forge_kernel::{convergence::StopReason, reduction::Reduction, request::Request};
use forge_service::model_cache::ModelCache;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{backends::right_result, invalid_envelopes::spoil, options::SimulationOptions};

/// Compiled models of all seeds.
pub static MODELS: LazyLock<Arc<ModelCache>> = LazyLock::new(|| Arc::new(ModelCache::new(64)));

/// Profile of portfolios, which GPUs do not execute.
pub const PORTFOLIO: &str = "risk.compound.v1";

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
        6 => (PORTFOLIO, portfolio(150_000, 1)),
        LARGE_PORTFOLIO => (PORTFOLIO, portfolio(70_000, LARGE_PORTFOLIO_PERILS)),
        MANY_SHARDS => {
            ("eta.v1", json!({"iterations": 2_600_000, "base_eta": 60, "traffic_mean": 7, "traffic_std": 3}))
        }
        _ => {
            let mut args = insurance(1_200_000_000, 0.3);
            args["convergence"] = json!({"metric": "mean", "relative_half_width": 0.005, "confidence": 0.95,
                "min_iterations": 300_000});
            ("insurance.v1", args)
        }
    }
}

/// Number of models.
const MODEL_COUNT: usize = 10;
/// Number of the first models, which have a few shards each.
const SMALL_MODEL_COUNT: usize = 8;
/// The model whose program is stored in two parts.
const LARGE_PORTFOLIO: usize = 7;
/// A model of 40 shards.
const MANY_SHARDS: usize = 8;
/// A model that stops at a fraction of its iterations, with shards of several heights. Its shards
/// are those of a long job.
const STOPS_EARLY: usize = 9;

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

/// Namespaces of job records; the first is the default.
pub const NAMESPACES: [&str; 2] = ["jobs", "night"];

/// Draws the envelope of a job. The clusters of a run differ in what they can execute in time.
pub fn draw_submission(rng: &mut Rng, job_id: String, options: &SimulationOptions) -> PlannedSubmission {
    let models = if options.has_fast_worker() { MODEL_COUNT } else { SMALL_MODEL_COUNT };
    let (profile, args) = model(rng.usize(0..models));
    let target = ["any", "any", "any", "any", "any", "cpu", "cpu", "gpu"][rng.usize(0..8)];
    let verify = ["none", "spotcheck", "full"][rng.usize(0..3)];
    let mut policy = json!({"verify": verify, "target": target});
    let min_agents = if rng.u8(0..4) == 0 { rng.u32(1..=3) } else { 0 };
    policy["min_agents"] = json!(min_agents);
    if rng.u8(0..4) == 0 {
        // An envelope with less than the minimum is refused.
        policy["max_agents"] = json!(rng.u32(min_agents.max(1)..=4));
    }
    // Without a GPU, a job for one would wait for ever.
    if rng.u8(0..5) == 0 || (target == "gpu" && !options.has_gpu()) {
        policy["timeout_ms"] = json!(rng.u64(100..=60_000));
    }
    let mut artifacts = json!({"persist": rng.u8(0..4) != 0,
        "include": ["result_json", "executions_json", "verification_json"]});
    if rng.u8(0..4) == 0 {
        artifacts["kv_namespace"] = json!(NAMESPACES[1]);
    }
    let mut ctx = json!({"job_id": job_id});
    if rng.u8(0..4) == 0 {
        ctx["billing"] = json!({"mode": "billable"});
    }
    let envelope = json!({"op": {"name": "mc", "version": 1, "profile": profile}, "args": args,
        "policy": policy, "ctx": ctx, "artifacts": artifacts});
    // A GPU cannot execute it.
    let is_executable = target != "gpu" || profile != PORTFOLIO;
    let is_spoilt = rng.u8(0..8) == 0;
    PlannedSubmission {
        job_id,
        envelope: if is_spoilt { spoil(rng, envelope) } else { envelope.to_string() },
        is_valid: is_executable && !is_spoilt,
        submitter: ["alice", "bob"][rng.usize(0..2)],
    }
}

/// The request of a valid envelope.
pub fn parse(envelope: &str) -> Request {
    Request::from_json_with(envelope.as_bytes(), &**MODELS).expect("the workload's envelopes are valid")
}

/// The hash of the result that a job must have: its shards are executed one after the other, and
/// merged in the plan's order.
pub fn right_hash(job: &Job) -> Digest {
    right_end(job).0
}

/// The hash of the result that a job must have, and the iterations after which it ends.
fn right_end(job: &Job) -> (Digest, u64) {
    static ENDS: LazyLock<Mutex<BTreeMap<String, (Digest, u64)>>> = LazyLock::new(Mutex::default);
    let request = &job.request;
    let key = format!("{:?}", request.replay_key);
    if let Some(end) = ENDS.lock().get(&key) {
        return *end;
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
    let end = (JobResult::new(request, reduction.result(), reason).hash, reduction.iterations());
    ENDS.lock().insert(key, end);
    end
}

/// A valid envelope.
pub fn valid_envelope() -> Value {
    envelope_of(0)
}

fn envelope_of(number: usize) -> Value {
    let (profile, args) = model(number);
    json!({"op": {"name": "mc", "version": 1, "profile": profile}, "args": args, "policy": {},
        "ctx": {"job_id": "j"}})
}

#[test]
fn one_portfolio_has_a_program_that_is_stored_in_parts() {
    let length = parse(&envelope_of(LARGE_PORTFOLIO).to_string()).program.encode().len();
    assert!(length > 600 << 10, "{length}");
}

#[test]
fn jobs_have_many_shards_and_shards_of_several_heights_and_stop_early() {
    let plan = parse(&envelope_of(MANY_SHARDS).to_string()).plan;
    assert_eq!((plan.shard_count(), plan.is_short()), (40, true));
    let job = Job::new(parse(&envelope_of(STOPS_EARLY).to_string()));
    let (_, iterations) = right_end(&job);
    let plan = &job.request.plan;
    let merged: Vec<_> = plan.shards().take_while(|id| plan.range(*id).end <= iterations).collect();
    let heights: BTreeSet<_> = merged.iter().map(|id| id.height).collect();
    assert!(!plan.is_short() && heights.len() > 2, "{iterations}: {merged:?}");
    assert!((10..100).contains(&merged.len()) && plan.shard_count() > 400, "{merged:?}");
}
