//! Event loss tables: what they become, their errors, and their normal form.

use forge_contract::program::{AmountTable, Occurrence};

use super::{errors::assert_error, *};
use crate::{dyadic::nearest_sum, workload::risk_compound_v1::compile::compile};

/// The base with a table of three events in place of its last group.
fn events() -> Value {
    let table = json!({
        "rates": [0.25, 0.5, 0.25],
        "losses": [{"line": "motor", "amounts": [0, 7, 9]}, {"line": "property", "amounts": [100, 1.5, 30]}]
    });
    with("/groups/2", json!({"name": "storm", "events": table}))
}

/// These with the value at a path of the table replaced or added.
fn events_with(path: &str, value: Value) -> Value {
    let mut args = events();
    set(&mut args, &format!("/groups/2/events{path}"), value);
    args
}

#[test]
fn events_are_drawn_in_the_order_of_their_totals_with_one_draw_for_all_lines() {
    let args = read(&events()).unwrap();
    let portfolio = args.portfolio();
    assert_eq!(
        (portfolio.groups[2].kind, portfolio.groups[2].counts.law.clone()),
        (GroupKind::Events, CountLaw::Poisson(1.0))
    );
    let program = compile(&portfolio).unwrap();
    program.validate().unwrap();
    let group = &program.groups[2];
    assert_eq!(group.occurrence, Occurrence::Strike);
    assert_eq!(group.counts, CountLaw::Poisson(1.0).table().unwrap());
    let lines: Vec<_> = group.components.iter().map(|c| (c.line, c.same_rank)).collect();
    assert_eq!(lines, [(1, false), (0, true)]);
    // Totals of 8.50, 39 and 100.
    let thresholds = vec![1 << 63, 3 << 62];
    let motor = AmountTable::Steps { thresholds: thresholds.clone(), amounts: vec![700, 900, 0] };
    let property = AmountTable::Steps { thresholds, amounts: vec![150, 3000, 10_000] };
    assert_eq!(group.components[0].amounts, motor);
    assert_eq!(group.components[1].amounts, property);
    // A draw of its own for the number of events, and one for each line of each.
    assert_eq!(args.expected_occurrences(), 3.0 + 1.0);
    let without = read(&with("/groups", json!([base()["groups"][0], base()["groups"][1]]))).unwrap();
    assert_eq!(args.expected_draws(), without.expected_draws() + 1 + 2);
}

#[test]
fn tables_have_a_normal_form_and_a_frequency() {
    let table = |args: &Value| read(args).unwrap().model_args()["groups"][2]["events"].clone();
    let mut expected = events()["groups"][2]["events"].clone();
    expected["frequency"] = json!("poisson");
    assert_eq!(table(&events()), expected);
    let clustered = json!({"negative_binomial": {"contagion": 0.35}});
    let args = events_with("/frequency", clustered.clone());
    assert_eq!(table(&args)["frequency"], clustered);
    let law = read(&args).unwrap().portfolio().groups[2].counts.law.clone();
    assert_eq!(law, CountLaw::NegativeBinomial { mean: 1.0, contagion: 0.35 });
}

#[test]
fn rates_are_added_exactly() {
    assert_eq!(nearest_sum(&[]), 0.0);
    assert_eq!(nearest_sum(&[0.1; 10]), 1.0);
    let half = f64::EPSILON / 2.0;
    assert_eq!(nearest_sum(&[1.0, half]), 1.0);
    assert_eq!(nearest_sum(&[1.0, half, half]), 1.0 + f64::EPSILON);
    assert_eq!(nearest_sum(&[1e-12, 8192.0, 1e-12]), 8192.000000000002);
}

#[test]
fn errors_of_a_table_name_the_value_to_change() {
    let path = "/groups/2/events";
    let assert = |at: &str, value: Value, error: &str, part: &str| {
        assert_error(&events_with(at, value), &format!("{path}{error}"), part);
    };
    assert("/rates", json!([]), "/rates", "1 to 32768 elements");
    assert("/rates", json!([0.1, -1, 0.2]), "/rates/1", "from 0 to 10000");
    assert("/rates", json!([0.1, 1e-13, 0.2]), "/rates/1", "must be 0, or at least 1e-12; it is 1e-13");
    assert("/rates", json!([0, 0, 0]), "/rates", "must have a positive element");
    assert("/rates", json!([9000, 900, 101]), "/rates", "add up to at most 10000; they add up to 10001");
    assert("/losses", json!([]), "/losses", "1 to 16 elements");
    assert(
        "/losses/0/amounts",
        json!([1, 2]),
        "/losses/0/amounts",
        "as many elements as `rates`, 3; it has 2",
    );
    assert("/losses/0/amounts/1", json!(-5), "/losses/0/amounts/1", "must be from 0 to");
    assert("/losses/0/line", json!("moto"), "/losses/0/line", "did you mean \"motor\"?");
    assert("/losses/0/line", json!("property"), "/losses/1/line", "the losses of a line once");
    assert("/losses/0/limit", json!(5), "/losses/0/limit", "is not a known key");
    assert("/frequency", json!("binomial"), "/frequency", "must be \"poisson\", or an object");
    assert(
        "/frequency",
        json!({"negative_binomial": {}}),
        "/frequency/negative_binomial/contagion",
        "missing",
    );
    assert("/frequency", json!({"poisson": 1}), "/frequency", "must be \"poisson\", or an object");
    assert("/uncertainty", json!("beta"), "/uncertainty", "is not a known key");
    let mut args = events();
    set(&mut args, "/groups/2/count", json!({"poisson": 1}));
    assert_error(&args, "/groups/2/count", "is not allowed with `events`");
    set(&mut args, "/groups/2/claims", json!([]));
    assert!(
        read(&args)
            .unwrap_err()
            .iter()
            .any(|(at, text)| at == "/args/groups/2" && text.contains("only one of"))
    );
    let several = read(&events_with("/rates", json!([0.1, -1]))).unwrap_err();
    let at: Vec<_> =
        several.iter().map(|(at, _)| at.strip_prefix("/args/groups/2/events").unwrap()).collect();
    assert_eq!(at, ["/rates/1", "/losses/0/amounts", "/losses/1/amounts"]);
    let without = events_with("/rates", Value::Null);
    assert_error(&without, &format!("{path}/rates"), "missing");
}

#[test]
fn long_tables_have_programs_and_too_long_ones_are_refused() {
    let table = |events: u32| {
        let rates: Vec<f64> = (0..events).map(|event| 1e-6 * f64::from(1 + event % 7)).collect();
        let amounts: Vec<u32> = (0..events).rev().collect();
        let losses =
            json!([{"line": "motor", "amounts": amounts.clone()}, {"line": "property", "amounts": amounts}]);
        with("/groups/2", json!({"name": "storm", "events": {"rates": rates, "losses": losses}}))
    };
    let program = compile(&read(&table(32_768)).unwrap().portfolio()).unwrap();
    program.validate().unwrap();
    let AmountTable::Steps { amounts, .. } = &program.groups[2].components[1].amounts else {
        panic!("events have steps");
    };
    assert!(amounts.len() == 32_768 && amounts.is_sorted());
    // Each occurrence has an amount on each of the two lines.
    let mut often = events_with("/rates", json!([8000, 1000, 1000]));
    set(&mut often, "/groups/2/events/frequency", json!({"negative_binomial": {"contagion": 0.01}}));
    let error = compile(&read(&often).unwrap().portfolio()).unwrap_err().into_errors().remove(0);
    assert_eq!(error.pointer, "/args/groups/2");
    assert!(error.message.contains("amounts in a year, from up to"), "{}", error.message);
    let errors = read(&table(32_769)).unwrap_err();
    assert!(errors.iter().all(|(_, text)| text.contains("1 to 32768 elements")), "{errors:?}");
}
