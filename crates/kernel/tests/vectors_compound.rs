//! Laws, args and results of `risk.compound.v1` against `tests/vectors/v1`, which the Python
//! implementation of docs/determinism.md has written.

use forge_contract::{
    canonical::to_canonical_json,
    digest::Digest,
    strict::{self, Errors, ObjectReader},
    table::AmountTable,
};
use forge_kernel::{
    backend::simd::Simd,
    request::Request,
    workload::risk_compound_v1::{Portfolio, RiskArgs, portfolio::ComponentSeverity},
};
use serde_json::{Value, json};

mod common;

use common::{
    runs,
    vectors::{cases, digest, integer, text},
};

/// The portfolio of a group.
fn portfolio(group: &Value) -> Portfolio {
    let args = json!({"iterations": 1, "lines": ["line"], "groups": [group]}).to_string();
    let root = strict::parse(args.as_bytes()).unwrap();
    let mut errors = Errors::new();
    let args = RiskArgs::read(ObjectReader::open(&root, "", &mut errors).unwrap());
    errors.into_result(args).unwrap_or_else(|error| panic!("{group}: {error}")).portfolio()
}

#[test]
fn count_laws() {
    let cases = cases("compound", "counts");
    assert!(cases.len() >= 15);
    for case in cases {
        let claims = json!([{"line": "line", "severity": {"constant": 1}}]);
        let portfolio = portfolio(&json!({"name": "group", "count": case["count"], "claims": claims}));
        let counts = &portfolio.groups[0].counts;
        let table = match counts.zero_probability {
            None => counts.law.table(),
            Some(zero) => counts.law.zero_modified_table(zero),
        };
        let table = table.unwrap();
        assert_eq!(u64::from(table.offset), integer(&case["offset"]), "{}", case["count"]);
        assert_eq!(table.thresholds.len() as u64, integer(&case["length"]), "{}", case["count"]);
        let bytes: Vec<u8> = table.thresholds.iter().flat_map(|t| t.to_le_bytes()).collect();
        assert_eq!(Digest::hash_parts(&[&bytes]), digest(&case["sha256"]), "{}", case["count"]);
    }
}

#[test]
fn severities() {
    let cases = cases("compound", "severities");
    assert!(cases.len() >= 20);
    for case in cases {
        let claims = json!([{"line": "line", "severity": case["severity"]}]);
        let portfolio = portfolio(&json!({"name": "group", "count": {"poisson": 1}, "claims": claims}));
        let ComponentSeverity::Law(law) = portfolio.groups[0].components[0].severity else {
            panic!("{} is a law", case["severity"]);
        };
        let what = &case["severity"];
        assert_eq!(law.segment_bits().map(u64::from), Some(integer(&case["segment_bits"])), "{what}");
        let (units, bits) = (integer(&case["units"]) as u32, integer(&case["table_bits"]) as u32);
        let table = law.table(units, bits).unwrap();
        for sample in case["sample"].as_array().unwrap() {
            let segment = table[integer(&sample["index"]) as usize];
            let found = json!({"index": sample["index"], "left": segment.left, "slope": segment.slope,
                "curve": segment.curve, "shift": segment.shift});
            assert_eq!(&found, sample, "{what}");
        }
        let fields = table.iter().flat_map(|s| [s.left, s.slope, s.curve, s.shift as i32]);
        let bytes: Vec<u8> = fields.flat_map(i32::to_le_bytes).collect();
        assert_eq!(Digest::hash_parts(&[&bytes]), digest(&case["sha256"]), "{what}");
    }
}

#[test]
fn tables_of_lists() {
    let cases = cases("compound", "tables");
    assert!(cases.len() >= 16);
    for case in cases {
        let (what, decimals) = (&case["severity"], integer(&case["units"]).ilog10());
        let claims = json!([{"line": "line", "severity": what}]);
        let group = json!({"name": "group", "count": {"poisson": 1}, "claims": claims});
        let args = json!({"iterations": 1, "decimals": decimals, "lines": ["line"], "groups": [group]});
        let op = json!({"name": "mc", "version": 1, "profile": "risk.compound.v1"});
        let request = Request::from_json(json!({"op": op, "args": args}).to_string().as_bytes())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let table = &request.program.groups[0].components[0].amounts;
        let (kind, thresholds, amounts) = match table {
            AmountTable::Steps { thresholds, amounts } => ("steps", thresholds, amounts),
            AmountTable::Linear { thresholds, amounts } => ("linear", thresholds, amounts),
            AmountTable::Quantiles { .. } => panic!("{what} is no law"),
        };
        let thresholds: Vec<_> = thresholds.iter().map(u64::to_string).collect();
        let found = json!({"kind": kind, "thresholds": thresholds, "amounts": amounts});
        for (key, value) in found.as_object().unwrap() {
            assert_eq!(value, &case[key], "{key} of {what}");
        }
    }
}

#[test]
fn portfolios() {
    let cases = cases("compound", "portfolios");
    assert!(cases.len() >= 4);
    for case in cases {
        let name = text(&case["name"]);
        let request = Request::from_json(case["envelope"].to_string().as_bytes())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let canonical = |value: &Value| String::from_utf8(to_canonical_json(value).unwrap()).unwrap();
        assert_eq!(canonical(&json!(request.envelope.args)), text(&case["normalised_args"]), "{name}");
        assert_eq!(request.program_digest, digest(&case["program"]), "{name}");
        let (merged, reason) = runs::execute(&request, &Simd::new());
        let document = request.result_document(&merged, reason);
        let found = canonical(&serde_json::to_value(&document).unwrap());
        assert_eq!(found, text(&case["result"]), "{name}");
        assert_eq!(runs::hash(&document), digest(&case["result_hash"]), "{name}");
    }
}
