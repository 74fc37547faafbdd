//! The args of the profile, as written but for defaults, and their JSON Schema. Reading and
//! validation are elsewhere: values of these types that were not read may be invalid.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    counts::CountArgs,
    event_tables::EventGroupArgs,
    portfolio::CapitalMeasure,
    severities::{IndexArgs, SeverityArgs},
    treaty_args::TreatyArgs,
};
use crate::{
    convergence::Convergence, summary::DEFAULT_RETURN_PERIODS, workload::reported_tails::DEFAULT_LEVELS,
};

pub use forge_contract::program::{MAX_COMPONENTS, MAX_GROUPS, MAX_INDICES, MAX_LINES, MAX_TREATIES};

/// Args of `mc` version 1, profile `risk.compound.v1`: one iteration is one year of a portfolio.
/// Amounts are in one currency. Fractions have at most six decimals. Names have 1 to 64 characters,
/// and no two lines, groups, indices or treaties share one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RiskArgs {
    /// Years to simulate.
    #[schemars(range(min = 1, max = 281_474_976_710_656_u64))]
    pub iterations: u64,
    /// Decimals of the minor unit, in which all amounts are counted. Default 2.
    #[schemars(with = "Option<u32>", range(min = 0, max = 4), default = "default_decimals")]
    pub decimals: u32,
    /// Names of the lines of business.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 64)), extend("uniqueItems" = true))]
    pub lines: Vec<String>,
    /// The sources of losses.
    #[schemars(length(min = 1, max = 32))]
    pub groups: Vec<GroupArgs>,
    /// Factors that are drawn once a year, such as inflation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<Vec<IndexArgs>>", length(max = 8))]
    pub indices: Vec<IndexArgs>,
    /// The reinsurance treaties.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<Vec<TreatyArgs>>", length(max = 32))]
    pub treaties: Vec<TreatyArgs>,
    /// What capital figures are computed from. Default: no capital figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capital: Option<CapitalArgs>,
    /// What is reported.
    #[schemars(with = "Option<ReportArgs>", default)]
    pub report: ReportArgs,
    /// Ends the run before `iterations` once a figure is precise enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convergence: Option<Convergence>,
}

/// The default of [`RiskArgs::decimals`].
pub(super) fn default_decimals() -> u32 {
    2
}

/// A source of losses: totals of the year, or a number of occurrences, each of which is a claim of
/// one component, strikes all components at once, or is an event of a table.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum GroupArgs {
    /// Totals of the year.
    Annual(AnnualGroupArgs),
    /// Occurrences that are a claim of one component each.
    Claims(ClaimGroupArgs),
    /// Occurrences that strike all components.
    Strikes(StrikeGroupArgs),
    /// Occurrences that are events of a table.
    Events(EventGroupArgs),
}

/// A group of totals of the year. Treaties by occurrence do not apply to them, but quota shares
/// without an event limit do.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AnnualGroupArgs {
    /// Name.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// The totals.
    #[schemars(length(min = 1, max = 64))]
    pub annual: Vec<AnnualArgs>,
}

/// A group whose occurrences are a claim of one component each.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ClaimGroupArgs {
    /// Name.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// Number of claims in a year.
    pub count: CountArgs,
    /// The components. A claim belongs to one of them, with a probability in proportion to their
    /// weights.
    #[schemars(length(min = 1, max = 64))]
    pub claims: Vec<ClaimArgs>,
}

/// A group whose occurrences strike all components.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StrikeGroupArgs {
    /// Name.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// Number of occurrences in a year.
    pub count: CountArgs,
    /// The components, each of which has an amount of every occurrence.
    #[schemars(length(min = 1, max = 64))]
    pub strikes: Vec<StrikeArgs>,
}

/// A line's total of the year.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AnnualArgs {
    /// Name of the line.
    pub line: String,
    /// Distribution of the total.
    pub amount: SeverityArgs,
    /// Name of the index that multiplies the total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
}

/// A component of a group of claims.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ClaimArgs {
    /// Name of the line.
    pub line: String,
    /// Weight, relative to those of the group's other components. Default 1.
    #[schemars(with = "Option<f64>", range(min = 1e-9, max = 1e9), default = "default_one")]
    pub weight: f64,
    /// Distribution of a claim.
    pub severity: SeverityArgs,
    /// Policy terms.
    #[serde(flatten)]
    pub terms: PolicyTermsArgs,
}

/// A component of a group of strikes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StrikeArgs {
    /// Name of the line.
    pub line: String,
    /// Distribution of the component's amount of an occurrence.
    pub severity: SeverityArgs,
    /// `same`: the component takes the draw of the component before it, so that both are equally
    /// severe. Not for the first component. Default: a draw of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<RankArgs>,
    /// Policy terms.
    #[serde(flatten)]
    pub terms: PolicyTermsArgs,
}

/// How a component's severity relates to that of the component before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RankArgs {
    /// Both are at the same quantile.
    Same,
}

/// Policy terms of a component: the index multiplies the amount, then the deductible is taken off,
/// then the limit applies, then the share.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PolicyTermsArgs {
    /// Amount that the insured bears of every claim. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub deductible: Option<f64>,
    /// Claims below this amount are not paid, the others in full. Not together with `deductible`.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub franchise: Option<f64>,
    /// Largest amount of a claim, after the deductible. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub limit: Option<f64>,
    /// Fraction of the amount after deductible and limit, above 0. Default 1.
    #[schemars(with = "Option<f64>", range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    #[schemars(default = "default_one")]
    pub share: f64,
    /// Name of the index that multiplies the amount. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
}

fn default_one() -> f64 {
    1.0
}

/// What capital figures are computed from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CapitalArgs {
    /// Own funds.
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub own_funds: f64,
    /// Measure of the capital requirement. Default `var`.
    #[schemars(with = "Option<CapitalMeasure>", default = "default_measure")]
    pub measure: CapitalMeasure,
    /// Level of the measure. Default 0.995.
    #[schemars(with = "Option<f64>", default = "default_level")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub level: f64,
}

/// The default of [`CapitalArgs::measure`].
pub(super) fn default_measure() -> CapitalMeasure {
    CapitalMeasure::Var
}

/// The default of [`CapitalArgs::level`].
pub(super) fn default_level() -> f64 {
    0.995
}

/// What is reported.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ReportArgs {
    /// Whether the tail of the net total is allocated to lines and treaties. Default false.
    #[schemars(with = "Option<bool>", default)]
    pub allocation: bool,
    /// Return periods of exceedance, in years. Default 2, 5, 10, 25, 50, 100, 200, 250, 500, 1000.
    #[schemars(with = "Option<Vec<u64>>", length(min = 1, max = 64))]
    #[schemars(inner(range(min = 2, max = 1_000_000)))]
    pub return_periods: Vec<u64>,
    /// Levels of value at risk and tail value at risk. Default 0.5, 0.9, 0.95, 0.99, 0.995, 0.999.
    #[schemars(with = "Option<Vec<f64>>", length(min = 1, max = 64))]
    #[schemars(inner(range(min = 0.000_001, max = 0.999_999)))]
    pub levels: Vec<f64>,
}

impl Default for ReportArgs {
    fn default() -> Self {
        Self {
            allocation: false,
            return_periods: DEFAULT_RETURN_PERIODS.into(),
            levels: DEFAULT_LEVELS.into(),
        }
    }
}

impl RiskArgs {
    /// Minor units in a unit of the args.
    pub fn units(&self) -> u32 {
        10_u32.pow(self.decimals)
    }
}
