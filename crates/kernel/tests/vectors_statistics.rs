//! Proves that the kernel reproduces the vectors of tests/vectors/v1 for statistics and
//! convergence, to the last bit.

mod common;

use common::{
    synthetic,
    vectors::{cases, float, integer, list, number, text},
};
use forge_contract::shard_result::ShardResult;
use forge_kernel::{
    convergence::{Convergence, ConvergenceMonitor, Metric},
    plan::Plan,
    statistics::{Level, Moments, OrderStatistics, interval_ranks, two_sided_z},
};
use serde_json::{Value, json};

/// A synthetic result, checked against the bytes in the vector.
fn synthetic_result(case: &Value) -> (Vec<u64>, ShardResult) {
    let marks: Vec<_> = list(case, "marks").iter().map(integer).collect();
    let amounts: Vec<_> =
        list(case, "amounts").iter().map(|pair| (integer(&pair[0]), integer(&pair[1]))).collect();
    let result = synthetic::result(&marks, &amounts, &amounts, vec![Default::default()]);
    assert_eq!(hex::encode(result.encode()), text(&case["shard_bytes"]), "{}", case["name"]);
    assert_eq!(result.iterations, integer(&case["n"]));
    (marks, result)
}

#[test]
fn statistics() {
    for case in cases("statistics", "distributions") {
        let (marks, result) = synthetic_result(&case);
        assert_eq!(
            (result.sum.to_string(), result.sum_squares.to_string()),
            (text(&case["sum"]).into(), text(&case["sum_of_squares"]).into())
        );
        let ordered = OrderStatistics::new(&result.total, &marks);
        for statistic in list(&case, "order_statistics") {
            let rank = integer(&statistic["rank"]);
            let (lower, upper) = ordered.bounds_at_rank(rank);
            let found = [ordered.value_at_rank(rank), lower, upper].map(Some);
            let expected = ["x", "x_lower", "x_upper"].map(|name| float(&statistic[name]));
            assert_eq!(found, expected, "{} rank {rank}", case["name"]);
        }
        for tail in list(&case, "tails") {
            let level = Level::new(integer(&tail["a"]), integer(&tail["b"]));
            let (lower, upper) = ordered.tvar_bounds(level);
            let found = [ordered.var(level), ordered.tvar(level), lower, upper].map(Some);
            let expected = ["var", "tvar", "tvar_lower", "tvar_upper"].map(|name| float(&tail[name]));
            assert_eq!(found, expected, "{} {level:?}", case["name"]);
            let (var_low, var_high) = ordered.var_interval(level, 0.95);
            let (tvar_low, tvar_high) = ordered.tvar_interval(level, two_sided_z(0.95));
            let found = [var_low, var_high, Some(tvar_low), Some(tvar_high)];
            let ends = ["var_low", "var_high", "tvar_low", "tvar_high"];
            let expected = ends.map(|name| float(&tail["interval"][name]));
            assert_eq!(found, expected, "{} {level:?}", case["name"]);
        }
        let moments = Moments::new(&result);
        let expected = &case["moments"];
        let found =
            [Some(moments.mean), moments.variance, moments.variance.map(f64::sqrt), moments.std_error];
        assert_eq!(found, ["mean", "variance", "std_dev", "std_error"].map(|name| float(&expected[name])));
    }
    for case in cases("statistics", "intervals") {
        let level = Level::new(integer(&case["a"]), integer(&case["b"]));
        let (low, high) = interval_ranks(integer(&case["n"]), level, number(&case["confidence"]));
        assert_eq!((json!(low), json!(high)), (case["low"].clone(), case["high"].clone()), "{case}");
    }
    for case in cases("statistics", "normal_quantiles") {
        assert_eq!(Some(two_sided_z(number(&case["confidence"]))), float(&case["z"]));
    }
}

fn convergence_args(case: &Value) -> Convergence {
    Convergence {
        metric: match text(&case["metric"]) {
            "mean" => Metric::Mean,
            "var" => Metric::Var,
            "tvar" => Metric::Tvar,
            metric => panic!("no metric {metric}"),
        },
        level: case.get("level").and_then(Value::as_f64),
        relative_half_width: number(&case["relative_half_width"]),
        confidence: number(&case["confidence"]),
        min_iterations: integer(&case["min_iterations"]),
        stable_checkpoints: integer(&case["stable_checkpoints"]),
    }
}

#[test]
fn convergence() {
    for case in cases("convergence", "checkpoints") {
        let plan = Plan::new(integer(&case["iterations"]), 5, Some(integer(&case["min_iterations"])));
        assert_eq!(json!(plan.checkpoints()), case["checkpoints"]);
    }
    let states: Vec<_> = cases("convergence", "states").iter().map(synthetic_result).collect();
    for case in cases("convergence", "cases") {
        let convergence = convergence_args(&case["convergence"]);
        let (budget, marks) = (integer(&case["iterations"]), states[0].0.clone());
        let plan = Plan::new(budget, 5, Some(convergence.min_iterations));
        let mut monitor = ConvergenceMonitor::new(convergence.clone(), marks.clone());
        let mut evaluations = list(&case, "evaluations").iter();
        let mut end = (budget, json!("budget_exhausted"));
        for &checkpoint in plan.checkpoints() {
            let zeros =
                synthetic::result(&marks, &[(0, checkpoint)], &[(0, checkpoint)], vec![Default::default()]);
            let at = |(_, state): &&(_, ShardResult)| state.iterations == checkpoint;
            let state =
                if case["all_zero"] == true { &zeros } else { &states.iter().find(at).expect("a state").1 };
            let evaluation = evaluations.next().expect("an evaluation for every checkpoint tested");
            check_evaluation(&convergence, &marks, state, evaluation);
            if let Some(reason) = monitor.test(state) {
                end = (checkpoint, json!(reason));
                break;
            }
        }
        assert_eq!(end, (integer(&case["performed"]), case["stop_reason"].clone()), "{}", case["name"]);
        assert_eq!(evaluations.next(), None, "{} ended too early", case["name"]);
    }
}

/// Estimate, half width and variance of one checkpoint.
fn check_evaluation(convergence: &Convergence, marks: &[u64], state: &ShardResult, expected: &Value) {
    assert_eq!(state.iterations, integer(&expected["iterations"]));
    let (moments, ordered) = (Moments::new(state), OrderStatistics::new(&state.total, marks));
    let z = two_sided_z(convergence.confidence);
    let level = || Level::new((convergence.level.expect("a level") * 1e6).round() as u64, 1_000_000);
    let (estimate, half_width) = match convergence.metric {
        Metric::Mean => (moments.mean, moments.std_error.map(|error| z * error)),
        Metric::Tvar => (ordered.tvar(level()), Some(ordered.tvar_half_width(level(), z))),
        Metric::Var => {
            let (low, high) = ordered.var_interval(level(), convergence.confidence);
            (ordered.var(level()), low.zip(high).map(|(low, high)| (high - low) / 2.0))
        }
    };
    let found = (Some(estimate), half_width, moments.variance);
    assert_eq!(
        found,
        (float(&expected["estimate"]), float(&expected["half_width"]), float(&expected["variance"]))
    );
}
