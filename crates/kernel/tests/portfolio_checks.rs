//! Checks of portfolios against closed forms.
#![expect(clippy::disallowed_methods, reason = "closed forms of the test, compared with a tolerance")]

use forge_kernel::convergence::StopReason;
use serde_json::{Value, json};

mod common;

use common::portfolio::{assert_near, execute, number, output, request};

/// Exponential claims, uniform strikes of the same rank, strikes of listed amounts, and a total.
fn closed_forms(mean: f64) -> Value {
    json!({
        "iterations": 100_000,
        "decimals": 4,
        "lines": ["a", "b"],
        "groups": [
            {"name": "claims", "count": {"poisson": 2}, "claims": [
                {"line": "a", "severity": {"exponential": mean}, "weight": 3},
                {"line": "b", "severity": {"exponential": mean}, "deductible": mean}
            ]},
            {"name": "twins", "count": {"constant": 1}, "strikes": [
                {"line": "a", "severity": {"uniform": {"low": 0, "high": 100}}},
                {"line": "b", "severity": {"uniform": {"low": 0, "high": 200}}, "rank": "same"}
            ]},
            {"name": "storm", "count": {"binomial": {"trials": 2, "probability": 0.5}}, "strikes": [
                {"line": "a", "severity": {"piecewise": {"amounts": [0, 10, 30], "probabilities": [0, 0.5, 1]}}},
                {"line": "b", "severity": {"discrete": {"amounts": [0, 7], "probabilities": [1, 3]}}}
            ]},
            {"name": "year", "annual": [
                {"line": "a", "amount": {"exponential": 50}}, {"line": "b", "amount": {"constant": 3}}
            ]}
        ],
        "report": {"return_periods": [10, 1000]}
    })
}

#[test]
fn checks_know_closed_forms_and_runs_agree_with_them() {
    let request = request(&closed_forms(1000.0));
    let merged = execute(&request);
    let output = request.result_document(&merged, StopReason::BudgetExhausted).output;
    let groups = &output["checks"]["groups"];
    for moment in ["mean", "variance"] {
        assert_near(groups, &format!("/0/count/{moment}/expected"), 2.0);
    }
    // A claim is paid in full, or with probability e^-1 an exponential part, one time in four.
    let paid = 0.75 + 0.25 * (-1f64).exp();
    assert_near(groups, "/0/gross/mean/expected", 2.0 * 1000.0 * paid);
    assert_near(groups, "/0/gross/variance/expected", 2.0 * 2e6 * paid);
    assert_near(groups, "/0/zero_probability/expected", (-2.0 * paid).exp());
    assert_near(groups, "/1/gross/mean/expected", 150.0);
    assert_near(groups, "/1/gross/variance/expected", 300.0 * 300.0 / 12.0);
    // Moments of the pieces and of the atoms: 12.5, 233.33 and 5.25, 36.75.
    let (mean, square) = (12.5 + 5.25, 700.0 / 3.0 - 12.5 * 12.5 + 36.75 - 5.25 * 5.25);
    assert_near(groups, "/2/gross/mean/expected", mean);
    assert!((number(groups, "/2/gross/variance/expected") - (square + 0.5 * mean * mean)).abs() < 0.02);
    assert_near(groups, "/3/gross/mean/expected", 53.0);
    assert_near(groups, "/3/gross/variance/expected", 2500.0);
    // No occurrence: an amount of the first line is 0 only where the draws say so.
    assert_near(groups, "/2/zero_probability/expected", 0.25);
    let scores = ["/count/mean", "/count/variance", "/gross/mean", "/gross/variance", "/zero_probability"];
    for group in groups.as_array().unwrap() {
        for score in scores {
            let check = group.pointer(score).unwrap_or(&Value::Null);
            if !check.is_object() {
                continue;
            }
            let z = check["z"].as_f64();
            let is_known =
                z.is_some() || check["no_z_reason"] == "constant" || check["no_z_reason"] == "few_years";
            assert!(is_known && z.unwrap_or(0.0).abs() < 4.0, "{}{score}: {check}", group["name"]);
        }
    }
    // The storm is a sum of two draws: the largest loss of all groups is unknown. Other groups are
    // compared alone.
    let largest = &output["checks"]["largest_occurrence"][0];
    assert_eq!(largest["probability"]["no_z_reason"], "strikes");
    let x = number(largest, "/groups/0/amount");
    let exceeds = 0.75 * (-x / 1000.0).exp() + 0.25 * (-1.0 - x / 1000.0).exp();
    let claims = &largest["groups"][0]["probability"];
    assert_near(claims, "/expected", 1.0 - (-2.0 * exceeds).exp());
    assert!((0.05..0.1).contains(&number(claims, "/found")) && number(claims, "/z").abs() < 4.0, "{claims}");
    // One time in ten, a sum of twins is above this amount, which lies between 0 and 300.
    let twins = &largest["groups"][1];
    let x = number(twins, "/amount");
    assert!((269.0..272.0).contains(&x), "{twins}");
    assert_near(twins, "/probability/expected", 1.0 - x / 300.0);
    assert!(number(twins, "/probability/z").abs() < 4.0, "{twins}");
    assert_eq!(largest["groups"][2]["probability"]["no_z_reason"], "strikes");
    assert!(largest["groups"][3].is_null());
}

#[test]
fn model_probabilities_are_never_negative() {
    // The largest amount is that of the constant, which no occurrence exceeds.
    for mean in (1..60).map(|tenths| f64::from(tenths) / 10.0) {
        let output = output(&json!({
            "iterations": 200,
            "lines": ["a"],
            "groups": [{"name": "claims", "count": {"poisson": mean}, "claims": [
                {"line": "a", "severity": {"constant": 100}},
                {"line": "a", "severity": {"constant": 200}, "weight": 0.3}
            ]}],
            "report": {"return_periods": [1000]}
        }));
        let largest = &output["checks"]["largest_occurrence"][0];
        let probabilities = ["/probability/expected", "/groups/0/probability/expected"];
        let found = probabilities.map(|at| number(largest, at));
        assert!(found.iter().all(|found| (0.0..1e-14).contains(found)), "mean {mean}: {found:?}");
        assert!(output["checks"]["groups"][0]["zero_probability"]["expected"].as_f64() <= Some(1.0));
    }
}

#[test]
fn checks_find_amounts_of_another_model() {
    let (request, other) = (request(&closed_forms(1000.0)), request(&closed_forms(1020.0)));
    let merged = execute(&other);
    let output = request.result_document(&merged, StopReason::BudgetExhausted).output;
    let groups = &output["checks"]["groups"];
    assert!(number(groups, "/0/count/mean/z").abs() < 4.0);
    assert!(number(groups, "/0/gross/mean/z") > 4.0, "{groups:#}");
}

#[test]
fn checks_say_why_they_have_no_score() {
    let of = |iterations: u64, severity: Value, index: Value| {
        output(&json!({
            "iterations": iterations,
            "lines": ["a"],
            "groups": [{"name": "claims", "count": {"constant": 1}, "claims": [
                {"line": "a", "severity": severity, "index": index}
            ]}],
            "indices": [{"name": "inflation", "lognormal": {"mean": 1, "cv": 0.1}}],
            "report": {"return_periods": [2, 900]}
        }))["checks"]
            .clone()
    };
    let reasons = |checks: &Value| {
        let figures = [
            "/groups/0/count/mean",
            "/groups/0/gross/mean",
            "/groups/0/gross/variance",
            "/groups/0/zero_probability",
            "/largest_occurrence/0/probability",
            "/largest_occurrence/1/probability",
        ];
        figures.map(|figure| checks.pointer(figure).unwrap()["no_z_reason"].as_str().unwrap_or("").to_owned())
    };
    let pareto = json!({"pareto": {"threshold": 1000, "alpha": 3}});
    let checks = of(1000, pareto.clone(), Value::Null);
    assert_eq!(reasons(&checks), ["constant", "", "moment", "constant", "", "few_years"]);
    assert_near(&checks, "/groups/0/gross/variance/expected", 750_000.0);
    let checks = of(1000, pareto.clone(), json!("inflation"));
    assert_eq!(reasons(&checks), ["constant", "index", "index", "index", "index", "index"]);
    let groups = &checks["largest_occurrence"][0]["groups"];
    assert_eq!(
        (&groups[0]["name"], &groups[0]["probability"]["no_z_reason"]),
        (&json!("claims"), &json!("index"))
    );
    let checks = of(1, json!({"exponential": 1000}), Value::Null);
    assert_eq!(reasons(&checks)[1..3], ["", "single_year"]);
    let checks = of(1000, json!({"pareto": {"threshold": 1000, "alpha": 0.9}}), Value::Null);
    assert!(checks["groups"][0]["gross"]["mean"]["expected"].is_null());
}
