//! Reading, validation and warnings, on args that differ from valid ones in one place.

mod errors;
mod events;
mod lists;
mod parameters;
mod plausibility;

use forge_contract::strict::{self, Errors, ObjectReader};
use serde_json::{Value, json};

use super::{
    commissions::Commission,
    portfolio::{ComponentSeverity, GroupKind, PortfolioComponent},
    *,
};
use crate::{
    counts::CountLaw,
    severities::SeverityLaw,
    statistics::Level,
    treaties::{IndexSet, Layer, OccurrenceLayer, Proportion, TreatyTerms},
};

/// Reads args, with the errors as pairs of pointer and message.
fn read(args: &Value) -> Result<RiskArgs, Vec<(String, String)>> {
    let node = strict::parse(args.to_string().as_bytes()).unwrap();
    let mut errors = Errors::new();
    let args = RiskArgs::read(ObjectReader::open(&node, "/args", &mut errors).unwrap());
    errors.into_result(args).map_err(|invalid| {
        invalid.into_errors().into_iter().map(|error| (error.pointer, error.message)).collect()
    })
}

/// Valid args of two lines, three groups and an index, without treaties.
fn base() -> Value {
    json!({
        "iterations": 1000,
        "lines": ["property", "motor"],
        "indices": [{"name": "inflation", "lognormal": {"mean": 1, "cv": 0.04}}],
        "groups": [
            {"name": "year", "annual": [{"line": "motor", "amount": {"constant": 5000}}]},
            {"name": "large", "count": {"poisson": 3}, "claims": [
                {"line": "property", "weight": 3, "severity": {"exponential": 2000}, "index": "inflation"},
                {"line": "motor", "severity": {"uniform": {"low": 100, "high": 900}}, "deductible": 200, "limit": 500}
            ]},
            {"name": "storm", "count": {"bernoulli": 0.5}, "strikes": [
                {"line": "property", "severity": {"constant": 3000}},
                {"line": "motor", "severity": {"lognormal": {"mu": 7, "sigma": 1}}, "rank": "same", "limit": 4000}
            ]}
        ]
    })
}

/// The base with the value at `pointer` replaced or added.
fn with(pointer: &str, value: Value) -> Value {
    let mut args = base();
    set(&mut args, pointer, value);
    args
}

fn set(args: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match args.pointer_mut(parent).unwrap() {
        Value::Object(members) => drop(members.insert(key.to_owned(), value)),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => panic!("{other} has no members"),
    }
}

/// The named examples.
fn examples() -> [Value; 5] {
    [examples::portfolio(), examples::tower(), examples::capital(), examples::mixture(), examples::events()]
}

/// The base with these treaties, each of which has a name and, if it names none, step 1.
fn with_treaties(treaties: &[Value]) -> Value {
    let named = treaties.iter().enumerate().map(|(index, treaty)| {
        let mut treaty = treaty.clone();
        treaty["name"] = format!("T{index}").into();
        treaty
    });
    with("/treaties", named.collect())
}

#[test]
fn examples_are_valid_and_describe_portfolios() {
    for example in examples() {
        let args = read(&example).unwrap();
        assert_eq!(args.warnings(&compile::compile(&args.portfolio()).unwrap()), [], "{example}");
        let portfolio = args.portfolio();
        assert_eq!(portfolio.units, 100);
        assert_eq!(portfolio.groups.len(), example["groups"].as_array().unwrap().len());
    }
}

#[test]
fn normal_form_has_defaults_and_reads_as_the_same_args() {
    for args in examples().into_iter().chain([base()]) {
        let first = read(&args).unwrap();
        let mut normal = first.model_args();
        normal.insert("iterations".to_owned(), args["iterations"].clone());
        let second = read(&Value::Object(normal.clone())).unwrap();
        assert_eq!(first, second);
        normal.remove("iterations");
        assert_eq!(second.model_args(), normal);
    }
    let args = read(&with_treaties(&[
        json!({"kind": "quota_share", "covers": ["motor"], "cession": 0.25}),
        json!({"kind": "occurrence_xl", "covers": ["motor"], "attachment": 0, "limit": 10, "reinstatements": []}),
    ]));
    let expected = json!({
        "decimals": 2,
        "lines": ["property", "motor"],
        "indices": [{"name": "inflation", "lognormal": {"mean": 1, "cv": 0.04}}],
        "groups": [
            {"name": "year", "annual": [{"line": "motor", "amount": {"constant": 5000}}]},
            {"name": "large", "count": {"poisson": 3}, "claims": [
                {"line": "property", "weight": 3, "severity": {"exponential": 2000}, "share": 1,
                 "index": "inflation"},
                {"line": "motor", "weight": 1, "severity": {"uniform": {"low": 100, "high": 900}},
                 "deductible": 200, "limit": 500, "share": 1}
            ]},
            {"name": "storm", "count": {"bernoulli": 0.5}, "strikes": [
                {"line": "property", "severity": {"constant": 3000}, "share": 1},
                {"line": "motor", "severity": {"lognormal": {"mu": 7, "sigma": 1}}, "rank": "same",
                 "limit": 4000, "share": 1}
            ]}
        ],
        "treaties": [
            {"name": "T0", "step": 1, "kind": "quota_share", "covers": ["motor"], "cession": 0.25,
             "commission": 0},
            {"name": "T1", "step": 1, "kind": "occurrence_xl", "covers": ["motor"], "attachment": 0,
             "limit": 10, "cession": 1, "placed": 1, "reinstatements": []}
        ],
        "report": {
            "allocation": false,
            "return_periods": [2, 5, 10, 25, 50, 100, 200, 250, 500, 1000],
            "levels": [0.5, 0.9, 0.95, 0.99, 0.995, 0.999]
        }
    });
    assert_eq!(Value::Object(args.unwrap().model_args()), expected);
}

#[test]
fn portfolio_has_indices_for_names_and_minor_units_for_amounts() {
    let portfolio = read(&examples::portfolio()).unwrap().portfolio();
    assert_eq!(portfolio.lines, ["property", "motor", "liability"]);
    let kinds: Vec<_> = portfolio.groups.iter().map(|group| group.kind).collect();
    assert_eq!(kinds, [GroupKind::Annual, GroupKind::Claims, GroupKind::Strikes]);
    assert_eq!(portfolio.groups[0].counts.law, CountLaw::Constant(1));
    let liability = &portfolio.groups[1].components[2];
    assert_eq!(
        *liability,
        PortfolioComponent {
            line: 2,
            severity: ComponentSeverity::Law(SeverityLaw::Gpd {
                threshold: 300_000.0,
                scale: 210_000.0,
                xi: 0.55
            }),
            weight: 0.2,
            deductible: 10_000_000,
            limit: 1_500_000_000,
            franchise: 0,
            share: Proportion::ONE,
            index: Some(0),
            has_same_rank: false,
        }
    );
    assert!(portfolio.groups[2].components[1].has_same_rank);
    let quota_share = &portfolio.treaties[0];
    assert_eq!(
        (&quota_share.commission, quota_share.treaty.step),
        (&Commission::Flat(Proportion(270_000)), 1)
    );
    assert_eq!((quota_share.treaty.lines, quota_share.treaty.groups), (IndexSet(0b10), IndexSet::ALL));
    let no_limit = forge_contract::program::MAX_AMOUNT;
    assert_eq!(
        quota_share.treaty.terms,
        TreatyTerms::QuotaShare { cession: Proportion(200_000), event_limit: no_limit }
    );
    let layers: Vec<OccurrenceLayer> = portfolio
        .treaties
        .iter()
        .filter_map(|treaty| match &treaty.treaty.terms {
            TreatyTerms::OccurrenceXl(layer) => Some(layer.clone()),
            _ => None,
        })
        .collect();
    let layer = |limit, attachment| Layer { limit, attachment };
    assert_eq!(layers[0].annual, layer(1_500_000_000, 100_000_000));
    assert_eq!(layers[1].layer, layer(2_000_000_000, 1_000_000_000));
    // Two reinstatements: the limit is paid three times.
    assert_eq!(layers[1].annual, layer(6_000_000_000, 0));
    assert_eq!(layers[1].reinstatements, [Proportion::ONE; 2]);
    assert_eq!((layers[1].placed, layers[1].premium), (Proportion(900_000), 260_000_000));
    assert_eq!(portfolio.treaties[2].treaty.groups, IndexSet(0b100));
    let capital = portfolio.capital.unwrap();
    assert_eq!((capital.own_funds, capital.level), (40_000_000_000, Level::new(995_000, 1_000_000)));
    assert_eq!(portfolio.report.return_periods.last(), Some(&10_000));
    assert_eq!(portfolio.report.levels[0], Level::new(500_000, 1_000_000));
}

#[test]
fn layers_may_be_fractions_of_a_premium() {
    let args = with_treaties(&[json!({
        "kind": "aggregate_xl", "covers": ["motor"], "premium": 20_000, "attachment_ratio": 1.1,
        "limit_ratio": 0.333_333
    })]);
    let portfolio = read(&args).unwrap().portfolio();
    let layer = Layer { limit: 666_666, attachment: 2_200_000 };
    let terms = TreatyTerms::AggregateXl { layer, placed: Proportion::ONE };
    assert_eq!((&portfolio.treaties[0].treaty.terms, portfolio.treaties[0].premium), (&terms, 0));
}

#[test]
fn reinstatements_that_are_absent_do_not_limit_the_year() {
    let layer_of = |terms: Value| {
        let mut treaty = json!({"kind": "occurrence_xl", "covers": ["motor"], "attachment": 5});
        treaty.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
        match read(&with_treaties(&[treaty])).unwrap().portfolio().treaties[0].treaty.terms.clone() {
            TreatyTerms::OccurrenceXl(layer) => layer.annual.limit,
            other => panic!("{other:?}"),
        }
    };
    let no_limit = forge_contract::program::MAX_AMOUNT;
    assert_eq!(layer_of(json!({})), no_limit);
    assert_eq!(layer_of(json!({"limit": 10})), no_limit);
    assert_eq!(layer_of(json!({"limit": 10, "reinstatements": []})), 1000);
    assert_eq!(layer_of(json!({"limit": 10, "reinstatements": [0, 0.5]})), 3000);
    assert_eq!(layer_of(json!({"limit": 10, "reinstatements": [0, 0.5], "aal": 25})), 2500);
    assert_eq!(layer_of(json!({"limit": 1e13, "reinstatements": vec![1; 15]})), no_limit);
}

#[test]
fn draws_are_those_of_the_expected_occurrences() {
    let args = read(&base()).unwrap();
    assert_eq!(args.expected_occurrences(), 3.5);
    // 1 total; a count, 3 picks and 3 amounts; a count and half an occurrence of two strikes, which
    // share a draw but have an amount each; an index.
    assert_eq!(args.expected_draws(), (1.0_f64 + 7.0 + 2.0).ceil() as u64 + 1);
    let one = read(&examples::tower()).unwrap();
    assert_eq!(one.expected_draws(), 2);
}

#[test]
fn runs_beyond_2_to_the_52_draws_are_refused() {
    let mut args = with("/groups/1/count", json!({"poisson": 10_000}));
    set(&mut args, "/iterations", json!(1_u64 << 48));
    let errors = read(&args).unwrap_err();
    assert_eq!(errors[0].0, "/args/iterations");
    assert!(errors[0].1.contains("2^52 draws"), "{errors:?}");
}

#[test]
fn schema_lists_the_fields_and_families() {
    let schema = schemars::schema_for!(RiskArgs).to_value();
    assert_eq!(schema["required"], json!(["iterations", "lines", "groups"]));
    assert_eq!(schema["additionalProperties"], false);
    let families = schema["$defs"]["SeverityArgs"]["oneOf"].as_array().unwrap();
    assert_eq!(families.len(), severities::FAMILIES.len() + 1 + listed_severities::NAMES.len());
    let lognormal = &families[0]["properties"]["lognormal"]["anyOf"];
    assert_eq!(lognormal[0]["required"], json!(["mean", "cv"]));
    assert_eq!(lognormal[1]["properties"]["sigma"]["maximum"], 8);
    let factors = schema["$defs"]["IndexArgs"]["oneOf"].as_array().unwrap();
    assert_eq!(factors.len(), families.len());
    for (law, largest) in [(families, 1e15), (factors, 1000.0)] {
        let maximum =
            |pointer: &str| law.iter().find_map(|family| family.pointer(pointer)?["maximum"].as_f64());
        assert_eq!(maximum("/properties/constant"), Some(largest));
        assert_eq!(maximum("/properties/pareto/properties/threshold"), Some(largest));
        assert_eq!(maximum("/properties/discrete/properties/amounts/items"), Some(largest));
    }
    assert_eq!(schema["$defs"]["CountArgs"]["oneOf"].as_array().unwrap().len(), counts::FAMILIES.len() + 2);
    assert_eq!(schema["properties"]["decimals"]["default"], 2);
}
