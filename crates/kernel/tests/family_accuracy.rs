//! Proves the accuracy that docs/determinism.md, section 5.2, claims of the tables of all families,
//! extreme shapes included, against quantiles of arbitrary precision (data/quantiles.py).
#![expect(clippy::print_stdout, reason = "figures for the documentation: cargo test -- --nocapture")]

mod common;

use common::table::{amount, entry, locate, scaled};
use forge_contract::program::{AmountTable, MAX_AMOUNT, Segment};
use forge_kernel::{double_double::power_of_two, request::Request};
use serde::Deserialize;
use serde_json::{Value, json};

/// Largest error relative to the amount.
const RELATIVE_ERROR: f64 = 1e-5;
/// Decimals of the minor unit, and minor units in a unit.
const DECIMALS: (u32, f64) = (4, 10_000.0);

/// A severity with quantiles in units at draws.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceQuantiles {
    severity: Value,
    quantiles: Vec<(u64, f64)>,
}

/// The table of a severity in an envelope.
fn table(severity: &Value) -> (u32, Vec<Segment>) {
    let envelope = json!({
        "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
        "args": {"iterations": 1, "decimals": DECIMALS.0, "lines": ["line"], "groups": [
            {"name": "group", "count": {"constant": 1}, "claims": [
                {"line": "line", "severity": severity, "limit": 1e10}]}]}
    });
    let request = Request::from_json(envelope.to_string().as_bytes())
        .unwrap_or_else(|error| panic!("{severity}: {error:?}"));
    match &request.program.groups[0].components[0].amounts {
        AmountTable::Quantiles { segment_bits, segments } => (*segment_bits, segments.clone()),
        other => panic!("{severity}: {other:?}"),
    }
}

#[test]
fn amounts_of_all_families_are_accurate() {
    let laws: Vec<ReferenceQuantiles> =
        serde_json::from_str(include_str!("data/quantiles.json")).expect("the data is valid");
    let mut failures = Vec::new();
    for law in &laws {
        let (bits, segments) = table(&law.severity);
        let mut worst = 0.0_f64;
        for &(draw, quantile) in &law.quantiles {
            let exact = quantile * DECIMALS.1;
            let found = amount(bits, &segments, draw).min(MAX_AMOUNT) as f64;
            if exact > MAX_AMOUNT as f64 {
                assert!(found > MAX_AMOUNT as f64 * (1.0 - RELATIVE_ERROR), "{}: {draw:#x}", law.severity);
                continue;
            }
            let place = locate(bits, draw);
            let (value, shift) = scaled(segments[entry(bits, place)], place.y);
            let smooth = (value as f64 / power_of_two(shift as i32) - 0.5).max(0.0);
            let error = (smooth - exact).abs();
            let allowed = RELATIVE_ERROR * exact + power_of_two(-27);
            if error > allowed || (found - exact).abs() > allowed + 0.5 {
                failures.push(format!("{}, draw {draw:#x}: {smooth} for {exact}", law.severity));
            }
            if exact > 1000.0 {
                worst = worst.max(error / exact);
            }
        }
        println!("{} with {bits} segment bits: {worst:.1e}", law.severity);
    }
    assert!(laws.len() > 50, "{} laws", laws.len());
    assert!(failures.is_empty(), "{} amounts:\n{}", failures.len(), failures.join("\n"));
}
