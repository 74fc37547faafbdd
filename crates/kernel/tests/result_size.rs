//! The estimate of the size of results is above the true size, and at most twice that and a little:
//! for random portfolios, and for those that are hard to estimate.

use std::fmt::Write;

use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{LEAF_ITERATIONS, Shard, ShardId},
};
use forge_kernel::{
    backend::{Backend, simd::Simd},
    request::Request,
    result_size::{estimate, upper_bound},
    testing::portfolios::random_portfolio,
};
use serde_json::{Value, json};

/// The true size of a result of this many iterations, and the estimate.
fn sizes(program: &Program, iterations: u64) -> (u64, u64) {
    let id = ShardId { height: 12, index: 0 };
    let shard = Shard { id, iterations, seed: Digest::hash_parts(&[b"result size"]) };
    let result = Simd::new().execute(program, &[shard], &()).expect("the execution is not cancelled");
    let size = result[0].encode().len() as u64;
    let expected = estimate(program, program.digest(), iterations).total();
    let bound = upper_bound(program, iterations).total();
    assert!(size.max(expected) <= bound, "{size}, {expected}, {bound}");
    (size, expected)
}

fn request(args: &Value) -> Request {
    let envelope = json!({"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": args});
    Request::from_json(envelope.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

fn program(args: &Value) -> Program {
    Program::clone(&request(args).program)
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|line| format!("line {line}")).collect()
}

/// As many lines as there may be, each with a claim of this spread, under this many quota shares in
/// a step each.
fn wide(sigma: f64, steps: u32, allocation: bool) -> Value {
    let lines = lines(16);
    let claims = |line: &String| json!({"line": line, "severity": {"lognormal": {"mu": 9, "sigma": sigma}}});
    let treaty = |step: u32| {
        json!({"name": format!("share {step}"), "step": step, "kind": "quota_share", "covers": lines,
            "cession": 0.05})
    };
    json!({
        "iterations": LEAF_ITERATIONS, "lines": lines, "report": {"allocation": allocation},
        "groups": [{"name": "all", "count": {"poisson": 2},
            "strikes": lines.iter().map(claims).collect::<Vec<_>>()}],
        "treaties": (1..=steps).map(treaty).collect::<Vec<_>>()
    })
}

/// The most lines, groups, components and treaties that there may be: a tower whose upper layers
/// rarely pay, in a step each.
fn tower(alpha: f64) -> Value {
    let lines = lines(16);
    let group = |number: usize| {
        let claim = |line: usize| {
            let severity = json!({"pareto": {"threshold": 100_000, "alpha": alpha + 0.01 * number as f64}});
            json!({"line": lines[line % 16], "severity": severity, "limit": 1_000_000_000})
        };
        json!({"name": format!("group {number}"), "claims": [claim(number), claim(number + 1)],
            "count": {"negative_binomial": {"mean": 3, "contagion": 1}}})
    };
    let layer = |number: usize| {
        json!({"name": format!("layer {number}"), "step": number, "kind": "occurrence_xl", "covers": lines,
            "limit": 1_000_000, "attachment": 1_000_000 * number})
    };
    json!({
        "iterations": 200_000, "lines": lines, "report": {"allocation": true},
        "groups": (0..32).map(group).collect::<Vec<_>>(), "treaties": (1..=32).map(layer).collect::<Vec<_>>()
    })
}

/// One line with this count and severity, under a layer.
fn narrow(count: &Value, severity: &Value) -> Value {
    json!({
        "iterations": LEAF_ITERATIONS, "lines": ["a"], "report": {"allocation": true},
        "groups": [{"name": "all", "count": count, "claims": [{"line": "a", "severity": severity}]}],
        "treaties": [{"name": "layer", "kind": "occurrence_xl", "covers": ["a"], "limit": 1000,
            "attachment": 1000}]
    })
}

/// What an estimate may exceed twice the size by, in bytes: little of what a message holds.
const TOLERANCE: u64 = 8 << 10;

/// Adds a line about an estimate that is too small or too large.
fn check((size, expected): (u64, u64), name: &str, wrong: &mut String) {
    if !(size..=2 * size + TOLERANCE).contains(&expected) {
        let factor = expected as f64 / size as f64;
        writeln!(wrong, "{name}: {size} bytes, estimate {expected}, {factor:.2} times as much")
            .expect("strings take all text");
    }
}

#[test]
fn estimates_of_extreme_portfolios_are_near_the_size() {
    let amounts: Vec<u64> = (1..=40).map(|number| 1000 * number).collect();
    let discrete = json!({"discrete": {"amounts": amounts, "probabilities": vec![1; 40]}});
    let pareto = |threshold, alpha| json!({"pareto": {"threshold": threshold, "alpha": alpha}});
    let cases = [
        ("heavy tails in many steps", wide(5.0, 32, false)),
        ("light tails", wide(1.0, 2, true)),
        ("heavy tails", wide(5.0, 4, true)),
        ("no treaties", wide(2.0, 0, false)),
        ("nearly constant", wide(0.01, 8, true)),
        ("the most of everything", tower(2.1)),
        ("the most of everything, without a mean", tower(0.7)),
        ("constant", narrow(&json!({"constant": 3}), &json!({"constant": 1500}))),
        ("atoms", narrow(&json!({"bernoulli": 0.5}), &discrete)),
        ("sums of atoms", narrow(&json!({"poisson": 3}), &discrete)),
        ("rare", narrow(&json!({"bernoulli": 0.001}), &pareto(100, 1.2))),
        ("very heavy", narrow(&json!({"poisson": 1}), &pareto(1, 0.4))),
        ("many claims", narrow(&json!({"poisson": 2000}), &json!({"lognormal": {"mu": 9, "sigma": 1}}))),
    ];
    let mut wrong = String::new();
    for (name, args) in &cases {
        let iterations = if *name == "many claims" { 4096 } else { LEAF_ITERATIONS };
        check(sizes(&program(args), iterations), name, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn estimates_of_random_portfolios_are_near_the_size() {
    let mut wrong = String::new();
    for seed in 0..120 {
        let iterations = [300, 5000, LEAF_ITERATIONS][seed as usize % 3];
        check(sizes(&random_portfolio(seed), iterations), &format!("seed {seed}"), &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_most_of_everything_fits_a_message() {
    let request = request(&tower(2.1));
    assert_eq!(request.excess_result_size(1016 << 10), None);
}

#[test]
fn a_size_is_compared_with_the_limit() {
    for args in [wide(5.0, 32, false), wide(5.0, 4, true)] {
        let request = request(&args);
        let (size, expected) = sizes(&request.program, LEAF_ITERATIONS);
        let excess = request.excess_result_size(size - 1).map(|size| size.total());
        assert_eq!(excess, Some(expected));
        assert_eq!(request.excess_result_size(2 * size), None);
    }
}

#[test]
fn small_results_need_no_pilot() {
    let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "args":
        {"iterations": 281474976710656, "claim_freq": 3, "claim_severity_mu": 8, "claim_severity_sig": 2}}"#;
    let request = Request::from_json(envelope).expect("valid");
    assert!(upper_bound(&request.program, 1 << 28).total() < 1 << 19);
    assert_eq!(request.excess_result_size(1 << 19), None);
}
