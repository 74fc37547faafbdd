//! Limits of portfolios: tables that are too large are refused before they are computed, and an
//! execution stops within a leaf.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
};

use forge_kernel::{
    backend::{Backend, ExecutionControl, ExecutionError, scalar::Scalar, simd::Simd},
    request::Request,
};
use serde_json::{Value, json};

fn request(args: Value) -> Result<Request, String> {
    let envelope = json!({"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": args});
    Request::from_json(envelope.to_string().as_bytes()).map_err(|invalid| invalid.to_string())
}

fn strikes(severities: impl Iterator<Item = Value>) -> Value {
    let strikes: Vec<_> = severities.map(|severity| json!({"line": "a", "severity": severity})).collect();
    json!({"iterations": 100, "lines": ["a"], "groups": [
        {"name": "g", "count": {"poisson": 1}, "strikes": strikes}]})
}

#[test]
fn tables_that_are_too_large_are_refused_before_they_are_computed() {
    // 512 KiB each: computing them takes half a minute.
    let beta = |number: u32| json!({"beta": {"a": 0.06, "b": 0.06 + f64::from(number) / 1e4, "scale": 1e6}});
    let error = request(strikes((0..64).map(beta))).unwrap_err();
    assert!(
        error.contains("/args/groups") && error.contains("32 MiB") && error.contains("10 MiB"),
        "{error}"
    );
    // As many of a usual law as there may be fit.
    let lognormal = |number: u32| json!({"lognormal": {"mu": 8, "sigma": 1.0 + f64::from(number) / 100.0}});
    assert!(request(strikes((0..64).map(lognormal))).is_ok());
}

/// Counts the iterations until it stops the execution.
struct StopAtOnce(AtomicU64);

impl ExecutionControl for StopAtOnce {
    fn advance(&self, iterations: u64) -> ControlFlow<()> {
        self.0.fetch_add(iterations, Ordering::Relaxed);
        ControlFlow::Break(())
    }
}

#[test]
fn an_execution_stops_within_a_leaf() {
    let lines: Vec<String> = (0..16).map(|line| format!("line {line}")).collect();
    let treaty = |step: u32| json!({"name": format!("t{step}"), "step": step, "kind": "quota_share", "covers": lines, "cession": 0.01});
    let request = request(json!({
        "iterations": 65_536, "lines": lines,
        "groups": [{"name": "g", "count": {"constant": 30_000}, "claims": [
            {"line": "line 0", "severity": {"constant": 5}}]}],
        "treaties": (1..=32).map(treaty).collect::<Vec<_>>()
    }))
    .unwrap();
    let shard = request.shard(request.plan.shards().next().unwrap());
    // Vectors execute a whole group of lanes between two reports.
    for (backend, most) in [(&Scalar as &dyn Backend, 8), (&Simd::new(), 16)] {
        let control = StopAtOnce(AtomicU64::new(0));
        let stopped = backend.execute(&request.program, &[shard], &control);
        assert_eq!(stopped, Err(ExecutionError::Cancelled));
        let executed = control.0.into_inner();
        assert!((1..=most).contains(&executed), "{} executed {executed} iterations", backend.name());
    }
}
