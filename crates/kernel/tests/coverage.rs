//! The 95% intervals of quantiles hold the exact quantile in 95% of runs at least, also where it
//! lies on or next to an atom of the distribution: limits, constants, retentions, and what quota
//! shares leave of them. Where a mark names the atom, the estimate is the atom.
//!
//! Exact values come from closed forms and from convolutions in this file. Each model is run under
//! 200 fixed seeds.
#![expect(clippy::disallowed_methods, reason = "closed forms of the tests, compared with a tolerance")]

mod common;

use std::collections::BTreeMap;

use common::{gauss, runs};
use forge_contract::digest::Digest;
use forge_kernel::{
    backend::{Backend, simd::Simd},
    convergence::StopReason,
    reduction::merge_results,
    request::Request,
};
use serde_json::{Value, json};

const SEEDS: u64 = 200;
/// Fewer than this many of 200 has a probability of 0.003 at a coverage of 95%.
const LEAST_COVERED: u64 = 181;
/// Intervals of tail values are asymptotic. With this many iterations beyond the level they cover
/// as often as those of quantiles.
const MANY_BEYOND: u64 = 400;
/// With this many beyond, they cover in four of five runs, also with exact order statistics.
const FEW_BEYOND: u64 = 20;
const LEAST_COVERED_WITH_FEW_BEYOND: u64 = 160;
const LEVELS: [f64; 6] = [0.5, 0.9, 0.95, 0.99, 0.995, 0.999];

/// Exact quantiles, by level in thousandths.
type Quantiles = BTreeMap<u64, f64>;

/// Bahnemann, CAS Monograph 2 (2015), Example 4.15: a Poisson number (3) of lognormal (6, 1.5)
/// amounts with limit 1,000, by FFT. P(S < 3000) = 0.89718 and P(S ≤ 3000) = 0.90171.
fn bahnemann() -> Quantiles {
    let values = [1327.625, 3000.0, 3522.0, 4626.875, 5054.875, 5996.5];
    thousandths().zip(values).collect()
}

fn thousandths() -> impl Iterator<Item = u64> {
    LEVELS.into_iter().map(|level| (level * 1000.0).round() as u64)
}

/// The quantiles of an ascending function of the amount.
fn map(quantiles: &Quantiles, function: impl Fn(f64) -> f64) -> Quantiles {
    quantiles.iter().map(|(&level, &value)| (level, function(value))).collect()
}

/// An exact distribution of amounts in minor units.
struct Exact(BTreeMap<u64, f64>);

impl Exact {
    /// A Poisson number of the same amount; `none` is the probability of 0.
    fn poisson(rate: f64, none: f64, amount: u64) -> Self {
        let mut weight = none;
        let mut at = |k: u64| {
            let found = weight;
            weight *= rate / (k + 1) as f64;
            (k * amount, found)
        };
        Self((0..60).map(&mut at).collect())
    }

    /// The sum of two independent amounts.
    fn plus(&self, other: &Self) -> Self {
        let mut sums = BTreeMap::new();
        for (a, p) in &self.0 {
            for (b, q) in &other.0 {
                *sums.entry(a + b).or_insert(0.0) += p * q;
            }
        }
        Self(sums)
    }

    fn shifted(&self, by: u64) -> Self {
        Self(self.0.iter().map(|(amount, p)| (amount + by, *p)).collect())
    }

    fn quantile(&self, level: f64) -> f64 {
        let mut below = 0.0;
        let at = self.0.iter().find(|(_, p)| {
            below += **p;
            below >= level
        });
        *at.expect("the probabilities add up to 1").0 as f64 / 100.0
    }

    fn quantiles(&self) -> Quantiles {
        thousandths().map(|level| (level, self.quantile(level as f64 / 1000.0))).collect()
    }

    /// The mean of the quantiles above the levels.
    fn tails(&self) -> Quantiles {
        let tail = |level: u64| {
            let (p, mut below, mut sum) = (level as f64 / 1000.0, 0.0, 0.0);
            for (amount, q) in &self.0 {
                let above = (below + q - p).clamp(0.0, *q);
                sum += above * *amount as f64 / 100.0;
                below += q;
            }
            (level, sum / (1.0 - p))
        };
        thousandths().map(tail).collect()
    }
}

/// The outputs of a model under all seeds.
fn outputs(profile: &str, args: &Value) -> Vec<Value> {
    let mut request: Request = runs::request(profile, args, "coverage");
    let backend = Simd::new();
    let run = |seed: u64| {
        request.root_seed = Digest::hash_parts(&[b"coverage", &seed.to_le_bytes()]);
        let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
        let results = backend.execute(&request.program, &shards, &()).expect("it is not cancelled");
        let merged = merge_results(&request.program, &results);
        request.result_document(&merged, StopReason::BudgetExhausted).output
    };
    (0..SEEDS).map(run).collect()
}

/// Checks the intervals `name`_low to `name`_high of one row for each level, in the outputs of all
/// seeds, and that estimates lie within them.
fn assert_covered(outputs: &[Value], rows: &str, name: &str, exact: &Quantiles, least: u64) {
    let mut covered: BTreeMap<u64, u64> = BTreeMap::new();
    for output in outputs {
        let rows = output.pointer(rows).and_then(Value::as_array).unwrap_or_else(|| panic!("no {rows}"));
        for row in rows {
            // Levels of return periods T are 1 − 1/T.
            let level = row["level"].as_f64();
            let level = level.unwrap_or_else(|| 1.0 - 1.0 / row["return_period"].as_f64().expect("a period"));
            let level = (level * 1000.0).round() as u64;
            let Some(exact) = exact.get(&level) else { continue };
            let figures = row.get("net").unwrap_or(row);
            let end = |end: &str| figures[format!("{name}_{end}")].as_f64();
            let (low, high) = (end("low"), end("high"));
            let estimate = figures[name].as_f64().expect("an estimate");
            assert!(low.is_none_or(|low| low <= estimate), "{estimate} is below {low:?}");
            assert!(high.is_none_or(|high| estimate <= high), "{estimate} is above {high:?}");
            let holds =
                low.is_none_or(|low| low <= exact + 0.02) && high.is_none_or(|high| exact - 0.02 <= high);
            *covered.entry(level).or_default() += u64::from(holds);
        }
    }
    assert_eq!(covered.len(), exact.len(), "every level is in {rows}");
    for (level, covered) in covered {
        assert!(covered >= least, "{rows} {name} at {level}: {covered} of {SEEDS}, exact {}", exact[&level]);
    }
}

/// Checks the intervals of tail values, at the levels that enough of `iterations` lie beyond.
fn assert_tails_covered(outputs: &[Value], rows: &str, tails: &Quantiles, iterations: u64) {
    for (beyond, least) in [(FEW_BEYOND, LEAST_COVERED_WITH_FEW_BEYOND), (MANY_BEYOND, LEAST_COVERED)] {
        let enough = |level: &u64| iterations * (1000 - level) >= 1000 * beyond;
        let tails = tails.iter().filter(|(level, _)| enough(level)).map(|(&level, &value)| (level, value));
        assert_covered(outputs, rows, "tvar", &tails.collect(), least);
    }
}

fn assert_quantiles_covered(outputs: &[Value], rows: &str, exact: &Quantiles) {
    assert_covered(outputs, rows, "var", exact, LEAST_COVERED);
}

fn portfolio(iterations: u64, groups: Value, treaties: Value) -> Value {
    json!({
        "iterations": iterations, "lines": ["a", "b"], "groups": groups, "treaties": treaties,
        "report": {"levels": LEVELS, "return_periods": [2, 10, 20, 100, 200, 1000]}
    })
}

fn claims(severity: Value) -> Value {
    let claim = [json!({"line": "a", "severity": severity})];
    json!([{"name": "group", "count": {"poisson": 3}, "claims": claim}])
}

#[test]
fn limits_of_policies_and_of_the_year() {
    let args = json!({
        "iterations": 4000, "claim_freq": 3, "claim_severity_mu": 6, "claim_severity_sig": 1.5, "policy_limit": 1000
    });
    let limited = outputs("insurance.v1", &args);
    assert_quantiles_covered(&limited, "/quantiles", &bahnemann());
    // The atom holds 0.45% of the probability, so most runs of this length end on it.
    let on_atom = limited.iter().filter(|output| output["p90_loss"] == 3000.0).count();
    assert!(on_atom > 50, "{on_atom} estimates on the atom");

    let mut args = args;
    args["aggregate_limit"] = json!(5000);
    let capped = outputs("insurance.v1", &args);
    let exact = map(&bahnemann(), |value| value.min(5000.0));
    assert_quantiles_covered(&capped, "/quantiles", &exact);
    assert!(capped.iter().all(|output| output["p999_loss"] == 5000.0));
}

#[test]
fn a_quantile_next_to_an_atom() {
    // The proxy of US hurricanes in `aggregate` (mynl/aggregate, test_suite.agg, N.US.Hurricane),
    // by FFT: the quantile at 99.9% lies 0.04% above the limit.
    let args = json!({
        "iterations": 5000, "claim_freq": 1.79, "claim_severity_mu": 19.595, "claim_severity_sig": 2.581,
        "policy_limit": 1e12
    });
    let values = [8.22e8, 2.0832e10, 4.7902e10, 2.3355e11, 4.22766e11, 1.000_396e12];
    assert_quantiles_covered(
        &outputs("insurance.v1", &args),
        "/quantiles",
        &thousandths().zip(values).collect(),
    );
    // With this many iterations an interval is narrower than a bucket, and still holds both.
    for seed in ["ACTU-1", "ACTU-2", "ACTU-3"] {
        let mut args = args.clone();
        args["iterations"] = json!(4_000_000);
        let run = runs::run("insurance.v1", &args, seed);
        let row = &run.list("quantiles")[5];
        let [low, high] = ["var_low", "var_high"].map(|end| row[end].as_f64().expect("an end"));
        assert!((low..=high).contains(&1.000_396e12), "{seed}: {low} to {high}");
    }
}

#[test]
fn an_atom_that_holds_the_quantile_is_the_estimate() {
    let args = json!({
        "iterations": 1_000_000, "claim_freq": 3, "claim_severity_mu": 6, "claim_severity_sig": 1.5,
        "policy_limit": 1000
    });
    for seed in ["ACTU-1", "ACTU-2", "ACTU-3", "ACTU-4", "ACTU-5"] {
        let run = runs::run("insurance.v1", &args, seed);
        let row = &run.list("quantiles")[1];
        let figures = ["var", "var_low", "var_high"].map(|name| row[name].as_f64());
        assert_eq!(figures, [Some(3000.0); 3], "{seed}");
    }
}

#[test]
fn what_treaties_leave_of_a_limit() {
    let groups = claims(json!({"lognormal": {"mu": 6, "sigma": 1.5}}));
    let mut limited = groups.clone();
    limited[0]["claims"][0]["limit"] = json!(1000);
    let exact = bahnemann();
    // A quota share of capped claims, then a stop loss on what is left.
    let treaties = json!([
        {"name": "quota share", "step": 1, "kind": "quota_share", "covers": ["a"], "cession": 0.3},
        {"name": "stop loss", "step": 2, "kind": "aggregate_xl", "covers": ["a"], "limit": 1000, "attachment": 2400}
    ]);
    let found = outputs("risk.compound.v1", &portfolio(4000, limited, treaties));
    let kept = |value: f64| 0.7 * value;
    let paid = |value: f64| (kept(value) - 2400.0).clamp(0.0, 1000.0);
    assert_quantiles_covered(&found, "/gross/quantiles", &exact);
    assert_quantiles_covered(&found, "/lines/0/gross/quantiles", &exact);
    assert_quantiles_covered(&found, "/steps/0/net/quantiles", &map(&exact, kept));
    assert_quantiles_covered(&found, "/treaties/0/ceded/quantiles", &map(&exact, |value| 0.3 * value));
    assert_quantiles_covered(&found, "/treaties/1/ceded/quantiles", &map(&exact, paid));
    let net = map(&exact, |value| kept(value) - paid(value));
    assert_quantiles_covered(&found, "/net/quantiles", &net);
    assert_quantiles_covered(&found, "/exceedance", &net);
    let largest = found[0]["exceedance"].as_array().expect("rows").iter();
    assert!(largest.clone().all(|row| row["largest_occurrence"]["var"] == 1000.0));

    // The largest of a Poisson number of amounts is at most x with the probability e^(−3·P(X > x)).
    let largest = |level: u64| (6.0 - 1.5 * gauss::quantile(-(level as f64 / 1000.0).ln() / 3.0)).exp();
    let largest: Quantiles = thousandths().map(|level| (level, largest(level))).collect();

    // Without a limit, a layer that leaves 1,000 of an occurrence gives the same law.
    let treaties = json!([
        {"name": "layer", "step": 1, "kind": "occurrence_xl", "covers": ["a"], "attachment": 1000},
        {"name": "quota share", "step": 2, "kind": "quota_share", "covers": ["a"], "cession": 0.4}
    ]);
    let found = outputs("risk.compound.v1", &portfolio(4000, groups, treaties));
    assert_quantiles_covered(&found, "/steps/0/net/quantiles", &exact);
    assert_quantiles_covered(&found, "/net/quantiles", &map(&exact, |value| 0.6 * value));
    for rows in ["/largest_occurrence", "/lines/0/largest_occurrence", "/treaties/0/largest_subject"] {
        assert_quantiles_covered(&found, &format!("{rows}/quantiles"), &largest);
    }
    let left = map(&largest, |value| value.min(1000.0));
    for rows in ["/steps/0/largest_occurrence", "/treaties/1/largest_subject"] {
        assert_quantiles_covered(&found, &format!("{rows}/quantiles"), &left);
    }
    let net = map(&left, |value| 0.6 * value);
    assert_quantiles_covered(&found, "/net_largest_occurrence/quantiles", &net);
}

/// The quantile of a mixture of normal laws, each with its probability, mean and deviation.
fn normal_mixture(level: f64, parts: &[(f64, f64, f64)]) -> f64 {
    let below =
        |x: f64| parts.iter().map(|(p, mean, deviation)| p * gauss::phi((x - mean) / deviation)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1e5);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if below(middle) < level { low = middle } else { high = middle }
    }
    high
}

#[test]
fn travel_times() {
    // No delay is near 0, so that the time is a mixture of normal ones.
    let args = json!({
        "iterations": 4000, "base_eta": 1800, "traffic_mean": 600, "traffic_std": 60,
        "weather_prob": 0.2, "weather_mean": 300, "weather_std": 30,
        "incident_prob": 0.01, "incident_mean": 2400, "incident_std": 200
    });
    let (weather, incident): ((f64, f64), (f64, f64)) = ((300.0, 900.0), (2400.0, 40_000.0));
    let part = |p: f64, (mean, variance): (f64, f64)| (p, 2400.0 + mean, (3600.0 + variance).sqrt());
    let both = (weather.0 + incident.0, weather.1 + incident.1);
    let parts = [
        part(0.8 * 0.99, (0.0, 0.0)),
        part(0.2 * 0.99, weather),
        part(0.8 * 0.01, incident),
        part(0.2 * 0.01, both),
    ];
    let exact = thousandths().map(|level| (level, normal_mixture(level as f64 / 1000.0, &parts)));
    let found = outputs("eta.v1", &args);
    assert_quantiles_covered(&found, "/quantiles", &exact.collect());

    // Half of the times are the base: the median is at the end of the atom.
    let args = json!({"iterations": 4000, "base_eta": 1800, "traffic_mean": 0, "traffic_std": 60});
    let time = |level: u64| 1800.0 - 60.0 * gauss::quantile((1000 - level) as f64 / 1000.0);
    let found = outputs("eta.v1", &args);
    let exact: Quantiles = thousandths().map(|level| (level, time(level).max(1800.0))).collect();
    assert_quantiles_covered(&found, "/quantiles", &exact);
    // The tail value of a normal law is s·φ(z) / (1 − p).
    let tail = |level: u64| {
        let beyond = (1000 - level) as f64 / 1000.0;
        (level, 1800.0 + 60.0 * gauss::density(gauss::quantile(beyond)) / beyond)
    };
    assert_tails_covered(&found, "/quantiles", &thousandths().map(tail).collect(), 4000);
}

#[test]
fn constants() {
    // A Poisson number (2.3) of claims of two constants, 3 to 1, on top of a constant a year. No
    // mark names the sums of both.
    let groups = json!([
        {"name": "annual", "annual": [{"line": "a", "amount": {"constant": 10_000.01}}]},
        {"name": "claims", "count": {"poisson": 2.3}, "claims": [
            {"line": "a", "weight": 3, "severity": {"constant": 1234.56}},
            {"line": "b", "weight": 1, "severity": {"constant": 777.77}}
        ]}
    ]);
    let a = Exact::poisson(1.725, 0.178_173_051_772_898_4, 123_456);
    let b = Exact::poisson(0.575, 0.562_704_868_806_955_7, 77_777);
    let found = outputs("risk.compound.v1", &portfolio(4000, groups, json!([])));
    let total = a.plus(&b).shifted(1_000_001);
    for rows in ["/gross/quantiles", "/net/quantiles"] {
        assert_quantiles_covered(&found, rows, &total.quantiles());
        assert_tails_covered(&found, rows, &total.tails(), 4000);
    }
    assert_quantiles_covered(&found, "/lines/0/gross/quantiles", &a.shifted(1_000_001).quantiles());
    assert_quantiles_covered(&found, "/lines/1/gross/quantiles", &b.quantiles());
}

#[test]
fn constants_that_strike_together() {
    // Every occurrence is 750.08, of which a layer pays 150.08.
    let groups = json!([{"name": "strikes", "count": {"poisson": 1.2}, "strikes": [
        {"line": "a", "severity": {"constant": 500.05}}, {"line": "b", "severity": {"constant": 250.03}}
    ]}]);
    let treaties = json!([{
        "name": "layer", "kind": "occurrence_xl", "covers": ["a", "b"], "attachment": 600, "limit": 1000
    }]);
    for iterations in [4000, 40_000] {
        let portfolio = portfolio(iterations, groups.clone(), treaties.clone());
        let found = outputs("risk.compound.v1", &portfolio);
        for (rows, amount) in [
            ("/gross/quantiles", 75_008),
            ("/net/quantiles", 60_000),
            ("/exceedance", 60_000),
            ("/treaties/0/ceded/quantiles", 15_008),
        ] {
            let exact = Exact::poisson(1.2, 0.301_194_211_912_202_1, amount);
            assert_quantiles_covered(&found, rows, &exact.quantiles());
            assert_tails_covered(&found, rows, &exact.tails(), iterations);
            let estimates = found.iter().filter_map(|output| output.pointer(rows)?.as_array());
            for row in estimates.flatten() {
                let figures = row.get("net").unwrap_or(row);
                let counts = figures["var"].as_f64().expect("an estimate") * 100.0 / amount as f64;
                assert!((counts - counts.round()).abs() < 1e-9, "{rows}: {figures}");
            }
        }
    }
}
