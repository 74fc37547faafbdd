//! Portfolios from args to the figures of their results.
#![allow(clippy::disallowed_methods, reason = "figures are compared with a tolerance")]

use forge_contract::shard_result::ShardResult;
use forge_kernel::{
    backend::{Backend, simd::Simd},
    convergence::StopReason,
    reduction::merge_results,
    request::Request,
};
use serde_json::{Value, json};

/// The request of a portfolio with these args.
pub fn request(args: &Value) -> Request {
    let envelope = json!({
        "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
        "seed": {"mode": "explicit", "value": "figures"},
        "args": args
    });
    Request::from_json(envelope.to_string().as_bytes()).unwrap()
}

/// The result of all shards.
pub fn execute(request: &Request) -> ShardResult {
    let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
    merge_results(&request.program, &Simd::new().execute(&request.program, &shards, &()).unwrap())
}

/// `output` of the result document.
pub fn output(args: &Value) -> Value {
    let request = request(args);
    request.result_document(&execute(&request), StopReason::BudgetExhausted).output
}

/// A number of a document.
pub fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("{pointer} is no number: {value:#}"))
}

/// Asserts that a number of a document is this one, to 2e-5.
pub fn assert_near(value: &Value, pointer: &str, expected: f64) {
    let found = number(value, pointer);
    assert!((found / expected - 1.0).abs() < 2e-5, "{pointer}: {found}, not {expected}");
}
