//! Severities that are given by lists: separate amounts with probabilities, a sample, or knots of
//! the quantile function.

use forge_contract::strict::{ObjectReader, number_to_value};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{families::single_key_schema, other_names::unknown_parameter, portfolio::ComponentSeverity};

/// Most elements of a list.
pub const MAX_LISTED: usize = 10_000;
/// Largest weight of an amount.
const MAX_WEIGHT: f64 = 1e9;
/// Names of the families.
pub(super) const NAMES: [&str; 3] = ["discrete", "empirical", "piecewise"];

/// A severity that is given by lists, as written.
#[derive(Debug, Clone, PartialEq)]
pub enum ListedSeverityArgs {
    /// Separate amounts.
    Discrete {
        /// The amounts, ascending.
        amounts: Vec<f64>,
        /// Their probabilities, up to a common factor.
        probabilities: Vec<f64>,
    },
    /// Observed amounts, each as probable as any other.
    Empirical(Vec<f64>),
    /// Knots between which the quantile function is linear.
    Piecewise {
        /// Probabilities of the knots, ascending from 0 to 1.
        probabilities: Vec<f64>,
        /// Amounts of the knots, ascending.
        amounts: Vec<f64>,
    },
}

impl ListedSeverityArgs {
    /// Reads the lists of the family `name`, one of [`NAMES`]. `None` with an error recorded.
    pub(super) fn read(object: &mut ObjectReader<'_, '_>, name: &'static str, largest: f64) -> Option<Self> {
        let mut object = object.required_object(name)?;
        let lists: &[&str] = match name {
            "discrete" => &["amounts", "probabilities"],
            "empirical" => &["sample"],
            _ => &["probabilities", "amounts"],
        };
        for list in lists {
            object.node(list);
        }
        let severity = match name {
            "discrete" => read_discrete(&mut object, largest),
            "empirical" => read_list(&mut object, "sample", 1, largest, "a list of observed amounts")
                .map(Self::Empirical),
            _ => read_piecewise(&mut object, largest),
        };
        object.finish_with(|key| unknown_parameter(name, key, &lists.join(" and "), false));
        severity
    }

    /// The severity with amounts in minor units, as `to_minor_units` converts them.
    pub(super) fn severity(&self, to_minor_units: impl Fn(f64) -> u64) -> ComponentSeverity {
        let convert = |amounts: &[f64]| amounts.iter().map(|&amount| to_minor_units(amount)).collect();
        match self {
            Self::Discrete { amounts, probabilities } => {
                ComponentSeverity::Discrete { amounts: convert(amounts), weights: probabilities.clone() }
            }
            Self::Empirical(sample) => {
                let mut amounts: Vec<u64> = convert(sample);
                amounts.sort_unstable();
                ComponentSeverity::Discrete { weights: vec![1.0; amounts.len()], amounts }
            }
            Self::Piecewise { probabilities, amounts } => ComponentSeverity::Piecewise {
                amounts: convert(amounts),
                probabilities: probabilities.clone(),
            },
        }
    }
}

/// Reads a required list of at least `fewest` amounts.
fn read_list(
    object: &mut ObjectReader<'_, '_>,
    name: &'static str,
    fewest: usize,
    largest: f64,
    wanted: &str,
) -> Option<Vec<f64>> {
    if object.node(name).is_none() {
        // The message for an unknown parameter names those that are missing.
        if !object.has_unknown_key() {
            object.missing(name, wanted);
        }
        return None;
    }
    let list = object.optional_numbers(name, fewest..=MAX_LISTED, 0.0..=largest);
    list.filter(|_| !object.has_error_within(&format!("/{name}")))
}

fn read_discrete(object: &mut ObjectReader<'_, '_>, largest: f64) -> Option<ListedSeverityArgs> {
    let amounts = read_list(object, "amounts", 1, largest, "a list of amounts");
    let probabilities =
        read_list(object, "probabilities", 1, MAX_WEIGHT, "a list of the probabilities of the amounts");
    if let Some(amounts) = &amounts {
        check_ascending(object, "amounts", amounts, |before, amount| before < amount, "above");
    }
    let (amounts, probabilities) = (amounts?, probabilities?);
    check_lengths(object, &amounts, &probabilities);
    if probabilities.iter().all(|&probability| probability == 0.0) {
        object.error("probabilities", "must have a positive element");
    }
    Some(ListedSeverityArgs::Discrete { amounts, probabilities })
}

fn read_piecewise(object: &mut ObjectReader<'_, '_>, largest: f64) -> Option<ListedSeverityArgs> {
    let wanted = "a list of the probabilities of the knots, from 0 to 1,";
    let probabilities = read_list(object, "probabilities", 2, 1.0, wanted);
    let amounts = read_list(object, "amounts", 2, largest, "a list of the amounts of the knots");
    if let Some(probabilities) = &probabilities {
        check_ascending(object, "probabilities", probabilities, |before, p| before < p, "above");
        let last = probabilities.len() - 1;
        for (at, wanted) in [(0, 0.0), (last, 1.0)] {
            let path = format!("/probabilities/{at}");
            if probabilities[at] != wanted && !object.has_error_within(&path) {
                let which = if at == 0 { "first" } else { "last" };
                let message =
                    format!("must be {wanted}, as that of the {which} knot; it is {}", probabilities[at]);
                object.error_at(&path, message);
            }
        }
    }
    if let Some(amounts) = &amounts {
        check_ascending(object, "amounts", amounts, |before, amount| before <= amount, "at least");
    }
    let (probabilities, amounts) = (probabilities?, amounts?);
    check_lengths(object, &amounts, &probabilities);
    Some(ListedSeverityArgs::Piecewise { probabilities, amounts })
}

/// Records an error on every element that does not follow the one before it; `relation` says in
/// words how it must.
fn check_ascending(
    object: &mut ObjectReader<'_, '_>,
    name: &str,
    list: &[f64],
    follows: impl Fn(f64, f64) -> bool,
    relation: &str,
) {
    for (at, pair) in list.windows(2).enumerate() {
        if !follows(pair[0], pair[1]) {
            let message = format!("must be {relation} the element before it, {}; it is {}", pair[0], pair[1]);
            object.error_at(&format!("/{name}/{}", at + 1), message);
        }
    }
}

fn check_lengths(object: &mut ObjectReader<'_, '_>, amounts: &[f64], probabilities: &[f64]) {
    if amounts.len() != probabilities.len() {
        let message = format!(
            "must have as many elements as `amounts`, {}; it has {}",
            amounts.len(),
            probabilities.len()
        );
        object.error("probabilities", message);
    }
}

fn numbers(list: &[f64]) -> Value {
    list.iter().map(|&x| number_to_value(x)).collect()
}

impl Serialize for ListedSeverityArgs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = match self {
            Self::Discrete { amounts, probabilities } => {
                json!({"discrete": {"amounts": numbers(amounts), "probabilities": numbers(probabilities)}})
            }
            Self::Empirical(sample) => json!({"empirical": {"sample": numbers(sample)}}),
            Self::Piecewise { probabilities, amounts } => {
                json!({"piecewise": {"probabilities": numbers(probabilities), "amounts": numbers(amounts)}})
            }
        };
        value.serialize(serializer)
    }
}

/// JSON Schemas of the families, with amounts up to `largest`.
pub(super) fn schemas(largest: f64) -> [Value; 3] {
    let list = |fewest: usize, greatest: f64, description: &str| {
        json!({
            "type": "array", "minItems": fewest, "maxItems": MAX_LISTED,
            "items": {"type": "number", "minimum": 0, "maximum": number_to_value(greatest)},
            "description": description
        })
    };
    let schema = |name: &str, description: &str, lists: Value| {
        let required: Vec<String> =
            lists.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        let value = json!({
            "type": "object", "properties": lists, "required": required, "additionalProperties": false
        });
        single_key_schema(name, description, value)
    };
    let amounts = |fewest, description| list(fewest, largest, description);
    [
        schema(
            "discrete",
            "One of several amounts.",
            json!({
                "amounts": amounts(1, "The amounts, ascending."),
                "probabilities":
                    list(1, MAX_WEIGHT, "Their probabilities, in proportion to these weights; one is positive.")
            }),
        ),
        schema(
            "empirical",
            "One of the amounts of a sample, each as probable as any other.",
            json!({"sample": amounts(1, "The amounts, in any order; repeated ones count as often.")}),
        ),
        schema(
            "piecewise",
            "The quantile function is linear between knots.",
            json!({
                "probabilities": list(2, 1.0, "Probabilities of the knots, ascending from 0 to 1."),
                "amounts": amounts(2, "Amounts of the knots: they may repeat, but not descend.")
            }),
        ),
    ]
}
