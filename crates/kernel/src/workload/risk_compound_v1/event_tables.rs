//! Event loss tables: for each event of a catastrophe model, its rate and its loss on every line.

use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::Value;

use super::{
    families::MAX_MINOR_UNITS,
    portfolio::{ComponentSeverity, PortfolioCounts},
};
use crate::{counts::CountLaw, dyadic::nearest_sum};

pub use forge_contract::program::MAX_LINES;

/// Most events of a table: a draw of an event is made as one of a count.
pub const MAX_EVENTS: usize = 32_768;
/// Largest rate of an event, and largest sum of rates.
pub(super) const MAX_RATE: f64 = 10_000.0;
/// Smallest rate above 0.
pub(super) const MIN_RATE: f64 = 1e-12;

/// A group whose occurrences are events of a table.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EventGroupArgs {
    /// Name.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// The event loss table.
    pub events: EventTableArgs,
}

/// An event loss table. The number of occurrences in a year has the sum of the rates as its mean;
/// each occurrence is one of the events, with a probability in proportion to its rate.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EventTableArgs {
    /// For each event, the expected number of its occurrences in a year: 0, or at least 1e-12. They
    /// add up to at most 10,000; one is positive.
    #[schemars(length(min = 1, max = 32_768), inner(range(min = 0.0, max = 10_000.0)))]
    pub rates: Vec<f64>,
    /// The lines that events strike, each once.
    #[schemars(length(min = 1, max = 16))]
    pub losses: Vec<EventLossArgs>,
    /// Distribution of the number of occurrences in a year. Default `poisson`.
    #[schemars(with = "Option<FrequencyArgs>", default = "default_frequency")]
    pub frequency: FrequencyArgs,
}

/// What events cost a line.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EventLossArgs {
    /// Name of the line.
    pub line: String,
    /// For each event, in the order of the rates, its loss.
    #[schemars(length(min = 1, max = 32_768), inner(range(min = 0.0, max = 1e15)))]
    pub amounts: Vec<f64>,
}

/// Distribution of the number of occurrences of all events.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = describe_law)]
pub enum FrequencyArgs {
    /// Poisson: events are independent of each other.
    Poisson,
    /// Negative binomial: events come in clusters.
    NegativeBinomial(ContagionArgs),
}

/// How events of a year depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ContagionArgs {
    /// Contagion c: with the mean m, the variance is m * (1 + c * m).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub contagion: f64,
}

/// Gives the key of the negative binomial law a meaning in the schema.
fn describe_law(schema: &mut Schema) {
    if let Some(Value::Object(law)) = schema.pointer_mut("/oneOf/1/properties/negative_binomial") {
        law.insert("description".to_owned(), "Its parameter; the mean is the sum of the rates.".into());
    }
}

/// The default of [`EventTableArgs::frequency`].
pub(super) fn default_frequency() -> FrequencyArgs {
    FrequencyArgs::Poisson
}

impl EventTableArgs {
    /// The law of the number of occurrences in a year.
    pub(super) fn counts(&self) -> PortfolioCounts {
        let mean = nearest_sum(&self.rates);
        let law = match self.frequency {
            FrequencyArgs::Poisson => CountLaw::Poisson(mean),
            FrequencyArgs::NegativeBinomial(law) => {
                CountLaw::NegativeBinomial { mean, contagion: law.contagion }
            }
        };
        PortfolioCounts { law, zero_probability: None }
    }

    /// For each line of `losses`, the losses of the events in the order of their totals, with their
    /// rates as weights. Losses are in minor units, as `to_minor_units` converts them. In this
    /// order a higher draw is a larger event, so that a change of one event moves few years.
    pub(super) fn severities(&self, to_minor_units: impl Fn(f64) -> u64) -> Vec<ComponentSeverity> {
        let convert =
            |loss: &EventLossArgs| loss.amounts.iter().map(|&amount| to_minor_units(amount)).collect();
        let losses: Vec<Vec<u64>> = self.losses.iter().map(convert).collect();
        let total = |event: usize| losses.iter().map(|amounts| amounts[event]).sum::<u64>();
        let mut order: Vec<usize> = (0..self.rates.len()).collect();
        order.sort_by_key(|&event| total(event));
        let weights: Vec<f64> = order.iter().map(|&event| self.rates[event]).collect();
        let sorted = |amounts: &Vec<u64>| ComponentSeverity::Discrete {
            amounts: order.iter().map(|&event| amounts[event]).collect(),
            weights: weights.clone(),
        };
        losses.iter().map(sorted).collect()
    }
}

const _: () = assert!(MAX_MINOR_UNITS == 1e15, "the schema states the largest loss");
