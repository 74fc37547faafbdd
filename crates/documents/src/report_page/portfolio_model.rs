//! The args of a portfolio as tables: its sources of losses and its treaties.

use serde_json::{Map, Value};

use crate::{
    number_format::{format_count, format_rounded},
    portfolio_tables::text,
    result_tables::ResultTable,
};

/// Longer lists are described by their length.
const MAX_LISTED: usize = 6;

/// The tables with their titles, in reading order; empty for args that are not a portfolio's.
pub fn model_tables(args: &Map<String, Value>) -> Vec<(&'static str, ResultTable)> {
    let list = |name: &str| args.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut tables = Vec::new();
    let groups: Vec<_> = list("groups").iter().flat_map(group_rows).collect();
    if !groups.is_empty() {
        let header = vec!["Group", "Count", "Line", "Severity", "Terms"];
        tables.push(("Sources of losses", ResultTable { header, rows: groups }));
    }
    let indices: Vec<_> = list("indices").iter().map(|index| vec![name(index), law(index)]).collect();
    if !indices.is_empty() {
        tables.push(("Indices", ResultTable { header: vec!["Index", "Factor"], rows: indices }));
    }
    let treaties: Vec<_> = list("treaties").iter().map(treaty_row).collect();
    if !treaties.is_empty() {
        let header = vec!["Treaty", "Step", "Kind", "Covers", "Terms"];
        tables.push(("Treaties", ResultTable { header, rows: treaties }));
    }
    tables
}

/// One row for each component of a group.
fn group_rows(group: &Value) -> Vec<Vec<String>> {
    if group["events"].is_object() {
        return event_rows(group);
    }
    let kinds = ["annual", "claims", "strikes"];
    let kind = kinds.into_iter().find(|kind| group[*kind].is_array()).unwrap_or_default();
    let components = group[kind].as_array().map_or(&[][..], Vec::as_slice);
    let rows = components.iter().enumerate().map(|(at, component)| {
        let severity = component.get("severity").or(component.get("amount")).unwrap_or(&Value::Null);
        let (group_name, count) = match at {
            0 => (format!("{} ({kind})", name(group)), law(&group["count"])),
            _ => (String::new(), String::new()),
        };
        let count = if at == 0 && kind == "annual" { "once a year".to_owned() } else { count };
        let terms = described(component, &["line", "severity", "amount"]);
        vec![group_name, count, text(&component["line"]), law(severity), terms]
    });
    rows.collect()
}

/// One row for each line that the events of a table strike.
fn event_rows(group: &Value) -> Vec<Vec<String>> {
    let (events, list) = (&group["events"], |value: &Value| value.as_array().cloned().unwrap_or_default());
    let numbers = |value: &Value| list(value).iter().filter_map(Value::as_f64).collect::<Vec<_>>();
    let rates = numbers(&events["rates"]);
    let frequency = match events["frequency"].as_str() {
        Some(name) => name.to_owned(),
        None => law(&events["frequency"]),
    };
    let mean: f64 = rates.iter().sum();
    // Rates may be far below 1.
    let mean = match mean < 0.001 {
        true => format!("{mean:.3e}"),
        false => value_text(&((mean * 1e6).round() / 1e6).into()),
    };
    let count = format!("{frequency}, mean {mean}");
    let rows = list(&events["losses"]).into_iter().enumerate().map(|(at, loss)| {
        let (group_name, count) = match at {
            0 => (format!("{} (events)", name(group)), count.clone()),
            _ => (String::new(), String::new()),
        };
        let amounts = numbers(&loss["amounts"]);
        let possible = amounts.iter().zip(&rates).filter(|(_, rate)| **rate > 0.0);
        let largest = possible.map(|(amount, _)| *amount).fold(0.0, f64::max);
        let noun = if rates.len() == 1 { "event" } else { "events" };
        let number = format_count(rates.len() as u64);
        let amounts = format!("{number} {noun}, up to {}", format_rounded(largest));
        vec![group_name, count, text(&loss["line"]), amounts, String::new()]
    });
    rows.collect()
}

fn treaty_row(treaty: &Value) -> Vec<String> {
    let covers = match treaty["groups"].is_null() {
        true => value_text(&treaty["covers"]),
        false => format!("{} of {}", value_text(&treaty["covers"]), value_text(&treaty["groups"])),
    };
    vec![
        name(treaty),
        value_text(&treaty["step"]),
        text(&treaty["kind"]).replace('_', " "),
        covers,
        described(treaty, &["name", "step", "kind", "covers", "groups"]),
    ]
}

/// The members of an object besides these, and without those that change nothing, as `name value`.
fn described(object: &Value, without: &[&str]) -> String {
    let neutral = |name: &str, value: &Value| {
        matches!(
            (name, value.as_f64()),
            ("share" | "placed" | "cession" | "weight", Some(1.0)) | ("commission", Some(0.0))
        )
    };
    let members = object.as_object().into_iter().flatten();
    let members = members.filter(|(name, value)| !without.contains(&name.as_str()) && !neutral(name, value));
    let members = members.map(|(name, value)| {
        let text = commission_text(name, value).unwrap_or_else(|| value_text(value));
        format!("{} {text}", name.replace('_', " "))
    });
    members.collect::<Vec<_>>().join(", ")
}

/// A sliding scale or a profit commission in words; `None` for other members.
fn commission_text(name: &str, value: &Value) -> Option<String> {
    match (name, value) {
        ("commission", Value::Array(knots)) if knots.len() <= MAX_LISTED => {
            let knot = |knot: &Value| {
                format!(
                    "{} at a loss ratio of {}",
                    value_text(&knot["rate"]),
                    value_text(&knot["loss_ratio"])
                )
            };
            Some(format!("sliding: {}", knots.iter().map(knot).collect::<Vec<_>>().join(" and ")))
        }
        ("profit_commission", Value::Object(_)) => {
            let (share, margin) = (value_text(&value["share"]), value_text(&value["margin"]));
            Some(format!("{share} of the profit after a margin of {margin}"))
        }
        _ => None,
    }
}

/// A law, such as `pareto: threshold 250,000, alpha 1.6`.
fn law(object: &Value) -> String {
    let families = object.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
    let families = families.map(|(family, parameters)| {
        let family = family.replace('_', " ");
        match parameters {
            Value::Object(_) => format!("{family}: {}", described(parameters, &[])),
            other => format!("{family} {}", value_text(other)),
        }
    });
    families.collect::<Vec<_>>().join(", ")
}

fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => format_count(whole),
            (None, Some(x)) if x.abs() >= 1000.0 => format_rounded(x),
            _ => number.to_string(),
        },
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) if items.len() > MAX_LISTED => format!("({} values)", items.len()),
        Value::Array(items) => items.iter().map(value_text).collect::<Vec<_>>().join(" and "),
        Value::Object(_) => law(value),
        Value::Bool(_) | Value::Null => value.to_string(),
    }
}

fn name(object: &Value) -> String {
    text(&object["name"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_have_a_row_for_each_line() {
        let losses =
            json!([{"line": "property", "amounts": [1500, 250_000]}, {"line": "motor", "amounts": [0, 9]}]);
        let row = |frequency: Value| {
            let events = json!({"rates": [0.125, 0.0005], "losses": losses, "frequency": frequency});
            group_rows(&json!({"name": "storm", "events": events}))
        };
        let rows = row(json!("poisson"));
        let first = ["storm (events)", "poisson, mean 0.1255", "property", "2 events, up to 250,000", ""];
        assert_eq!(rows, [first.to_vec(), vec!["", "", "motor", "2 events, up to 9.00", ""]]);
        let rows = row(json!({"negative_binomial": {"contagion": 0.35}}));
        assert_eq!(rows[0][1], "negative binomial: contagion 0.35, mean 0.1255");
        // An event that never happens is no largest one.
        let losses = json!([{"line": "property", "amounts": [1500, 9000]}]);
        let events = json!({"rates": [2e-7, 0], "losses": losses, "frequency": "poisson"});
        let rows = group_rows(&json!({"name": "storm", "events": events}));
        assert_eq!(&rows[0][1..4], ["poisson, mean 2.000e-7", "property", "2 events, up to 1,500"]);
    }
}
