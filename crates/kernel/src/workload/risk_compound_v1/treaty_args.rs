//! The args of treaties, as written but for defaults, and their JSON Schema.

use schemars::JsonSchema;
use serde::Serialize;

/// Last inuring step.
pub const MAX_STEP: u64 = 32;
/// Most reinstatements of a layer.
pub const MAX_REINSTATEMENTS: usize = 15;

/// A reinsurance treaty. Treaties of one step see the same subject: what the steps before have
/// left of the covered lines.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TreatyArgs {
    /// Name.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// Inuring step. Default 1.
    #[schemars(with = "Option<u32>", range(min = 1, max = 32), default = "default_step")]
    pub step: u32,
    /// Names of the covered lines.
    #[schemars(length(min = 1, max = 16), extend("uniqueItems" = true))]
    pub covers: Vec<String>,
    /// Names of the groups whose occurrences are covered. Default: all groups. Not for
    /// `aggregate_xl`, which covers what all groups leave of its lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("uniqueItems" = true))]
    pub groups: Option<Vec<String>>,
    /// What the reinsurer pays back of its profit; needs `premium`, that of the treaty, and so is
    /// not for an `aggregate_xl` by ratios. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profit_commission: Option<ProfitCommissionArgs>,
    /// What the treaty pays.
    #[serde(flatten)]
    pub terms: TreatyTermsArgs,
}

fn whole() -> f64 {
    1.0
}

fn default_step() -> u32 {
    1
}

/// A fraction of the ceded premium, or a sliding scale.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CommissionArgs {
    /// The fraction, in every year.
    Flat(#[schemars(range(min = 0.0, max = 1.0))] f64),
    /// A sliding scale: knots in ascending order of their loss ratios. Between two the commission
    /// is linear, outside it is that of the nearest one.
    Sliding(#[schemars(length(min = 2, max = 16))] Vec<CommissionKnotArgs>),
}

impl Default for CommissionArgs {
    fn default() -> Self {
        Self::Flat(0.0)
    }
}

/// A knot of a sliding scale.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CommissionKnotArgs {
    /// What the treaty pays in a year, as a fraction of the ceded premium.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub loss_ratio: f64,
    /// The commission, as a fraction of the ceded premium.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rate: f64,
}

/// What a reinsurer pays back of its profit of a year: the ceded premium less the margin, the
/// commission and what the treaty pays. Reinstatement premiums are not counted, and a loss is not
/// carried forward.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ProfitCommissionArgs {
    /// Fraction of the profit that is paid back.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub share: f64,
    /// Fraction of the ceded premium that the reinsurer keeps before there is a profit. Default 0.
    #[schemars(with = "Option<f64>", range(min = 0.0, max = 1.0), default)]
    pub margin: f64,
}

/// What a treaty pays.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TreatyTermsArgs {
    /// The same fraction of every occurrence.
    QuotaShare(QuotaShareArgs),
    /// The part of every occurrence between the attachment and the attachment plus the limit.
    OccurrenceXl(OccurrenceXlArgs),
    /// The part of the year's amount between the attachment and the attachment plus the limit (stop
    /// loss).
    AggregateXl(AggregateXlArgs),
}

/// Terms of a treaty that pays the same fraction of every occurrence.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct QuotaShareArgs {
    /// Ceded fraction.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub cession: f64,
    /// Premium of the covered lines and groups before the cession. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub premium: Option<f64>,
    /// Fraction of the ceded premium that the reinsurer pays back, or a sliding scale of it; has an
    /// effect only with `premium`. Default 0.
    #[schemars(with = "Option<CommissionArgs>", default)]
    pub commission: CommissionArgs,
    /// Most that is ceded for one occurrence. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub event_limit: Option<f64>,
}

/// Terms of a treaty that pays the part of every occurrence within a layer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OccurrenceXlArgs {
    /// Fraction of the subject that the layer applies to, taken before the attachment. Default
    /// 1.
    #[schemars(with = "Option<f64>", range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    #[schemars(default = "whole")]
    pub cession: f64,
    /// Amount of an occurrence above which the layer pays.
    #[schemars(range(min = 0.0, max = 1e15))]
    pub attachment: f64,
    /// Most that the layer pays for one occurrence. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub limit: Option<f64>,
    /// Annual aggregate deductible: the layer pays only what its recoveries of the year exceed
    /// it by. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub aad: Option<f64>,
    /// Annual aggregate limit: most that the layer pays in a year. Default: none but what the
    /// reinstatements imply.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub aal: Option<f64>,
    /// Price of each reinstatement, as a fraction of the premium, pro rata as to amount. With n
    /// reinstatements the layer pays its limit 1 + n times in a year; an empty list means none.
    /// Default: any number of times, without a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15), inner(range(min = 0.0, max = 10.0)))]
    pub reinstatements: Option<Vec<f64>>,
    /// Premium of the whole layer, to which the prices of reinstatements apply. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub premium: Option<f64>,
    /// Fraction of the layer that reinsurers have taken. Default 1.
    #[schemars(with = "Option<f64>", range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    #[schemars(default = "whole")]
    pub placed: f64,
}

/// Terms of a treaty that pays the part of the year's amount within a layer. The attachment is
/// given as an amount or as a fraction of the premium, and so is the limit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AggregateXlArgs {
    /// Amount of the year above which the layer pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e15))]
    pub attachment: Option<f64>,
    /// The attachment as a fraction of the premium of the covered lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub attachment_ratio: Option<f64>,
    /// Most that the layer pays in a year. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub limit: Option<f64>,
    /// The limit as a fraction of the premium of the covered lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0.0))]
    pub limit_ratio: Option<f64>,
    /// With a ratio, the premium of the covered lines, of which it is a fraction; then the layer
    /// has no premium of its own. Without ratios, the premium of the layer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e15), extend("exclusiveMinimum" = 0.0))]
    pub premium: Option<f64>,
    /// Fraction of the layer that reinsurers have taken. Default 1.
    #[schemars(with = "Option<f64>", range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    #[schemars(default = "whole")]
    pub placed: f64,
}
