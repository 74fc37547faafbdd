//! Figures of portfolios: those that the tail of a distribution decides, and those by hand.
#![expect(clippy::disallowed_methods, reason = "closed forms of the test, compared with a tolerance")]

use forge_kernel::convergence::StopReason;
use serde_json::{Value, json};

mod common;

use common::portfolio::{assert_near, execute, number, output, request};

/// A Pareto claim with this tail index in line `a`, an exponential total of line `b`, and these
/// treaties.
fn heavy(alpha: f64, claim_limit: Value, treaties: Value) -> Value {
    output(&json!({
        "iterations": 500,
        "lines": ["a", "b"],
        "groups": [
            {"name": "large", "count": {"poisson": 1}, "claims": [
                {"line": "a", "severity": {"pareto": {"threshold": 1000, "alpha": alpha}}, "limit": claim_limit}
            ]},
            {"name": "year", "annual": [{"line": "b", "amount": {"exponential": 1000}}]}
        ],
        "treaties": treaties,
        "capital": {"own_funds": 1e6, "measure": "tvar"},
        "report": {"allocation": true}
    }))
}

/// Which of these figures are null.
fn absent<const N: usize>(output: &Value, pointers: [&str; N]) -> [bool; N] {
    pointers
        .map(|pointer| output.pointer(pointer).unwrap_or_else(|| panic!("{pointer}: {output:#}")).is_null())
}

const FIGURES: [&str; 14] = [
    "/gross/mean",
    "/gross/quantiles/0/tvar",
    "/lines/0/gross/std_dev",
    "/lines/1/gross/mean",
    "/net/mean",
    "/net/std_error",
    "/exceedance/0/net/tvar",
    "/exceedance/0/net/tvar_low",
    "/exceedance/0/largest_occurrence/tvar",
    "/exceedance/0/net/var",
    "/allocation/0/tail/lines/0",
    "/allocation/0/tail/lines/1",
    "/capital_adequacy_signal/scr",
    "/tail_exposure_surface/0/lines/0",
];

#[test]
fn without_treaties_everything_that_a_distribution_without_mean_enters_has_none() {
    let output = heavy(0.9, Value::Null, json!([]));
    let expected = [true, true, true, false, true, true, true, true, true, false, true, false, true, true];
    assert_eq!(absent(&output, FIGURES), expected);
    assert_eq!(output["capital_adequacy_signal"]["signal"], "undecided");
    // Next to a quantile the total is bounded, and so are its parts.
    assert_eq!(absent(&output, ["/allocation/0/at_quantile/lines/0"]), [false]);
}

#[test]
fn without_a_variance_there_are_means_but_no_standard_errors() {
    let output = heavy(2.0, Value::Null, json!([]));
    let expected =
        [false, false, true, false, false, true, false, true, false, false, false, false, false, false];
    assert_eq!(absent(&output, FIGURES), expected);
    assert_eq!(output["capital_adequacy_signal"]["signal"], "undecided");
    let output = heavy(2.1, Value::Null, json!([]));
    assert_eq!(absent(&output, FIGURES), [false; 14]);
}

#[test]
fn a_policy_limit_gives_every_amount_its_moments() {
    assert_eq!(absent(&heavy(0.9, json!(1e6), json!([])), FIGURES), [false; 14]);
}

#[test]
fn a_layer_without_limit_takes_the_tail() {
    let layers = json!([
        {"name": "first", "kind": "occurrence_xl", "covers": ["a"], "attachment": 2000, "limit": 3000},
        {"name": "second", "kind": "occurrence_xl", "covers": ["a"], "attachment": 5000, "step": 2},
        {"name": "third", "kind": "occurrence_xl", "covers": ["a"], "attachment": 1000, "step": 3}
    ]);
    let output = heavy(0.9, Value::Null, layers);
    let expected =
        [true, true, true, false, false, false, false, false, true, false, true, false, false, true];
    assert_eq!(absent(&output, FIGURES), expected);
    let treaties = ["0", "1", "2"].map(|treaty| format!("/treaties/{treaty}/ceded/mean"));
    assert_eq!(absent(&output, treaties.each_ref().map(String::as_str)), [false, true, false]);
    assert_eq!(
        absent(&output, ["/treaties/0/technical_premium", "/treaties/1/technical_premium"]),
        [false, true]
    );
    let steps = ["/steps/0/net/mean", "/steps/1/net/mean", "/steps/2/net/mean"];
    assert_eq!(absent(&output, steps), [true, false, false]);
}

#[test]
fn a_layer_that_is_placed_in_part_leaves_the_tail() {
    let layer =
        json!([{"name": "l", "kind": "occurrence_xl", "covers": ["a"], "attachment": 2000, "placed": 0.9}]);
    let output = heavy(0.9, Value::Null, layer);
    assert_eq!(absent(&output, ["/net/mean", "/treaties/0/ceded/mean"]), [true, true]);
}

/// Quantiles are known to the width of a bucket.
#[track_caller]
fn assert_at(found: [f64; 2], expected: [f64; 2]) {
    let is_near = |(found, expected): (f64, f64)| (found - expected).abs() <= expected / 256.0;
    assert!(found.into_iter().zip(expected).all(is_near), "{found:?}, not {expected:?}");
}

/// Every figure of distributions with two amounts, before and after treaties.
#[test]
fn largest_occurrences_of_lines_steps_and_subjects_by_hand() {
    let output = output(&json!({
        "iterations": 40_000,
        "lines": ["a", "b"],
        "groups": [
            {"name": "small", "count": {"constant": 3}, "claims": [{"line": "a", "severity": {"constant": 100}}]},
            {"name": "storm", "count": {"bernoulli": 0.25}, "strikes": [
                {"line": "a", "severity": {"constant": 600}}, {"line": "b", "severity": {"constant": 1000}}
            ]},
            {"name": "year", "annual": [{"line": "b", "amount": {"constant": 5000}}]}
        ],
        "treaties": [
            {"name": "share", "kind": "quota_share", "covers": ["b"], "cession": 0.3},
            {"name": "layer", "step": 2, "kind": "occurrence_xl", "covers": ["a", "b"], "groups": ["storm"],
             "attachment": 500, "limit": 700},
            {"name": "small", "step": 2, "kind": "occurrence_xl", "covers": ["a"], "groups": ["small"], "attachment": 60},
            {"name": "stop", "step": 3, "kind": "aggregate_xl", "covers": ["a", "b"], "attachment": 1000}
        ],
        "report": {"return_periods": [2, 10], "levels": [0.5, 0.9]}
    }));
    // In a quarter of the years there is a storm: of 1,600, 1,300 after the quota share and 600
    // after the layer. Of small claims, 100 each, the third treaty leaves 60.
    let storm = |figures: &Value, without: f64, with: f64| {
        let (mean, deviation) =
            (without + 0.25 * (with - without), (with - without).abs() * 0.1875f64.sqrt());
        let tolerance = 4.0 * deviation / 200.0 + 1e-9;
        assert!((number(figures, "/mean") - mean).abs() <= tolerance, "{figures:#}");
        assert!((number(figures, "/std_dev") - deviation).abs() <= tolerance, "{figures:#}");
        assert_eq!((number(figures, "/min"), number(figures, "/max")), (without, with));
        let quantiles = [0, 1].map(|at| number(figures, &format!("/quantiles/{at}/var")));
        assert_at(quantiles, [without, with]);
        let zeros = if without == 0.0 { 0.75 } else { 0.0 };
        assert!((number(figures, "/zero_probability") - zeros).abs() < 0.01);
    };
    storm(&output["largest_occurrence"], 100.0, 1600.0);
    storm(&output["net_largest_occurrence"], 60.0, 600.0);
    let at = |pointer: &str| output.pointer(pointer).unwrap();
    storm(at("/lines/0/largest_occurrence"), 100.0, 600.0);
    storm(at("/lines/1/largest_occurrence"), 0.0, 1000.0);
    storm(at("/steps/0/largest_occurrence"), 100.0, 1300.0);
    storm(at("/steps/1/largest_occurrence"), 60.0, 600.0);
    storm(at("/steps/2/largest_occurrence"), 60.0, 600.0);
    storm(at("/treaties/0/largest_subject"), 0.0, 1000.0);
    storm(at("/treaties/1/largest_subject"), 0.0, 1300.0);
    storm(at("/treaties/2/largest_subject"), 100.0, 100.0);
    assert!(at("/treaties/3/largest_subject").is_null());
    let by_period =
        |figure: &str| ["0", "1"].map(|row| number(&output, &format!("/exceedance/{row}/{figure}/var")));
    assert_at(by_period("largest_occurrence"), [100.0, 1600.0]);
    assert_at(by_period("net_largest_occurrence"), [60.0, 600.0]);
    assert_at(by_period("lines/1/gross"), [5000.0, 6000.0]);
    assert_at(by_period("lines/1/largest_occurrence"), [0.0, 1000.0]);
    assert_at(by_period("steps/0/net"), [3800.0, 5100.0]);
    assert_at(by_period("steps/1/largest_occurrence"), [60.0, 600.0]);
    assert_at(by_period("treaties/0/ceded"), [1500.0, 1800.0]);
    assert_at(by_period("treaties/1/largest_subject"), [0.0, 1300.0]);
    assert!(at("/exceedance/1/treaties/3/largest_subject").is_null());
}

#[test]
fn commissions_depend_on_the_year() {
    // A year costs 1,000, or 3,000 one time in four.
    let args = json!({
        "iterations": 40_000,
        "lines": ["a"],
        "groups": [
            {"name": "year", "annual": [{"line": "a", "amount": {"constant": 1000}}]},
            {"name": "large", "count": {"bernoulli": 0.25}, "claims": [{"line": "a", "severity": {"constant": 2000}}]}
        ],
        "treaties": [
            {"name": "share", "kind": "quota_share", "covers": ["a"], "cession": 0.5, "premium": 2000,
             "commission": [{"loss_ratio": 0.4, "rate": 0.35}, {"loss_ratio": 0.6, "rate": 0.25}, {"loss_ratio": 2, "rate": 0.1}],
             "profit_commission": {"share": 0.2, "margin": 0.05}},
            {"name": "stop", "step": 2, "kind": "aggregate_xl", "covers": ["a"], "attachment": 500, "limit": 800,
             "placed": 0.5, "premium": 400, "profit_commission": {"share": 0.25}}
        ]
    });
    let request = request(&args);
    let merged = execute(&request);
    let output = request.result_document(&merged, StopReason::BudgetExhausted).output;
    let share = &output["treaties"][0];
    let large = 1.0 - (number(share, "/ceded/mean") - 500.0) / 1000.0;
    let mean = |without: f64, with: f64| large * without + (1.0 - large) * with;
    let close = |pointer: &str, expected: f64| {
        let found = number(&output["treaties"], pointer);
        assert!((found - expected).abs() < 1e-6, "{pointer}: {found}, not {expected}");
    };
    // Loss ratios of 50% and 150%: the rate is 30%, or 25% less 0.9 / 1.4 of 15%.
    let rates = [0.3, 0.25 - 0.15 * 0.9 / 1.4];
    let commission = mean(1000.0 * rates[0], 1000.0 * rates[1]);
    close("/0/premium/ceded", 1000.0);
    close("/0/premium/commission", commission);
    let profit = mean(0.2 * (950.0 - 300.0 - 500.0), 0.0);
    close("/0/premium/profit_commission", profit);
    close("/0/premium/net", 1000.0 - commission - profit);
    // What is left is 500 or 1,500: the layer pays nothing or half of 800, more than its premium.
    close("/1/premium/profit_commission", mean(0.25 * 200.0, 0.0));
    close("/1/premium/commission", 0.0);
    // Of two values, so the error is their distance · √(p · (1 − p) / (n − 1)).
    let errors = request.commission_errors(&merged);
    let error = |distance: f64| Some(distance * (large * (1.0 - large) / 39_999.0).sqrt());
    let expected = [[error(1000.0 * (rates[0] - rates[1])), error(0.2 * 150.0)], [None, error(0.25 * 200.0)]];
    for (found, expected) in errors.iter().zip(expected) {
        for (found, expected) in [found.commission, found.profit_commission].into_iter().zip(expected) {
            let is_equal = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                _ => found == expected,
            };
            assert!(is_equal, "{found:?}, not {expected:?}");
        }
    }
    assert_eq!(errors.len(), 2);
}

#[test]
fn treaties_have_premiums_and_fractions_of_the_occurrences_that_they_cover() {
    let output = output(&json!({
        "iterations": 20_000,
        "lines": ["a", "b"],
        "groups": [
            {"name": "claims", "count": {"constant": 2}, "claims": [
                {"line": "a", "severity": {"uniform": {"low": 0, "high": 100}}},
                {"line": "b", "severity": {"uniform": {"low": 0, "high": 100}}}
            ]},
            {"name": "storm", "count": {"constant": 1}, "strikes": [
                {"line": "a", "severity": {"constant": 10}}, {"line": "a", "severity": {"constant": 5}}
            ]}
        ],
        "treaties": [
            {"name": "share", "kind": "quota_share", "covers": ["b"], "cession": 0.2, "premium": 1000, "commission": 0.3},
            {"name": "layer", "kind": "occurrence_xl", "covers": ["a"], "groups": ["claims"], "attachment": 50, "limit": 30,
             "placed": 0.5, "premium": 40},
            {"name": "storm", "kind": "occurrence_xl", "covers": ["a"], "groups": ["storm"], "attachment": 5}
        ]
    }));
    let treaties = &output["treaties"];
    let premium = |ceded: f64, commission: f64| json!({"ceded": ceded, "commission": commission, "profit_commission": 0.0, "net": ceded - commission});
    assert_eq!(treaties[0]["premium"], premium(200.0, 60.0));
    assert_eq!(treaties[1]["premium"], premium(20.0, 0.0));
    assert!(treaties[2]["premium"].is_null() && treaties[0]["attaching_fraction"].is_null());
    // Half of the claims are of the line: of 20,000.
    let error = (0.25f64 / 20_000.0).sqrt();
    assert!((number(treaties, "/1/attaching_fraction") - 0.5).abs() < 4.0 * error);
    assert!((number(treaties, "/1/exhausting_fraction") - 0.2).abs() < 4.0 * error);
    assert_eq!(
        (number(treaties, "/2/attaching_fraction"), &treaties[2]["exhausting_fraction"]),
        (1.0, &Value::Null)
    );
}

/// Two groups that strike a line each, below a layer with an annual limit on both lines.
fn layer_over_groups(order: [&str; 2]) -> Value {
    let group = |name: &str| {
        let severity = json!({"exponential": if name == "rare" { 4000 } else { 1000 }});
        let (line, count) = if name == "rare" { ("a", 1) } else { ("b", 3) };
        json!({"name": name, "count": {"poisson": count}, "claims": [{"line": line, "severity": severity}]})
    };
    output(&json!({
        "iterations": 200_000,
        "lines": ["a", "b"],
        "groups": order.map(group),
        "treaties": [
            {"name": "XL", "step": 1, "kind": "occurrence_xl", "covers": ["a", "b"], "limit": 3000,
             "attachment": 200, "aal": 3000},
            {"name": "Stop loss", "step": 2, "kind": "aggregate_xl", "covers": ["a"], "limit": 5000,
             "attachment": 1000}
        ]
    }))
}

#[test]
fn no_figure_depends_on_the_order_in_which_groups_are_listed() {
    let outputs = [layer_over_groups(["rare", "frequent"]), layer_over_groups(["frequent", "rare"])];
    for figure in ["/steps/0/net", "/steps/0/largest_occurrence", "/treaties/1/ceded", "/net"] {
        let [a, b] = outputs.each_ref().map(|output| number(output, &format!("{figure}/mean")));
        let errors = outputs.each_ref().map(|output| number(output, &format!("{figure}/std_error")));
        let z = (a - b) / errors[0].hypot(errors[1]);
        assert!(z.abs() < 5.0, "{figure}: {a} and {b}, z = {z}");
        assert_ne!(a, b, "{figure}: the draws differ");
    }
}

#[test]
fn few_distinct_amounts_have_exact_figures() {
    // 999 and 1,000 share a bucket of the total. The year is 0, 999, 1,000 or 1,999 with
    // probabilities 0.76, 0.19, 0.04 and 0.01.
    let group = |name: &str, probability: f64, amount: u64| {
        let claim = json!({"line": name, "severity": {"constant": amount}});
        json!({"name": name, "count": {"bernoulli": probability}, "claims": [claim]})
    };
    let close = output(&json!({
        "iterations": 200_000,
        "lines": ["w", "q"],
        "groups": [group("w", 0.2, 999), group("q", 0.05, 1000)],
        "capital": {"own_funds": 1000, "measure": "var", "level": 0.98},
        "report": {"allocation": true, "levels": [0.9, 0.98]}
    }));
    assert_eq!(
        close["allocation"][1]["at_quantile"],
        json!({"net": 1000.0, "lines": [0.0, 1000.0], "treaties": []})
    );
    assert_eq!(number(&close, "/allocation/1/tail/lines/1"), 1000.0);
    assert!((number(&close, "/allocation/1/tail/lines/0") - 499.5).abs() < 25.0);
    let signal = &close["capital_adequacy_signal"];
    assert_eq!(number(signal, "/scr"), 1000.0);
    assert!((number(signal, "/ruin_probability") - 0.01).abs() < 0.001);

    // A year's amount from a list, and a commission of its quota share that slides.
    let amounts = json!({"amounts": [70e6, 85e6], "probabilities": [0.6, 0.4]});
    let scale = json!([
        {"loss_ratio": 0.6, "rate": 0.32}, {"loss_ratio": 0.7, "rate": 0.27}, {"loss_ratio": 0.8, "rate": 0.22}
    ]);
    let listed = output(&json!({
        "iterations": 200_000,
        "lines": ["a"],
        "groups": [{"name": "year", "annual": [{"line": "a", "amount": {"discrete": amounts}}]}],
        "treaties": [{"name": "QS", "step": 1, "kind": "quota_share", "covers": ["a"], "cession": 0.3,
                      "premium": 120e6, "commission": scale}],
        "report": {"levels": [0.5, 0.99]}
    }));
    assert_eq!(number(&listed, "/gross/quantiles/0/var"), 70e6);
    for figure in ["var", "var_low", "var_high", "tvar", "tvar_high"] {
        assert_eq!(number(&listed, &format!("/gross/quantiles/1/{figure}")), 85e6, "{figure}");
    }
    let large = (number(&listed, "/treaties/0/ceded/mean") - 21e6) / 4.5e6;
    // Loss ratios of 70 / 120 and of 85 / 120.
    let expected = 36e6 * ((1.0 - large) * 0.32 + large * (0.27 - 0.05 * (85.0 / 120.0 - 0.7) / 0.1));
    assert_near(&listed, "/treaties/0/premium/commission", expected);
}
