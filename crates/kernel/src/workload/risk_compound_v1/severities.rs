//! The severities of args: families of amounts, with their JSON Schema.

use std::borrow::Cow;

use forge_contract::strict::{Node, ObjectReader, number_to_value};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    conversions::{
        MIN_SHAPE, beta_of_mean, gamma_of_mean, gpd_of_mean, inverse_gaussian, inverse_gaussian_of_cv,
        lognormal_of_mean, lomax_of_mean, uniform_of_mean, weibull_of_mean,
    },
    families::{
        Families, Family, FamilyArgs, Form, MAX_MINOR_UNITS, Parameter, ParameterError,
        ParameterRange::{self, Amount, AmountOrZero, Number},
        one_of_schema, single_key_schema,
    },
    listed_severities::{self, ListedSeverityArgs},
    other_names,
};
use crate::severities::SeverityLaw;

/// The law of an amount, as written.
#[derive(Debug, Clone, PartialEq)]
pub enum SeverityArgs {
    /// Always this amount.
    Constant(f64),
    /// A law of a family.
    Family(FamilyArgs<SeverityLaw>),
    /// A law that is given by lists.
    Listed(ListedSeverityArgs),
}

/// A factor that is drawn once a year, as written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IndexArgs {
    /// Name.
    pub name: String,
    /// Law of the factor.
    #[serde(flatten)]
    pub law: SeverityArgs,
}

/// Largest amount among the parameters of an index.
pub const MAX_INDEX: f64 = 1000.0;

const fn parameter(name: &'static str, range: ParameterRange, description: &'static str) -> Parameter {
    Parameter { name, description, range }
}

const MEAN: Parameter = parameter("mean", Amount, "Mean.");
const SCALE: Parameter = parameter("scale", Amount, "Scale.");
const THRESHOLD: Parameter = parameter("threshold", AmountOrZero, "Smallest amount.");
const ALPHA: Parameter = parameter("alpha", Number(0.1, 1000.0), "Tail index.");

const fn cv(from: f64, to: f64) -> Parameter {
    parameter("cv", Number(from, to), "Coefficient of variation: the standard deviation over the mean.")
}

/// The families of severities.
pub static FAMILIES: [Family<SeverityLaw>; 12] = [
    Family {
        name: "lognormal",
        description: "Lognormal.",
        forms: &[
            Form { parameters: &[MEAN, cv(1e-9, 1e13)], law: |p| lognormal_of_mean(p[0], p[1]) },
            Form {
                parameters: &[
                    parameter("mu", Number(-50.0, 50.0), "Mean of the logarithm."),
                    parameter("sigma", Number(1e-9, 8.0), "Standard deviation of the logarithm."),
                ],
                law: |p| Ok(SeverityLaw::Lognormal { mu: p[0], sigma: p[1] }),
            },
        ],
    },
    Family {
        name: "exponential",
        description: "Exponential.",
        forms: &[Form { parameters: &[MEAN], law: |p| Ok(SeverityLaw::Exponential { mean: p[0] }) }],
    },
    Family {
        name: "gamma",
        description: "Gamma.",
        forms: &[
            Form { parameters: &[MEAN, cv(0.001, 4.47)], law: |p| Ok(gamma_of_mean(p[0], p[1])) },
            Form {
                parameters: &[parameter("shape", Number(MIN_SHAPE, 1e6), "Shape."), SCALE],
                law: |p| Ok(SeverityLaw::Gamma { shape: p[0], scale: p[1] }),
            },
        ],
    },
    Family {
        name: "weibull",
        description: "Weibull: 1 - exp(-(x / scale)^shape).",
        forms: &[
            Form { parameters: &[MEAN, cv(0.013, 429.0)], law: |p| weibull_of_mean(p[0], p[1]) },
            Form {
                parameters: &[parameter("shape", Number(0.1, 1000.0), "Shape."), SCALE],
                law: |p| Ok(SeverityLaw::Weibull { shape: p[0], scale: p[1] }),
            },
        ],
    },
    Family {
        name: "pareto",
        description: "Single-parameter Pareto: 1 - (threshold / x)^alpha above the threshold.",
        forms: &[Form {
            parameters: &[parameter("threshold", Amount, "Smallest amount."), ALPHA],
            law: |p| Ok(SeverityLaw::Pareto { threshold: p[0], alpha: p[1] }),
        }],
    },
    Family {
        name: "lomax",
        description: "Lomax (Pareto, type II): 1 - (1 + x / scale)^-alpha.",
        forms: &[
            // Above 1 by so much that alpha is at most 1000.
            Form { parameters: &[MEAN, cv(1.0011, 1e6)], law: |p| Ok(lomax_of_mean(p[0], p[1])) },
            Form {
                parameters: &[ALPHA, SCALE],
                law: |p| Ok(SeverityLaw::Lomax { alpha: p[0], scale: p[1] }),
            },
        ],
    },
    Family {
        name: "gpd",
        description: "Generalised Pareto: 1 - (1 + xi * (x - threshold) / scale)^(-1/xi) above the threshold.",
        forms: &[
            Form {
                parameters: &[
                    parameter("mean", Amount, "Mean of the amount, not of its excess: above the threshold."),
                    parameter(
                        "cv",
                        Number(1e-6, 1e6),
                        "Coefficient of variation of the amount: the standard deviation over the mean. The standard \
                         deviation is at least 0.3016 times the mean less the threshold.",
                    ),
                    THRESHOLD,
                ],
                law: |p| gpd_of_mean(p[0], p[1], p[2]),
            },
            Form {
                parameters: &[
                    THRESHOLD,
                    SCALE,
                    parameter("xi", Number(-5.0, 10.0), "Shape; no variance from 0.5, no mean from 1."),
                ],
                law: |p| Ok(SeverityLaw::Gpd { threshold: p[0], scale: p[1], xi: p[2] }),
            },
        ],
    },
    Family {
        name: "burr",
        description: "Burr (type XII): 1 - (1 + (x / scale)^gamma)^-alpha.",
        forms: &[Form {
            parameters: &[ALPHA, SCALE, parameter("gamma", Number(0.1, 1000.0), "Shape.")],
            law: |p| burr(p[0], p[1], p[2]),
        }],
    },
    Family {
        name: "beta",
        description: "Beta, on amounts from 0 to a scale.",
        forms: &[
            Form {
                parameters: &[MEAN, cv(1e-6, 1e6), parameter("scale", Amount, "Largest amount.")],
                law: |p| beta_of_mean(p[0], p[1], p[2]),
            },
            Form {
                parameters: &[
                    parameter("a", Number(MIN_SHAPE, 1e5), "Shape at 0."),
                    parameter("b", Number(MIN_SHAPE, 1e5), "Shape at the scale."),
                    parameter("scale", Amount, "Largest amount."),
                ],
                law: |p| Ok(SeverityLaw::Beta { a: p[0], b: p[1], scale: p[2] }),
            },
        ],
    },
    Family {
        name: "inverse_gaussian",
        description: "Inverse Gaussian.",
        forms: &[
            Form { parameters: &[MEAN, cv(0.001, 31.0)], law: |p| Ok(inverse_gaussian_of_cv(p[0], p[1])) },
            Form {
                parameters: &[
                    MEAN,
                    parameter("lambda", Amount, "Shape, an amount: mean³ over the variance."),
                ],
                law: |p| inverse_gaussian(p[0], p[1]),
            },
        ],
    },
    Family {
        name: "uniform",
        description: "Uniform between two amounts.",
        forms: &[
            // Below 1/√3, so that the smallest amount is above 0.
            Form { parameters: &[MEAN, cv(1e-9, 0.577_35)], law: |p| Ok(uniform_of_mean(p[0], p[1])) },
            Form {
                parameters: &[
                    parameter("low", AmountOrZero, "Smallest amount."),
                    parameter("high", Amount, "Largest amount."),
                ],
                law: |p| uniform(p[0], p[1]),
            },
        ],
    },
    Family {
        name: "normal",
        description: "Normal; negative amounts become 0.",
        forms: &[
            Form {
                parameters: &[MEAN, cv(1e-9, 1e6)],
                law: |p| Ok(SeverityLaw::Normal { mean: p[0], std_dev: p[0] * p[1] }),
            },
            Form {
                parameters: &[
                    parameter("mean", AmountOrZero, "Mean."),
                    parameter("std_dev", Amount, "Standard deviation."),
                ],
                law: |p| Ok(SeverityLaw::Normal { mean: p[0], std_dev: p[1] }),
            },
        ],
    },
];

fn burr(alpha: f64, scale: f64, gamma: f64) -> Result<SeverityLaw, ParameterError> {
    if alpha * gamma < 0.1 {
        let message = format!("must be at least 0.1 / alpha = {}; it is {gamma}", 0.1 / alpha);
        return Err(ParameterError { parameter: "gamma", message });
    }
    Ok(SeverityLaw::Burr { alpha, scale, gamma })
}

fn uniform(low: f64, high: f64) -> Result<SeverityLaw, ParameterError> {
    if low >= high {
        let message = format!("must be above `low`, {low}; it is {high}");
        return Err(ParameterError { parameter: "high", message });
    }
    Ok(SeverityLaw::Uniform { low, high })
}

/// Taken where an error was recorded.
const PLACEHOLDER: SeverityLaw = SeverityLaw::Exponential { mean: 1.0 };

/// The families of severities, which `kind` names: "a severity", or "an index".
fn families(kind: &'static str) -> Families {
    let names = FAMILIES.iter().map(|family| family.name).chain(["constant"]).chain(listed_severities::NAMES);
    Families { kind, names: names.collect(), others: &other_names::SEVERITIES }
}

fn read_family(object: &mut ObjectReader<'_, '_>, name: &str, largest: f64) -> FamilyArgs<SeverityLaw> {
    match FAMILIES.iter().find(|family| family.name == name) {
        Some(family) => family.read(object, largest, PLACEHOLDER),
        None => FamilyArgs::placeholder(PLACEHOLDER),
    }
}

impl SeverityArgs {
    /// Taken where an error was recorded.
    const PLACEHOLDER: Self = Self::Constant(1.0);

    /// Reads the severity in the field `name`, which is required. Amounts may be up to `largest`.
    pub fn read(object: &mut ObjectReader<'_, '_>, name: &'static str, largest: f64) -> Self {
        if let Some(Node::Number(amount)) = object.node(name) {
            let message =
                format!("must be an object, not a number: {{\"constant\": {amount}}} is always this amount");
            object.error(name, message);
            return Self::PLACEHOLDER;
        }
        match object.required_object(name) {
            Some(object) => Self::read_law(object, "a severity", largest),
            None => Self::PLACEHOLDER,
        }
    }

    /// Reads the law that an object names, and ends its reading.
    fn read_law(mut object: ObjectReader<'_, '_>, kind: &'static str, largest: f64) -> Self {
        let families = families(kind);
        let law = match families.choose(&mut object) {
            Some("constant") => Self::Constant(object.required_number("constant", 0.0..=largest)),
            Some(family) if listed_severities::NAMES.contains(&family) => {
                ListedSeverityArgs::read(&mut object, family, largest).map_or(Self::PLACEHOLDER, Self::Listed)
            }
            Some(family) => Self::Family(read_family(&mut object, family, largest)),
            None => Self::PLACEHOLDER,
        };
        families.finish(object);
        law
    }
}

impl IndexArgs {
    /// Reads an index: its name and the law of the factor.
    pub fn read(
        mut object: ObjectReader<'_, '_>,
        read_name: impl FnOnce(&mut ObjectReader<'_, '_>) -> String,
    ) -> Self {
        let name = read_name(&mut object);
        Self { name, law: SeverityArgs::read_law(object, "an index", MAX_INDEX) }
    }
}

impl Serialize for SeverityArgs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Constant(amount) => json!({"constant": number_to_value(*amount)}).serialize(serializer),
            Self::Family(family) => family.serialize(serializer),
            Self::Listed(listed) => listed.serialize(serializer),
        }
    }
}

impl JsonSchema for SeverityArgs {
    fn schema_name() -> Cow<'static, str> {
        "SeverityArgs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        one_of_schema(
            "The distribution of an amount: one family with its parameters.",
            schemas(MAX_MINOR_UNITS),
        )
    }
}

/// JSON Schemas of all families, with amounts up to `largest`.
fn schemas(largest: f64) -> impl Iterator<Item = Value> {
    let amount = json!({"type": "number", "minimum": 0, "maximum": number_to_value(largest)});
    let constant = single_key_schema("constant", "Always this amount.", amount);
    let families = FAMILIES.iter().map(move |family| family.schema(largest));
    families.chain([constant]).chain(listed_severities::schemas(largest))
}

impl JsonSchema for IndexArgs {
    fn schema_name() -> Cow<'static, str> {
        "IndexArgs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let families = schemas(MAX_INDEX).map(|mut schema| {
            schema["properties"]["name"] =
                json!({"type": "string", "minLength": 1, "maxLength": 64, "description": "Name."});
            let family = schema["required"][0].take();
            schema["required"] = json!(["name", family]);
            schema
        });
        one_of_schema(
            "A factor that is drawn once a year and multiplies the amounts of the components that name it.",
            families,
        )
    }
}
