//! The counts of args: families of the number of occurrences in a year, and their means.

use std::borrow::Cow;

use forge_contract::{
    program::MAX_COUNT,
    strict::{Node, ObjectReader, number_to_value},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    conversions::ln_1p,
    families::{
        Families, Family, FamilyArgs, Form, Parameter, ParameterError,
        ParameterRange::{self, Number, Whole},
        one_of_schema, single_key_schema,
    },
    other_names,
    portfolio::PortfolioCounts,
};
use crate::{counts::CountLaw, double_double::DoubleDouble};

/// The law of the number of occurrences, as written.
#[derive(Debug, Clone, PartialEq)]
pub enum CountArgs {
    /// A law of a family.
    Family(FamilyArgs<CountLaw>),
    /// Weights of 0, 1, 2, … occurrences.
    Discrete(Vec<f64>),
    /// Another law with its probability of 0 replaced.
    ZeroModified {
        /// Probability of 0.
        p0: f64,
        /// The other law.
        of: Box<CountArgs>,
    },
}

/// Largest mean of a count.
const MAX_MEAN: f64 = 10_000.0;
/// Most weights of a discrete law.
const MAX_WEIGHTS: usize = 1024;
/// Largest weight of a discrete law.
const MAX_WEIGHT: f64 = 1e9;

const fn parameter(name: &'static str, range: ParameterRange, description: &'static str) -> Parameter {
    Parameter { name, description, range }
}

const MEAN: Parameter = parameter("mean", Number(0.0, MAX_MEAN), "Mean.");
const PROBABILITY: Parameter = parameter("probability", Number(0.0, 1.0), "Probability.");

/// The families of counts, without those that are not determined by a few numbers.
pub static FAMILIES: [Family<CountLaw>; 6] = [
    Family {
        name: "poisson",
        description: "Poisson.",
        forms: &[Form { parameters: &[MEAN], law: |p| Ok(CountLaw::Poisson(p[0])) }],
    },
    Family {
        name: "bernoulli",
        description: "Bernoulli: one occurrence with a probability, else none.",
        forms: &[Form { parameters: &[PROBABILITY], law: |p| Ok(CountLaw::Bernoulli(p[0])) }],
    },
    Family {
        name: "constant",
        description: "Constant: always this number.",
        forms: &[Form {
            parameters: &[parameter("count", Whole(MAX_COUNT), "Number of occurrences.")],
            law: |p| Ok(CountLaw::Constant(p[0] as u32)),
        }],
    },
    Family {
        name: "negative_binomial",
        description: "Negative binomial: Poisson with a gamma distributed mean.",
        forms: &[
            Form {
                parameters: &[
                    MEAN,
                    parameter(
                        "contagion",
                        Number(0.0, 1000.0),
                        "Contagion c: the variance is mean * (1 + c * mean).",
                    ),
                ],
                law: |p| Ok(CountLaw::NegativeBinomial { mean: p[0], contagion: p[1] }),
            },
            Form {
                parameters: &[
                    parameter("r", Number(1e-6, 1e6), "Shape."),
                    parameter(
                        "beta",
                        Number(0.0, 1e6),
                        "Scale: the mean is r * beta, the variance r * beta * (1 + beta).",
                    ),
                ],
                law: |p| negative_binomial_shape(p[0], p[1]),
            },
        ],
    },
    Family {
        name: "binomial",
        description: "Binomial: number of successes in independent trials.",
        forms: &[Form {
            parameters: &[parameter("trials", Whole(MAX_COUNT), "Number of trials."), PROBABILITY],
            law: |p| Ok(CountLaw::Binomial { trials: p[0] as u32, probability: p[1] }),
        }],
    },
    Family {
        name: "geometric",
        description: "Geometric on 0, 1, 2, and so on.",
        forms: &[Form { parameters: &[MEAN], law: |p| Ok(CountLaw::Geometric(p[0])) }],
    },
];

fn negative_binomial_shape(r: f64, beta: f64) -> Result<CountLaw, ParameterError> {
    if r * beta > MAX_MEAN {
        let message =
            format!("must be at most {MAX_MEAN} / r; it is {beta}, which makes the mean {}", r * beta);
        return Err(ParameterError { parameter: "beta", message });
    }
    Ok(CountLaw::NegativeBinomialShape { r, beta })
}

/// Taken where an error was recorded.
const PLACEHOLDER: CountLaw = CountLaw::Constant(1);

/// All families, or those that may be zero-modified.
fn families(with_modified: bool) -> Families {
    let names = FAMILIES.iter().map(|family| family.name).chain(["discrete"]);
    let names = names.chain(with_modified.then_some("zero_modified")).collect();
    Families { kind: "a count", names, others: &other_names::COUNTS }
}

impl CountArgs {
    /// Reads the count in the field `name`, which is required.
    pub fn read(object: &mut ObjectReader<'_, '_>, name: &'static str) -> Self {
        Self::read_of(object, name, &families(true))
    }

    fn read_of(object: &mut ObjectReader<'_, '_>, name: &'static str, families: &Families) -> Self {
        let placeholder = || Self::Family(FamilyArgs::placeholder(PLACEHOLDER));
        if let Some(Node::Number(count)) = object.node(name) {
            let message = format!("must be an object, not a number: {{\"poisson\": {count}}} has this mean");
            object.error(name, message);
            return placeholder();
        }
        let Some(mut object) = object.required_object(name) else { return placeholder() };
        let chosen = families.choose(&mut object);
        let count = match chosen {
            Some("discrete") => read_discrete(&mut object),
            Some("zero_modified") => read_zero_modified(&mut object),
            Some(chosen) => FAMILIES
                .iter()
                .find(|family| family.name == chosen)
                .map(|family| Self::Family(family.read(&mut object, 0.0, PLACEHOLDER))),
            None => None,
        };
        families.finish(object);
        count.unwrap_or_else(placeholder)
    }

    /// The law.
    pub fn counts(&self) -> PortfolioCounts {
        match self {
            Self::Family(family) => PortfolioCounts { law: family.law.clone(), zero_probability: None },
            Self::Discrete(weights) => {
                PortfolioCounts { law: CountLaw::Discrete(weights.clone()), zero_probability: None }
            }
            Self::ZeroModified { p0, of } => {
                PortfolioCounts { law: of.counts().law, zero_probability: Some(*p0) }
            }
        }
    }
}

fn read_discrete(object: &mut ObjectReader<'_, '_>) -> Option<CountArgs> {
    let mut object = object.required_object("discrete")?;
    let weights = object.optional_numbers("probabilities", 1..=MAX_WEIGHTS, 0.0..=MAX_WEIGHT);
    if object.node("probabilities").is_none() {
        object.missing("probabilities", "a list of the probabilities of 0, 1, 2, … occurrences");
    }
    let is_valid = !object.has_error_within("/probabilities");
    if is_valid && weights.iter().flatten().all(|&weight| weight == 0.0) {
        object.error("probabilities", "must have a positive element");
    }
    object.finish();
    weights.filter(|_| is_valid).map(CountArgs::Discrete)
}

fn read_zero_modified(object: &mut ObjectReader<'_, '_>) -> Option<CountArgs> {
    let mut object = object.required_object("zero_modified")?;
    let p0 = object.required_number("p0", 0.0..=1.0);
    let of = CountArgs::read_of(&mut object, "of", &families(false));
    if !object.has_error_within("/of") && mean(&of.counts()) == 0.0 {
        object.error("of", "must have other counts than 0, to which the rest of the probability goes");
    }
    object.finish();
    Some(CountArgs::ZeroModified { p0, of: Box::new(of) })
}

/// Mean number of occurrences.
///
/// That of a zero-modified law is m · (1 − p0) / (1 − q), where m is the mean of the other law and
/// q its probability of 0.
pub fn mean(counts: &PortfolioCounts) -> f64 {
    let mean = match &counts.law {
        CountLaw::Constant(count) => f64::from(*count),
        CountLaw::Bernoulli(mean) | CountLaw::Poisson(mean) | CountLaw::Geometric(mean) => *mean,
        CountLaw::NegativeBinomial { mean, .. } => *mean,
        CountLaw::NegativeBinomialShape { r, beta } => r * beta,
        CountLaw::Binomial { trials, probability } => f64::from(*trials) * probability,
        CountLaw::Discrete(weights) => {
            let total: f64 = weights.iter().sum();
            weights.iter().enumerate().map(|(count, weight)| count as f64 * weight).sum::<f64>() / total
        }
    };
    match counts.zero_probability {
        Some(p0) if mean > 0.0 => mean * (1.0 - p0) / positive_probability(&counts.law),
        _ => mean,
    }
}

/// The probability that a law gives another count than 0.
pub fn positive_probability(law: &CountLaw) -> f64 {
    let dd = DoubleDouble::from;
    // 1 − e^x
    let complement = |x: DoubleDouble| (-x.exp_m1()).to_f64();
    // The exponential needs no more than this.
    let cut = |x: DoubleDouble| if x.to_f64() < -500.0 { dd(-500.0) } else { x };
    match law {
        CountLaw::Constant(count) => f64::from(u8::from(*count > 0)),
        CountLaw::Bernoulli(probability) => *probability,
        CountLaw::Poisson(mean) => complement(cut(-dd(*mean))),
        CountLaw::Geometric(mean) => mean / (1.0 + mean),
        CountLaw::NegativeBinomial { mean, contagion: 0.0 } => complement(cut(-dd(*mean))),
        CountLaw::NegativeBinomial { mean, contagion } => {
            complement(cut(-(ln_1p(mean * contagion) / dd(*contagion))))
        }
        CountLaw::NegativeBinomialShape { r, beta } => complement(cut(-(ln_1p(*beta) * dd(*r)))),
        CountLaw::Binomial { trials: 0, .. } => 0.0,
        CountLaw::Binomial { probability: 1.0, .. } => 1.0,
        CountLaw::Binomial { trials, probability } => {
            let rest = -dd(*probability);
            let ln = if *probability < 0.3 { rest.ln_1p() } else { (DoubleDouble::ONE + rest).ln() };
            complement(cut(ln * dd(f64::from(*trials))))
        }
        CountLaw::Discrete(weights) => {
            let total: f64 = weights.iter().sum();
            weights.iter().skip(1).sum::<f64>() / total
        }
    }
}

impl Serialize for CountArgs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Family(family) => family.serialize(serializer),
            Self::Discrete(weights) => {
                let weights: Vec<Value> = weights.iter().map(|&weight| number_to_value(weight)).collect();
                json!({"discrete": {"probabilities": weights}}).serialize(serializer)
            }
            Self::ZeroModified { p0, of } => {
                json!({"zero_modified": {"p0": number_to_value(*p0), "of": of}}).serialize(serializer)
            }
        }
    }
}

impl JsonSchema for CountArgs {
    fn schema_name() -> Cow<'static, str> {
        "CountArgs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let discrete = single_key_schema(
            "discrete",
            "Probabilities of 0, 1, 2, and so on, in proportion to these weights.",
            json!({
                "type": "object",
                "properties": {
                    "probabilities": {
                        "type": "array", "minItems": 1, "maxItems": MAX_WEIGHTS,
                        "items": {"type": "number", "minimum": 0, "maximum": MAX_WEIGHT},
                        "description": "The weights; at least one is positive."
                    }
                },
                "required": ["probabilities"],
                "additionalProperties": false
            }),
        );
        let simple: Vec<Value> = FAMILIES.iter().map(|family| family.schema(0.0)).chain([discrete]).collect();
        let modified = single_key_schema(
            "zero_modified",
            "Zero-modified: another distribution with its probability of 0 replaced; other counts keep their proportions.",
            json!({
                "type": "object",
                "properties": {
                    "p0": {"type": "number", "minimum": 0, "maximum": 1, "description": "Probability of 0."},
                    "of": {"oneOf": simple, "description": "The other distribution."}
                },
                "required": ["p0", "of"],
                "additionalProperties": false
            }),
        );
        one_of_schema(
            "The distribution of the number of occurrences in a year: one family with its parameters.",
            simple.into_iter().chain([modified]),
        )
    }
}
