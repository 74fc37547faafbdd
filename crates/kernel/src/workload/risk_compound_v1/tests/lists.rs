//! Severities that are given by lists: what they become, their errors, and their normal form.

use forge_contract::program::AmountTable;

use super::*;
use crate::workload::risk_compound_v1::compile::compile;

const SEVERITY: &str = "/groups/1/claims/1/severity";

/// The table of a severity, with two decimals.
fn table(severity: Value) -> AmountTable {
    let portfolio = read(&with(SEVERITY, severity)).unwrap().portfolio();
    compile(&portfolio).unwrap().groups[1].components[1].amounts.clone()
}

/// The only error of a severity: its pointer, relative to the severity, and its message.
fn error(severity: Value) -> (String, String) {
    let errors = read(&with(SEVERITY, severity)).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let prefix = format!("/args{SEVERITY}");
    (errors[0].0.strip_prefix(&prefix).expect("an error of the severity").to_owned(), errors[0].1.clone())
}

#[test]
fn separate_amounts_have_the_thresholds_of_their_probabilities() {
    let quarter = 1_u64 << 62;
    let severity = json!({"discrete": {"amounts": [0, 2.5, 7], "probabilities": [2, 1, 1]}});
    let steps = AmountTable::Steps { thresholds: vec![2 * quarter, 3 * quarter], amounts: vec![0, 250, 700] };
    assert_eq!(table(severity), steps);
    // Amounts that are never drawn are left out at the ends, and take no draw between.
    let severity = json!({"discrete": {"amounts": [1, 2, 3, 4, 5], "probabilities": [0, 0.5, 0, 0.5, 0]}});
    let steps = AmountTable::Steps { thresholds: vec![2 * quarter; 2], amounts: vec![200, 300, 400] };
    assert_eq!(table(severity), steps);
    let severity = json!({"discrete": {"amounts": [3], "probabilities": [0.1]}});
    assert_eq!(table(severity), AmountTable::constant(300));
}

#[test]
fn a_sample_is_sorted_and_repetitions_count() {
    let severity = json!({"empirical": {"sample": [9, 1, 9, 0.004]}});
    let quarter = 1_u64 << 62;
    let thresholds = vec![quarter, 2 * quarter, 3 * quarter];
    assert_eq!(table(severity), AmountTable::Steps { thresholds, amounts: vec![0, 100, 900, 900] });
}

#[test]
fn knots_have_the_thresholds_of_their_probabilities() {
    let severity = json!({"piecewise": {"probabilities": [0, 0.75, 1], "amounts": [10, 10, 99.5]}});
    let linear = AmountTable::Linear { thresholds: vec![3 << 62], amounts: vec![1000, 1000, 9950] };
    assert_eq!(table(severity), linear);
    let severity = json!({"piecewise": {"probabilities": [0, 1], "amounts": [0, 1]}});
    assert_eq!(table(severity), AmountTable::Linear { thresholds: vec![], amounts: vec![0, 100] });
}

#[test]
fn long_lists_have_tables() {
    let amounts: Vec<u32> = (0..10_000).collect();
    let AmountTable::Steps { thresholds, amounts } = table(json!({"empirical": {"sample": amounts}})) else {
        panic!("a sample has steps");
    };
    assert_eq!((thresholds.len(), amounts.len(), amounts[9_999]), (9_999, 10_000, 999_900));
    let product = u128::from(thresholds[4_321]) * 10_000;
    let exact = 4_322_u128 << 64;
    assert!(product <= exact && exact < product + 10_000, "thresholds are rounded down");
}

#[test]
fn factors_of_indices_are_given_by_lists_too() {
    let one = 1_u64 << 24;
    let quarter = 1_u64 << 62;
    for (law, table) in [
        (json!({"constant": 1.5}), AmountTable::constant(3 * one / 2)),
        (
            json!({"discrete": {"amounts": [0.5, 1, 1.25], "probabilities": [1, 2, 1]}}),
            AmountTable::Steps {
                thresholds: vec![quarter, 3 * quarter],
                amounts: vec![one / 2, one, 5 * one / 4],
            },
        ),
        (
            json!({"empirical": {"sample": [2, 1]}}),
            AmountTable::Steps { thresholds: vec![2 * quarter], amounts: vec![one, 2 * one] },
        ),
        (
            json!({"piecewise": {"probabilities": [0, 1], "amounts": [0.75, 1.25]}}),
            AmountTable::Linear { thresholds: vec![], amounts: vec![3 * one / 4, 5 * one / 4] },
        ),
    ] {
        let mut index = law.clone();
        index["name"] = "inflation".into();
        let args = read(&with("/indices/0", index.clone())).unwrap();
        assert_eq!(compile(&args.portfolio()).unwrap().indices, [table]);
        assert_eq!(Value::Object(args.model_args()).pointer("/indices/0"), Some(&index));
    }
}

#[test]
fn errors_name_the_element() {
    let list =
        |amounts: Value, probabilities: Value| json!({"amounts": amounts, "probabilities": probabilities});
    for (severity, path, part) in [
        (
            json!({"discrete": list(json!([2, 1]), json!([1, 1]))}),
            "/discrete/amounts/1",
            "above the element before",
        ),
        (
            json!({"discrete": list(json!([1, 1]), json!([1, 1]))}),
            "/discrete/amounts/1",
            "above the element before",
        ),
        (json!({"discrete": list(json!([1, 2]), json!([1]))}), "/discrete/probabilities", "as many elements"),
        (json!({"discrete": list(json!([1]), json!([0]))}), "/discrete/probabilities", "a positive element"),
        (json!({"discrete": list(json!([-1]), json!([1]))}), "/discrete/amounts/0", "from 0 to"),
        (json!({"discrete": list(json!([1]), json!([-1]))}), "/discrete/probabilities/0", "from 0 to"),
        (json!({"discrete": {"amounts": [1]}}), "/discrete/probabilities", "is missing"),
        (json!({"discrete": [[1, 2]]}), "/discrete", "must be an object"),
        (json!({"empirical": {"sample": []}}), "/empirical/sample", "must have 1 to 10000 elements"),
        (json!({"empirical": {"sample": vec![1; 10_001]}}), "/empirical/sample", "it has 10001"),
        (json!({"empirical": {"sample": [1, "2"]}}), "/empirical/sample/1", "not a string"),
        (
            json!({"empirical": {"sample": [1], "amount": 1}}),
            "/empirical/amount",
            "not a parameter of empirical: sample",
        ),
        (json!({"piecewise": list(json!([1]), json!([0, 1]))}), "/piecewise/amounts", "2 to 10000 elements"),
        (
            json!({"piecewise": list(json!([2, 1]), json!([0, 1]))}),
            "/piecewise/amounts/1",
            "at least the element",
        ),
        (
            json!({"piecewise": list(json!([1, 2]), json!([0.1, 1]))}),
            "/piecewise/probabilities/0",
            "must be 0",
        ),
        (
            json!({"piecewise": list(json!([1, 2]), json!([0, 0.9]))}),
            "/piecewise/probabilities/1",
            "must be 1",
        ),
        (
            json!({"piecewise": list(json!([1, 2, 3]), json!([0, 0, 1]))}),
            "/piecewise/probabilities/1",
            "above the element before",
        ),
        (json!({"piecewize": {}}), "/piecewize", "did you mean `piecewise`?"),
    ] {
        let (pointer, message) = error(severity.clone());
        assert!(pointer == path && message.contains(part), "{severity}: {pointer} {message}");
    }
}

#[test]
fn large_amounts_need_a_limit() {
    let severity = json!({"discrete": {"amounts": [1, 1e13], "probabilities": [1, 1]}});
    let mut args = with("/groups/1/count", json!({"constant": 1000}));
    args["groups"][1]["claims"][1] = json!({"line": "motor", "severity": severity, "limit": 1000});
    read(&args).unwrap();
    args["groups"][1]["claims"][1].as_object_mut().unwrap().remove("limit");
    let errors = read(&args).unwrap_err();
    assert_eq!(errors[0].0, format!("/args{SEVERITY}"));
    assert!(errors[0].1.contains("is too large"), "{errors:?}");
}

#[test]
fn normal_form_keeps_the_lists() {
    for severity in [
        json!({"discrete": {"amounts": [0, 2.5, 7], "probabilities": [2, 1, 1]}}),
        json!({"empirical": {"sample": [9, 1, 9, 0.25]}}),
        json!({"piecewise": {"amounts": [10, 10, 99.5], "probabilities": [0, 0.75, 1]}}),
    ] {
        let args = read(&with(SEVERITY, severity.clone())).unwrap();
        let normal = Value::Object(args.model_args());
        assert_eq!(normal.pointer(SEVERITY), Some(&severity));
        let mut again = normal.clone();
        again["iterations"] = json!(1000);
        assert_eq!(read(&again).unwrap(), args);
    }
}
