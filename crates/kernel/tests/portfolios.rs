//! Portfolios of `risk.compound.v1` against worked examples: closed forms and convolutions of
//! textbooks and papers. Every run has an explicit seed; a mean must lie within four standard
//! errors of the exact one.

use forge_contract::{result_details::AllocationClass, shard_result::ShardResult};
use forge_kernel::{
    backend::{Backend, simd::Simd},
    convergence::StopReason,
    reduction::{Reduction, merge_results},
    request::Request,
};
use serde_json::{Value, json};

/// Runs a portfolio with these groups and treaties and returns the `output` of its result.
fn run(iterations: u64, lines: &[&str], groups: Value, treaties: Value) -> Value {
    let levels = [0.5, 0.9, 0.95, 0.99, 0.995];
    run_args(&json!({
        "iterations": iterations, "decimals": 4, "lines": lines, "groups": groups, "treaties": treaties,
        "report": {"allocation": true, "levels": levels, "return_periods": [10, 50, 100, 200]}
    }))
}

/// Runs a portfolio and returns the `output` of its result.
fn run_args(args: &Value) -> Value {
    let envelope = json!({
        "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
        "seed": {"mode": "explicit", "value": "worked examples"},
        "args": args
    });
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
    let results = Simd::new().execute(&request.program, &shards, &()).unwrap();
    let merged = merge_results(&request.program, &results);
    request.result_document(&merged, StopReason::BudgetExhausted).output
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Checks a mean with its standard error.
fn assert_mean(figures: &Value, expected: f64, what: &str) {
    let (mean, error) = (number(&figures["mean"]), number(&figures["std_error"]));
    let z = (mean - expected) / error;
    assert!(z.abs() < 4.0, "{what}: mean {mean}, expected {expected}, z = {z:.2}");
}

/// Checks a probability that was estimated from `n` years.
fn assert_probability(found: f64, expected: f64, n: u64, what: &str) {
    let error = (expected * (1.0 - expected) / n as f64).sqrt();
    let z = (found - expected) / error;
    assert!(z.abs() < 4.0, "{what}: {found}, expected {expected}, z = {z:.2}");
}

/// Checks that the 95% interval of a value at risk, widened by half on both sides, holds the exact
/// one.
fn assert_quantile(output: &Value, level: f64, expected: f64, what: &str) {
    let quantiles = output["net"]["quantiles"].as_array().unwrap();
    let row = quantiles.iter().find(|row| row["level"] == level).unwrap();
    let (low, high) = (number(&row["var_low"]), number(&row["var_high"]));
    let margin = (high - low) / 2.0;
    assert!(
        (low - margin..=high + margin).contains(&expected),
        "{what}: {low} to {high}, expected {expected} at {level}"
    );
}

fn one_group(count: Value, claims: Value) -> Value {
    json!([{"name": "group", "count": count, "claims": claims}])
}

fn claims(severity: Value) -> Value {
    json!([{"line": "line", "severity": severity}])
}

/// Constants with weights: a discrete severity.
fn discrete(amounts: &[(f64, f64)]) -> Value {
    let claim = |&(amount, weight): &(f64, f64)| json!({"line": "line", "weight": weight, "severity": {"constant": amount}});
    amounts.iter().map(claim).collect()
}

#[test]
fn means_and_quantiles_of_compound_laws() {
    // Klugman, Panjer, Willmot, "Loss Models", and Bahnemann, CAS Monograph 2: exact values by
    // convolution.
    let n = 200_000;
    let cases = [
        (json!({"poisson": 5}), claims(json!({"gamma": {"shape": 0.5, "scale": 2500}})), 6250.0),
        (
            json!({"negative_binomial": {"r": 16, "beta": 6}}),
            claims(json!({"uniform": {"low": 0, "high": 8}})),
            384.0,
        ),
        (json!({"poisson": 3}), claims(json!({"burr": {"alpha": 3, "scale": 2, "gamma": 1}})), 3.0),
        (json!({"poisson": 10}), claims(json!({"gamma": {"shape": 2, "scale": 1}})), 20.0),
        (json!({"poisson": 20}), claims(json!({"lomax": {"alpha": 4, "scale": 3}})), 20.0),
        (json!({"poisson": 12}), discrete(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), 20.0),
        (
            json!({"binomial": {"trials": 3, "probability": 0.4}}),
            claims(json!({"exponential": {"mean": 100}})),
            120.0,
        ),
    ];
    for (count, claims, mean) in cases {
        let what = format!("{count} {claims}");
        let output = run(n, &["line"], one_group(count, claims), json!([]));
        assert_mean(&output["net"], mean, &what);
        assert_eq!(output["net"]["mean"], output["gross"]["mean"], "{what}");
    }
    let gamma = claims(json!({"gamma": {"shape": 2, "scale": 1}}));
    let output = run(n, &["line"], one_group(json!({"poisson": 10}), gamma), json!([]));
    for (level, exact) in [(0.9, 30.295_864_77), (0.95, 33.794_218_27), (0.99, 40.811_792_99)] {
        assert_quantile(&output, level, exact, "Poisson and gamma");
    }
    let lomax = claims(json!({"lomax": {"alpha": 4, "scale": 3}}));
    let output = run(n, &["line"], one_group(json!({"poisson": 20}), lomax), json!([]));
    for (level, exact) in [(0.9, 29.984_375), (0.99, 42.988_281_25), (0.995, 47.113_281_25)] {
        assert_quantile(&output, level, exact, "Poisson and Pareto II");
    }
}

#[test]
fn policy_terms_are_deductible_then_limit_then_share() {
    // Loss Models: a Pareto layer with coinsurance, and a gamma with deductible and limit.
    let n = 200_000;
    let claim = json!([{"line": "line", "severity": {"lomax": {"alpha": 4, "scale": 10}},
        "deductible": 6, "limit": 18, "share": 0.75}]);
    let output = run(n, &["line"], one_group(json!({"poisson": 3}), claim), json!([]));
    assert_mean(&output["net"], 1.640_234_414_754, "layer with coinsurance");
    assert_probability(number(&output["net"]["zero_probability"]), 0.632_696_982_632, n, "no payment");
    let claim = json!([{"line": "line", "severity": {"gamma": {"shape": 2, "scale": 100}},
        "deductible": 50, "limit": 125}]);
    let count = json!({"negative_binomial": {"r": 2, "beta": 1.5}});
    let output = run(n, &["line"], one_group(count, claim), json!([]));
    assert_mean(&output["net"], 259.402_308_402_724, "deductible and limit");
    let deviation = number(&output["net"]["std_dev"]);
    let variance = deviation * deviation;
    assert!((variance / 62_616.721_863 - 1.0).abs() < 0.02, "{variance}");
}

#[test]
fn free_reinstatements_limit_the_year() {
    // Mata 2000, ASTIN Bulletin 30(2): Poisson 10, Pareto II (3, 10), one free reinstatement.
    let treaty = |limit: u32, attachment: u32| {
        json!({"name": format!("{limit} xs {attachment}"), "kind": "occurrence_xl", "covers": ["line"],
            "limit": limit, "attachment": attachment, "reinstatements": [0]})
    };
    let treaties = json!([treaty(10, 10), treaty(10, 20), treaty(20, 10)]);
    let lomax = claims(json!({"lomax": {"alpha": 3, "scale": 10}}));
    let groups = one_group(json!({"poisson": 10}), lomax);
    for (at, expected) in [(0, 6.615_059), (1, 2.412_121), (2, 9.221_39)] {
        let treaties = json!([treaties[at]]);
        let output = run(200_000, &["line"], groups.clone(), treaties);
        assert_mean(&output["treaties"][0]["ceded"], expected, "free reinstatement");
    }
}

#[test]
fn technical_premium_pays_for_reinstatements() {
    // Sundt 1991, with the figures of the GEMAct paper, exact by convolution: Poisson 0.5,
    // generalised Pareto, AAD 100, two reinstatements at 100%.
    let n = 1_000_000;
    let gpd = claims(json!({"gpd": {"threshold": 0, "scale": 83.34, "xi": 0.834}}));
    let treaty = json!([{"name": "layer", "kind": "occurrence_xl", "covers": ["line"], "limit": 100,
        "attachment": 0, "aad": 100, "reinstatements": [1, 1]}]);
    let output = run(n, &["line"], one_group(json!({"poisson": 0.5}), gpd), treaty);
    let treaty = &output["treaties"][0];
    assert_mean(&treaty["ceded"], 4.513_942_325, "ceded");
    // The relative error of the reinstated amounts and of the premium is that of the ceded amount.
    let relative = 4.0 * number(&treaty["ceded"]["std_error"]) / number(&treaty["ceded"]["mean"]);
    for (found, expected) in [
        (&treaty["reinstated"][0], 4.089_163_553_8),
        (&treaty["reinstated"][1], 0.396_425_859_3),
        (&treaty["technical_premium"], 4.320_157_784_8),
    ] {
        let allowed = if expected < 1.0 { 3.0 * relative } else { relative };
        assert!((number(found) / expected - 1.0).abs() < allowed, "{found}, expected {expected}");
    }
}

#[test]
fn stop_loss_on_dice_of_dice() {
    // One to six dice; the layer 12 xs 24 of their sum, by exact convolution.
    let dice: Vec<_> = (1..=6).map(|points| (f64::from(points), 1.0)).collect();
    let count = json!({"discrete": {"probabilities": [0, 1, 1, 1, 1, 1, 1]}});
    let stop_loss = json!([{"name": "layer", "kind": "aggregate_xl", "covers": ["line"], "limit": 12,
        "attachment": 24}]);
    let output = run(400_000, &["line"], one_group(count, discrete(&dice)), stop_loss);
    assert_mean(&output["gross"], 12.25, "sum of the dice");
    assert_mean(&output["treaties"][0]["ceded"], 0.106_610_082_304_526_73, "layer");
    let net = number(&output["gross"]["mean"]) - number(&output["treaties"][0]["ceded"]["mean"]);
    assert!((number(&output["net"]["mean"]) - net).abs() < 1e-9);
}

#[test]
fn tail_is_allocated_to_those_who_make_it() {
    // Bodoff 2007: wind 99 with probability 0.2, quake 100 with 0.05. In the years of at least 100,
    // the worst 5%, the quake is always there and the wind as often as ever.
    let n = 400_000;
    let groups = json!([
        {"name": "wind", "count": {"bernoulli": 0.2}, "claims": [{"line": "wind", "severity": {"constant": 99}}]},
        {"name": "quake", "count": {"bernoulli": 0.05}, "claims": [{"line": "quake", "severity": {"constant": 100}}]}
    ]);
    let output = run(n, &["wind", "quake"], groups, json!([]));
    assert_mean(&output["lines"][0]["gross"], 19.8, "wind");
    assert_mean(&output["lines"][1]["gross"], 5.0, "quake");
    let allocation = output["allocation"].as_array().unwrap();
    let tail = &allocation.iter().find(|row| row["level"] == 0.95).unwrap()["tail"];
    let [wind, quake] = [0, 1].map(|line| number(&tail["lines"][line]));
    // About 1% of the tail's years may be just below 100, where the wind is alone.
    assert!((wind - 19.8).abs() < 3.0 && (quake - 100.0).abs() < 3.0, "{wind} {quake}");
    assert!((wind + quake - number(&tail["net"])).abs() < 1e-9);
}

#[test]
fn largest_occurrences_of_rare_events() {
    // Three events with rates: P(max ≤ x) = e^(−Σ rates above x).
    let event = |name: &str, rate: f64, loss: f64| {
        json!({"name": name, "count": {"poisson": rate},
            "claims": [{"line": "line", "severity": {"constant": loss}}]})
    };
    let groups = json!([event("a", 0.1, 1e6), event("b", 0.05, 5e6), event("c", 0.02, 2e7)]);
    let output = run(400_000, &["line"], groups, json!([]));
    assert_mean(&output["gross"], 750_000.0, "annual loss");
    let largest = |row: usize| number(&output["exceedance"][row]["largest_occurrence"]["var"]);
    for (row, expected) in [1e6, 5e6, 2e7].into_iter().enumerate() {
        // To the resolution of the histogram.
        assert!((largest(row) / expected - 1.0).abs() < 1e-3, "{}, expected {expected}", largest(row));
    }
}

#[test]
fn portfolio_of_one_line_is_the_compound_model() {
    // The same draws as insurance.v1: claims, then a catastrophe, under a limit each.
    let args = json!({"iterations": 100_000, "claim_freq": 2, "claim_severity_mu": 6, "claim_severity_sig": 1,
        "cat_prob": 0.02, "cat_mu": 10, "cat_sig": 1.5, "policy_limit": 50_000});
    let portfolio = json!({"iterations": 100_000, "lines": ["line"], "groups": [
        {"name": "claims", "count": {"poisson": 2}, "claims": [
            {"line": "line", "severity": {"lognormal": {"mu": 6, "sigma": 1}}, "limit": 50_000}]},
        {"name": "catastrophe", "count": {"bernoulli": 0.02}, "claims": [
            {"line": "line", "severity": {"lognormal": {"mu": 10, "sigma": 1.5}}}]}]});
    let results = [("insurance.v1", args), ("risk.compound.v1", portfolio)].map(|(profile, args)| {
        let envelope = json!({"op": {"name": "mc", "version": 1, "profile": profile}, "args": args,
            "seed": {"mode": "explicit", "value": "the same draws"}});
        let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
        let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
        let results = Simd::new().execute(&request.program, &shards, &()).unwrap();
        merge_results(&request.program, &results)
    });
    let [plain, portfolio] = &results;
    assert_eq!((&plain.total, &plain.largest), (&portfolio.total, &portfolio.largest));
    assert_eq!((plain.sum, plain.sum_squares), (portfolio.sum, portfolio.sum_squares));
    assert_eq!(plain.components, portfolio.components);
}

#[test]
fn own_funds_are_adequate_also_where_nothing_is_required() {
    let capital = |count: u32, measure: &str| {
        let args = json!({
            "iterations": 2000, "lines": ["line"],
            "groups": one_group(json!({"constant": count}), claims(json!({"constant": 100}))),
            "capital": {"own_funds": 150, "measure": measure, "level": 0.5}
        });
        run_args(&args)["capital_adequacy_signal"].clone()
    };
    for measure in ["var", "tvar"] {
        let signals = [0, 1, 2].map(|count| capital(count, measure));
        let requirements = signals.each_ref().map(|signal| signal["scr"].as_f64());
        assert_eq!(requirements, [Some(0.0), Some(100.0), Some(200.0)], "{measure}");
        let ratios = signals.each_ref().map(|signal| signal["ratio_low"].as_f64());
        assert_eq!(ratios, [None, Some(1.5), Some(0.75)], "{measure}");
        let found = signals.each_ref().map(|signal| signal["signal"].as_str().unwrap());
        assert_eq!(found, ["adequate", "adequate", "inadequate"], "{measure}");
        let ruin = signals.each_ref().map(|signal| signal["ruin_probability"].as_f64());
        assert_eq!(ruin, [Some(0.0), Some(0.0), Some(1.0)], "{measure}");
    }
}

#[test]
fn allocations_that_no_execution_gives_are_refused() {
    let request = |allocation: bool| {
        let envelope = json!({
            "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
            "args": {"iterations": 100, "lines": ["line"], "report": {"allocation": allocation},
                "groups": one_group(json!({"poisson": 1}), claims(json!({"constant": 7})))}
        });
        Request::from_json(envelope.to_string().as_bytes()).unwrap()
    };
    let result = |request: &Request| {
        let shard = request.shard(request.plan.shards().next().unwrap());
        Simd::new().execute(&request.program, &[shard], &()).unwrap().remove(0)
    };
    let is_accepted =
        |request: &Request, result: &ShardResult| Reduction::new(&request.program).add(result).is_ok();
    let without = request(false);
    let mut empty_class = result(&without);
    assert!(is_accepted(&without, &empty_class));
    let details = empty_class.details.as_mut().unwrap();
    details.allocation = vec![AllocationClass { number: 0, sums: Vec::new() }];
    assert!(!is_accepted(&without, &empty_class));

    let with = request(true);
    let honest = result(&with);
    assert!(is_accepted(&with, &honest));
    let changes: [fn(&mut Vec<AllocationClass>); 4] = [
        Vec::clear,
        |allocation| drop(allocation.pop()),
        |allocation| allocation[0].number = 1,
        |allocation| allocation[1].sums[0] += 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut forged = honest.clone();
        change(&mut forged.details.as_mut().unwrap().allocation);
        assert!(!is_accepted(&with, &forged), "change {number}");
    }
}
