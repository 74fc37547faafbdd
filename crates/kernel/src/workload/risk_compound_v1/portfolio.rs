//! The portfolio that valid args describe: names resolved to indices, amounts in minor units,
//! families in their own terms. Holds no trace of how the args were written.

use forge_contract::program::INDEX_FRACTION_BITS;

use super::commissions::{Commission, ProfitCommission};
use crate::{
    counts::CountLaw,
    severities::SeverityLaw,
    statistics::Level,
    treaties::{Proportion, Treaty},
};

/// The units of factors in a factor of 1, as minor units are those of amounts.
pub const INDEX_UNITS: u32 = 1 << INDEX_FRACTION_BITS;

/// A portfolio, ready to be compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Portfolio {
    /// Minor units in a unit of the args: a power of ten.
    pub units: u32,
    /// Names of the lines.
    pub lines: Vec<String>,
    /// The indices.
    pub indices: Vec<PortfolioIndex>,
    /// The groups, in draw order.
    pub groups: Vec<PortfolioGroup>,
    /// The treaties, in the order in which they are listed.
    pub treaties: Vec<PortfolioTreaty>,
    /// What capital figures are computed from.
    pub capital: Option<CapitalBasis>,
    /// What is reported.
    pub report: PortfolioReport,
}

impl Portfolio {
    /// The path of a component, relative to the args.
    pub fn component_path(&self, group: usize, component: usize) -> String {
        let list = match self.groups[group].kind {
            GroupKind::Annual => "annual",
            GroupKind::Claims => "claims",
            GroupKind::Strikes => "strikes",
            GroupKind::Events => "events/losses",
        };
        format!("/groups/{group}/{list}/{component}")
    }

    /// The path of a component's severity, relative to the args.
    pub fn severity_path(&self, group: usize, component: usize) -> String {
        let field = match self.groups[group].kind {
            GroupKind::Annual => "amount",
            GroupKind::Claims | GroupKind::Strikes => "severity",
            GroupKind::Events => "amounts",
        };
        format!("{}/{field}", self.component_path(group, component))
    }
}

/// A factor that is drawn once an iteration and multiplies the severities of its components.
#[derive(Debug, Clone, PartialEq)]
pub struct PortfolioIndex {
    /// Name.
    pub name: String,
    /// Law of the factor, with [`INDEX_UNITS`] for minor units.
    pub law: ComponentSeverity,
}

/// A source of counts, with the components of its occurrences.
#[derive(Debug, Clone, PartialEq)]
pub struct PortfolioGroup {
    /// Name.
    pub name: String,
    /// What an occurrence of the group is.
    pub kind: GroupKind,
    /// The number of occurrences in an iteration; always 1 for [`GroupKind::Annual`].
    pub counts: PortfolioCounts,
    /// The components, in draw order; at least one.
    pub components: Vec<PortfolioComponent>,
}

/// What an occurrence of a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// A claim of one of the components, chosen by their weights.
    Claims,
    /// One amount of every component at once.
    Strikes,
    /// As strikes: an event of a table, which has an amount of every component.
    Events,
    /// Totals of the year, one of every component: no occurrence is known.
    Annual,
}

/// A law of counts.
#[derive(Debug, Clone, PartialEq)]
pub struct PortfolioCounts {
    /// The law.
    pub law: CountLaw,
    /// The probability of 0, where it is set to another one than the law's.
    pub zero_probability: Option<f64>,
}

/// A source of amounts of a line.
#[derive(Debug, Clone, PartialEq)]
pub struct PortfolioComponent {
    /// Index of the line.
    pub line: usize,
    /// Law of the amount before the index and the policy terms.
    pub severity: ComponentSeverity,
    /// Share of the group's occurrences, relative to the weights of the other components; 1 in
    /// groups that are not [`GroupKind::Claims`].
    pub weight: f64,
    /// Amount that the insured bears of every claim.
    pub deductible: u64,
    /// Largest amount after the deductible; [`MAX_AMOUNT`](forge_contract::program::MAX_AMOUNT)
    /// without a limit.
    pub limit: u64,
    /// Claims below this amount are 0, the others are paid in full; 0 without a franchise.
    pub franchise: u64,
    /// Fraction of the amount after deductible and limit.
    pub share: Proportion,
    /// The index that multiplies the amount before the policy terms.
    pub index: Option<usize>,
    /// Whether the component takes the draw of the component before it, so that both are equally
    /// severe.
    pub has_same_rank: bool,
}

/// The law of a component's amount, in minor units, or of the factor of an index.
#[derive(Debug, Clone, PartialEq)]
pub enum ComponentSeverity {
    /// Drawn from a law, in units of the args.
    Law(SeverityLaw),
    /// Always this many minor units.
    Constant(u64),
    /// One of several amounts.
    Discrete {
        /// The amounts in minor units, ascending; those of events are in the order of totals.
        amounts: Vec<u64>,
        /// A weight for each amount, to which its probability is in proportion.
        weights: Vec<f64>,
    },
    /// A quantile function that is linear between knots.
    Piecewise {
        /// Amounts of the knots in minor units, ascending.
        amounts: Vec<u64>,
        /// Probabilities of the knots, ascending from 0 to 1.
        probabilities: Vec<f64>,
    },
}

/// A treaty with its name and its commissions.
#[derive(Debug, Clone, PartialEq)]
pub struct PortfolioTreaty {
    /// Name.
    pub name: String,
    /// What the reinsurer pays back of the ceded premium; nothing for layers.
    pub commission: Commission,
    /// What it pays back of its profit.
    pub profit_commission: Option<ProfitCommission>,
    /// Premium of the whole layer, or of the subject of a quota share, in minor units; 0 where none
    /// is stated.
    pub premium: u64,
    /// Step, covers and terms.
    pub treaty: Treaty,
}

/// What capital figures are computed from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CapitalBasis {
    /// Own funds, in minor units.
    pub own_funds: u64,
    /// The measure of the capital requirement.
    pub measure: CapitalMeasure,
    /// The level of the measure.
    pub level: Level,
}

/// A measure of the capital requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CapitalMeasure {
    /// Value at risk.
    Var,
    /// Tail value at risk.
    Tvar,
}

/// What is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortfolioReport {
    /// Whether the tail is allocated to lines and treaties.
    pub allocation: bool,
    /// Return periods, in years, ascending: each at least 2.
    pub return_periods: Vec<u64>,
    /// Levels of value at risk and tail value at risk, ascending.
    pub levels: Vec<Level>,
}
