//! Valid args become a portfolio: names become indices, amounts minor units, fractions
//! proportions. Checks nothing: names that do not exist are left out.

use forge_contract::{program::MAX_AMOUNT, strict::number_to_value};
use serde_json::{Map, Value};

use super::{
    args::{GroupArgs, PolicyTermsArgs, RankArgs, RiskArgs},
    commissions::{Commission, ProfitCommission},
    counts,
    event_tables::{EventLossArgs, EventTableArgs},
    portfolio::{
        CapitalBasis, ComponentSeverity, GroupKind, INDEX_UNITS, Portfolio, PortfolioComponent,
        PortfolioCounts, PortfolioGroup, PortfolioIndex, PortfolioReport, PortfolioTreaty,
    },
    severities::SeverityArgs,
    treaty_args::{
        AggregateXlArgs, CommissionArgs, CommissionKnotArgs, OccurrenceXlArgs, TreatyArgs, TreatyTermsArgs,
    },
};
use crate::{
    counts::CountLaw,
    statistics::Level,
    treaties::{IndexSet, Layer, OccurrenceLayer, Proportion, Treaty, TreatyTerms},
    workload::to_minor_units,
};

/// Parts of a whole in a fraction.
const MILLION: u64 = 1_000_000;

/// The number of millionths that is `x`, which has at most six decimals: whose nearest f64 is `x`.
/// `None` where there is no such number, and above 2^32.
pub fn millionths(x: f64) -> Option<u32> {
    let millionths = (x * MILLION as f64).round();
    let is_exact = millionths / MILLION as f64 == x && (0.0..=f64::from(u32::MAX)).contains(&millionths);
    is_exact.then_some(millionths as u32)
}

/// The proportion of valid args.
fn proportion(x: f64) -> Proportion {
    Proportion(millionths(x).unwrap_or_default())
}

fn commission(args: &CommissionArgs) -> Commission {
    match args {
        CommissionArgs::Flat(rate) => Commission::Flat(proportion(*rate)),
        CommissionArgs::Sliding(knots) => {
            let knot = |knot: &CommissionKnotArgs| (proportion(knot.loss_ratio), proportion(knot.rate));
            Commission::Sliding(knots.iter().map(knot).collect())
        }
    }
}

impl RiskArgs {
    /// The portfolio that valid args describe.
    pub fn portfolio(&self) -> Portfolio {
        let indices = self.indices.iter();
        Portfolio {
            units: self.units(),
            lines: self.lines.clone(),
            indices: indices
                .map(|i| PortfolioIndex { name: i.name.clone(), law: i.law.severity(INDEX_UNITS) })
                .collect(),
            groups: self.groups.iter().map(|group| self.group(group)).collect(),
            treaties: self.treaties.iter().map(|treaty| self.treaty(treaty)).collect(),
            capital: self.capital.as_ref().map(|capital| CapitalBasis {
                own_funds: self.amount(capital.own_funds),
                measure: capital.measure,
                level: level(capital.level),
            }),
            report: self.portfolio_report(),
        }
    }

    /// The model args in normal form: without `iterations` and `convergence`.
    pub fn model_args(&self) -> Map<String, Value> {
        let Ok(Value::Object(mut args)) = serde_json::to_value(self) else { return Map::new() };
        args.remove("iterations");
        args.remove("convergence");
        args.values_mut().for_each(normalise_numbers);
        args
    }

    /// Expected occurrences of an iteration.
    pub fn expected_occurrences(&self) -> f64 {
        self.groups.iter().map(|group| counts_of(group).map_or(0.0, |counts| counts::mean(&counts))).sum()
    }

    /// Expected draws of an iteration, rounded up: a count for each group with one; for each of its
    /// expected occurrences a pick among several components and one amount of a claim, or an amount
    /// for every strike, also if it shares a draw; an amount for each total of the year; a factor
    /// for each index. The sums are f64 steps in the order of the groups.
    pub fn expected_draws(&self) -> u64 {
        let draws_of = |group: &GroupArgs| {
            let occurrences = counts_of(group).map_or(0.0, |counts| counts::mean(&counts));
            match group {
                GroupArgs::Annual(group) => group.annual.len() as f64,
                GroupArgs::Claims(group) => {
                    1.0 + occurrences * if group.claims.len() > 1 { 2.0 } else { 1.0 }
                }
                GroupArgs::Strikes(_) | GroupArgs::Events(_) => 1.0 + occurrences * group.size() as f64,
            }
        };
        let draws: f64 = self.groups.iter().map(draws_of).sum();
        draws.ceil() as u64 + self.indices.len() as u64
    }

    fn amount(&self, x: f64) -> u64 {
        to_minor_units(x, self.units())
    }

    /// A limit; the largest amount without one.
    fn limit(&self, limit: Option<f64>) -> u64 {
        limit.map_or(MAX_AMOUNT, |limit| self.amount(limit))
    }

    fn line(&self, name: &str) -> usize {
        self.lines.iter().position(|line| line == name).unwrap_or_default()
    }

    fn group(&self, group: &GroupArgs) -> PortfolioGroup {
        let (name, kind, components) = match group {
            GroupArgs::Annual(group) => {
                let no_terms = |index: &Option<String>| PolicyTermsArgs {
                    deductible: None,
                    franchise: None,
                    limit: None,
                    share: 1.0,
                    index: index.clone(),
                };
                let components = group.annual.iter();
                let components = components.map(|c| self.component(&c.line, &c.amount, &no_terms(&c.index)));
                (&group.name, GroupKind::Annual, components.collect())
            }
            GroupArgs::Claims(group) => {
                let components = group.claims.iter().map(|claim| PortfolioComponent {
                    weight: claim.weight,
                    ..self.component(&claim.line, &claim.severity, &claim.terms)
                });
                (&group.name, GroupKind::Claims, components.collect())
            }
            GroupArgs::Strikes(group) => {
                let components = group.strikes.iter().map(|strike| PortfolioComponent {
                    has_same_rank: strike.rank == Some(RankArgs::Same),
                    ..self.component(&strike.line, &strike.severity, &strike.terms)
                });
                (&group.name, GroupKind::Strikes, components.collect())
            }
            GroupArgs::Events(group) => {
                (&group.name, GroupKind::Events, self.event_components(&group.events))
            }
        };
        let once = PortfolioCounts { law: CountLaw::Constant(1), zero_probability: None };
        PortfolioGroup { name: name.clone(), kind, counts: counts_of(group).unwrap_or(once), components }
    }

    /// A component for each line that events strike. All have the draw of the first one, which is
    /// that of the event.
    fn event_components(&self, events: &EventTableArgs) -> Vec<PortfolioComponent> {
        let severities = events.severities(|amount| self.amount(amount));
        let component =
            |(at, (loss, severity)): (usize, (&EventLossArgs, ComponentSeverity))| PortfolioComponent {
                line: self.line(&loss.line),
                severity,
                weight: 1.0,
                deductible: 0,
                limit: MAX_AMOUNT,
                franchise: 0,
                share: Proportion::ONE,
                index: None,
                has_same_rank: at > 0,
            };
        events.losses.iter().zip(severities).enumerate().map(component).collect()
    }

    fn component(&self, line: &str, severity: &SeverityArgs, terms: &PolicyTermsArgs) -> PortfolioComponent {
        let index = terms.index.as_ref();
        PortfolioComponent {
            line: self.line(line),
            severity: severity.severity(self.units()),
            weight: 1.0,
            deductible: terms.deductible.map_or(0, |amount| self.amount(amount)),
            limit: self.limit(terms.limit),
            franchise: terms.franchise.map_or(0, |amount| self.amount(amount)),
            share: proportion(terms.share),
            index: index.and_then(|name| self.indices.iter().position(|index| index.name == *name)),
            has_same_rank: false,
        }
    }

    fn treaty(&self, treaty: &TreatyArgs) -> PortfolioTreaty {
        let set = |indices: &mut dyn Iterator<Item = usize>| {
            IndexSet(indices.fold(0, |bits, index| bits | 1_u32.checked_shl(index as u32).unwrap_or(0)))
        };
        let named = |names: &[String]| {
            let groups = self.groups.iter().enumerate();
            set(&mut groups.filter(|(_, group)| names.iter().any(|n| n == group.name())).map(|(i, _)| i))
        };
        let amount_of = |amount: Option<f64>| amount.map_or(0, |amount| self.amount(amount));
        let no_commission = Commission::Flat(Proportion(0));
        let (commission, premium, terms) = match &treaty.terms {
            TreatyTermsArgs::QuotaShare(terms) => {
                let cession = proportion(terms.cession);
                let event_limit = self.limit(terms.event_limit);
                let premium = amount_of(terms.premium);
                (commission(&terms.commission), premium, TreatyTerms::QuotaShare { cession, event_limit })
            }
            TreatyTermsArgs::OccurrenceXl(terms) => (
                no_commission,
                amount_of(terms.premium),
                TreatyTerms::OccurrenceXl(self.occurrence_layer(terms)),
            ),
            TreatyTermsArgs::AggregateXl(terms) => {
                let has_ratio = terms.attachment_ratio.is_some() || terms.limit_ratio.is_some();
                let premium = if has_ratio { 0 } else { amount_of(terms.premium) };
                let layer = self.aggregate_layer(terms);
                (no_commission, premium, TreatyTerms::AggregateXl { layer, placed: proportion(terms.placed) })
            }
        };
        PortfolioTreaty {
            name: treaty.name.clone(),
            commission,
            profit_commission: treaty.profit_commission.as_ref().map(|profit| ProfitCommission {
                share: proportion(profit.share),
                margin: proportion(profit.margin),
            }),
            premium,
            treaty: Treaty {
                step: treaty.step,
                lines: set(&mut treaty.covers.iter().map(|name| self.line(name))),
                groups: treaty.groups.as_deref().map_or(IndexSet::ALL, named),
                terms,
            },
        }
    }

    /// The layer of an occurrence treaty. Its year's limit is the annual aggregate limit, or what
    /// the limit and its reinstatements amount to if that is less.
    fn occurrence_layer(&self, terms: &OccurrenceXlArgs) -> OccurrenceLayer {
        let limit = self.limit(terms.limit);
        let capacity = |prices: &Vec<f64>| limit.saturating_mul(1 + prices.len() as u64).min(MAX_AMOUNT);
        OccurrenceLayer {
            cession: proportion(terms.cession),
            layer: Layer { limit, attachment: self.amount(terms.attachment) },
            annual: Layer {
                limit: self.limit(terms.aal).min(terms.reinstatements.as_ref().map_or(MAX_AMOUNT, capacity)),
                attachment: terms.aad.map_or(0, |amount| self.amount(amount)),
            },
            placed: proportion(terms.placed),
            reinstatements: terms.reinstatements.iter().flatten().map(|&price| proportion(price)).collect(),
            premium: terms.premium.map_or(0, |premium| self.amount(premium)),
        }
    }

    /// The layer of a treaty on the year's amount.
    fn aggregate_layer(&self, terms: &AggregateXlArgs) -> Layer {
        let premium = terms.premium.map_or(0, |premium| self.amount(premium));
        let of_premium = |ratio: f64| proportion(ratio).of(premium).min(MAX_AMOUNT);
        let attachment = || terms.attachment.map_or(0, |amount| self.amount(amount));
        Layer {
            attachment: terms.attachment_ratio.map_or_else(attachment, of_premium),
            limit: terms.limit_ratio.map_or_else(|| self.limit(terms.limit), of_premium),
        }
    }

    fn portfolio_report(&self) -> PortfolioReport {
        let mut return_periods = self.report.return_periods.clone();
        return_periods.sort_unstable();
        let mut levels: Vec<Level> = self.report.levels.iter().map(|&x| level(x)).collect();
        levels.sort_unstable_by_key(|level| level.numerator);
        PortfolioReport { allocation: self.report.allocation, return_periods, levels }
    }
}

impl SeverityArgs {
    /// The law, with `units` minor units in a unit of the args.
    fn severity(&self, units: u32) -> ComponentSeverity {
        let amount = |amount| to_minor_units(amount, units);
        match self {
            Self::Constant(constant) => ComponentSeverity::Constant(amount(*constant)),
            Self::Family(family) => ComponentSeverity::Law(family.law),
            Self::Listed(listed) => listed.severity(amount),
        }
    }
}

impl GroupArgs {
    /// Name of the group.
    pub fn name(&self) -> &str {
        match self {
            Self::Annual(group) => &group.name,
            Self::Claims(group) => &group.name,
            Self::Strikes(group) => &group.name,
            Self::Events(group) => &group.name,
        }
    }

    /// Number of components.
    pub fn size(&self) -> usize {
        match self {
            Self::Annual(group) => group.annual.len(),
            Self::Claims(group) => group.claims.len(),
            Self::Strikes(group) => group.strikes.len(),
            Self::Events(group) => group.events.losses.len(),
        }
    }
}

/// The counts of a group; `None` for totals of the year.
fn counts_of(group: &GroupArgs) -> Option<PortfolioCounts> {
    match group {
        GroupArgs::Annual(_) => None,
        GroupArgs::Claims(group) => Some(group.count.counts()),
        GroupArgs::Strikes(group) => Some(group.count.counts()),
        GroupArgs::Events(group) => Some(group.events.counts()),
    }
}

/// The level of valid args, in millionths.
fn level(x: f64) -> Level {
    Level::new(u64::from(millionths(x).unwrap_or_default()).clamp(1, MILLION - 1), MILLION)
}

/// Numbers in the form that strict parsing gives them.
fn normalise_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(x) = number.as_f64() {
                *value = number_to_value(x);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalise_numbers),
        Value::Object(members) => members.values_mut().for_each(normalise_numbers),
        _ => {}
    }
}
