//! Profile `eta.v1`: one iteration is one trip. Its travel time is a base time plus a traffic delay
//! and, each with some probability, a weather delay and an incident delay. Delays are normally
//! distributed, and negative ones count as 0.

use forge_contract::{
    error::InvalidDocument,
    plain_program::plain_program,
    program::{CountTable, MAX_AMOUNT, Program, Segment},
    shard_result::ShardResult,
    strict::{ObjectReader, number_to_value},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Budget, Profile, Vocabulary, WorkloadModel, table_error, to_minor_units};
use crate::{
    convergence::Convergence,
    counts::CountLaw,
    severities::SeverityLaw,
    summary::{Histogram, QuantileFigures, Summary},
};

/// The profile `eta.v1`.
pub const PROFILE: Profile = Profile {
    op: "mc",
    version: 1,
    name: "eta.v1",
    vocabulary: Vocabulary {
        iterations: "trips",
        occurrences: "delays",
        quantity: "travel time",
        unit: "s",
        return_periods: false,
    },
    formula: &[
        "Travel time = base_eta + T + B · W + D · I.",
        "The delays T (traffic), W (weather) and I (incident) are normal with the means and standard deviations of \
         the args, and 0 where the normal value is below 0. B is 1 with probability weather_prob and D with \
         probability incident_prob, and otherwise 0. All of them are independent.",
    ],
    read_args,
    args_schema: |generator| generator.subschema_for::<EtaArgs>(),
    output_schema: |generator| generator.subschema_for::<EtaOutput>(),
    example_args: || {
        json!({
            "iterations": 1_000_000, "base_eta": 1800, "traffic_mean": 300, "traffic_std": 120,
            "weather_prob": 0.1, "weather_mean": 240, "weather_std": 90,
            "incident_prob": 0.02, "incident_mean": 900, "incident_std": 400
        })
    },
    examples: &[],
};

/// Minor units in a second: amounts are in milliseconds.
const UNITS: u32 = 1000;
const SEGMENT_BITS: u32 = 6;
/// Largest time of an arg.
const MAX_SECONDS: f64 = 1e9;
/// Smallest standard deviation, in seconds: a smaller one could not be distinguished from 0.
const MIN_STD_SECONDS: f64 = 1e-9;

/// Args of `mc` version 1, profile `eta.v1`: one iteration is one trip. Times are in seconds, with
/// three decimals.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "EtaArgs")]
pub struct EtaArgs {
    /// Trips to simulate.
    #[schemars(range(min = 1, max = 281_474_976_710_656_u64))]
    pub iterations: u64,
    /// Travel time without delays, s.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub base_eta: f64,
    /// Mean of the traffic delay's normal distribution, s. A negative delay counts as 0.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub traffic_mean: f64,
    /// Standard deviation of the traffic delay's normal distribution, s.
    #[schemars(range(min = 1e-9, max = 1e9))]
    pub traffic_std: f64,
    /// Probability of a weather delay. Given together with `weather_mean` and `weather_std`, or not
    /// at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weather_prob: Option<f64>,
    /// Mean of the weather delay's normal distribution, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    pub weather_mean: Option<f64>,
    /// Standard deviation of the weather delay's normal distribution, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1e-9, max = 1e9))]
    pub weather_std: Option<f64>,
    /// Probability of an incident delay. Given together with `incident_mean` and `incident_std`, or
    /// not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub incident_prob: Option<f64>,
    /// Mean of the incident delay's normal distribution, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    pub incident_mean: Option<f64>,
    /// Standard deviation of the incident delay's normal distribution, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1e-9, max = 1e9))]
    pub incident_std: Option<f64>,
    /// Ends the run before `iterations` once a figure is precise enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convergence: Option<Convergence>,
}

/// The model of valid args.
#[derive(Debug)]
struct EtaModel {
    base: f64,
    /// Mean and standard deviation.
    traffic: (f64, f64),
    optional_delays: Vec<OptionalDelay>,
    budget: Budget,
}

/// A delay that occurs with some probability.
#[derive(Debug)]
struct OptionalDelay {
    name: &'static str,
    /// Names of the args of probability, mean and standard deviation.
    keys: [&'static str; 3],
    probability: f64,
    mean: f64,
    std: f64,
}

const WEATHER: [&str; 3] = ["weather_prob", "weather_mean", "weather_std"];
const INCIDENT: [&str; 3] = ["incident_prob", "incident_mean", "incident_std"];

fn read_args(mut object: ObjectReader<'_, '_>) -> Box<dyn WorkloadModel> {
    let budget = Budget::read(&mut object);
    let std = MIN_STD_SECONDS..=MAX_SECONDS;
    let model = EtaModel {
        base: object.required_number("base_eta", 0.0..=MAX_SECONDS),
        traffic: (
            object.required_number("traffic_mean", 0.0..=MAX_SECONDS),
            object.required_number("traffic_std", std),
        ),
        optional_delays: [("weather", WEATHER), ("incident", INCIDENT)]
            .into_iter()
            .filter_map(|(name, keys)| read_optional_delay(&mut object, name, keys))
            .collect(),
        budget,
    };
    model.budget.check_draws(model.expected_draws(), &mut object);
    object.finish();
    Box::new(model)
}

fn read_optional_delay(
    object: &mut ObjectReader<'_, '_>,
    name: &'static str,
    keys: [&'static str; 3],
) -> Option<OptionalDelay> {
    let values = [
        object.optional_number(keys[0], 0.0..=1.0),
        object.optional_number(keys[1], 0.0..=MAX_SECONDS),
        object.optional_number(keys[2], MIN_STD_SECONDS..=MAX_SECONDS),
    ];
    if values.iter().any(Option::is_some) {
        for (key, _) in keys.iter().zip(values).filter(|(_, value)| value.is_none()) {
            object.error(key, format!("is missing: give all of {} or none of them", keys.join(", ")));
        }
    }
    let [probability, mean, std] = values;
    Some(OptionalDelay { name, keys, probability: probability?, mean: mean?, std: std? })
}

/// A component whose amounts are normally distributed; `pointer` is the arg to blame if there is no
/// table.
fn normal_component(
    counts: &CountLaw,
    (mean, std): (f64, f64),
    pointer: &str,
) -> Result<(CountTable, Vec<Segment>, u64), InvalidDocument> {
    let amounts = SeverityLaw::Normal { mean, std_dev: std }.table(UNITS, SEGMENT_BITS);
    let counts = counts.table().map_err(table_error(pointer))?;
    Ok((counts, amounts.map_err(table_error(pointer))?, MAX_AMOUNT))
}

impl WorkloadModel for EtaModel {
    fn model_args(&self) -> Map<String, Value> {
        let mut args = Map::new();
        let mut put = |name: &str, value: f64| args.insert(name.to_owned(), number_to_value(value));
        put("base_eta", self.base);
        put("traffic_mean", self.traffic.0);
        put("traffic_std", self.traffic.1);
        for delay in &self.optional_delays {
            put(delay.keys[0], delay.probability);
            put(delay.keys[1], delay.mean);
            put(delay.keys[2], delay.std);
        }
        args
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn component_names(&self) -> Vec<String> {
        let optional = self.optional_delays.iter().map(|delay| delay.name);
        ["traffic"].into_iter().chain(optional).map(str::to_owned).collect()
    }

    fn expected_draws(&self) -> u64 {
        2 * self.component_names().len() as u64
    }

    fn expected_occurrences(&self) -> f64 {
        self.optional_delays.iter().fold(1.0, |sum, delay| sum + delay.probability)
    }

    fn compile(&self) -> Result<Program, InvalidDocument> {
        let mut components =
            vec![normal_component(&CountLaw::Constant(1), self.traffic, "/args/traffic_mean")?];
        for delay in &self.optional_delays {
            let counts = CountLaw::Bernoulli(delay.probability);
            let pointer = format!("/args/{}", delay.keys[1]);
            components.push(normal_component(&counts, (delay.mean, delay.std), &pointer)?);
        }
        let base = to_minor_units(self.base, UNITS);
        Ok(plain_program(UNITS, base, MAX_AMOUNT, SEGMENT_BITS, components))
    }

    fn output(&self, _: &ShardResult, _: &Program, summary: &Summary) -> Value {
        let [p50_eta, p90_eta, p95_eta, p99_eta, p995_eta, p999_eta] = summary.standard_quantiles;
        let output = EtaOutput {
            mean_eta: summary.mean.expect("a normal distribution has a mean"),
            std_dev: summary.std_dev,
            std_error: summary.std_error,
            min_eta: summary.min,
            max_eta: summary.max,
            p50_eta,
            p90_eta,
            p95_eta,
            p99_eta,
            p995_eta,
            p999_eta,
            quantiles: summary.quantiles.clone(),
            eta_distribution: summary.distribution.clone(),
        };
        serde_json::to_value(output).expect("the output is plain data")
    }
}

/// Output of `eta.v1`: the travel time, in seconds.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "EtaOutput")]
struct EtaOutput {
    /// Mean travel time.
    mean_eta: f64,
    /// Sample standard deviation of the travel time; null with a single trip.
    std_dev: Option<f64>,
    /// Standard error of the mean; null with a single trip.
    std_error: Option<f64>,
    /// Shortest travel time.
    min_eta: f64,
    /// Longest travel time.
    max_eta: f64,
    /// 50% quantile of the travel time.
    p50_eta: f64,
    /// 90% quantile of the travel time.
    p90_eta: f64,
    /// 95% quantile of the travel time.
    p95_eta: f64,
    /// 99% quantile of the travel time.
    p99_eta: f64,
    /// 99.5% quantile of the travel time.
    p995_eta: f64,
    /// 99.9% quantile of the travel time.
    p999_eta: f64,
    /// Quantiles of the travel time, with the mean beyond each.
    quantiles: Vec<QuantileFigures>,
    /// Histogram of the travel time.
    eta_distribution: Histogram,
}
