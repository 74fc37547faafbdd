//! The part of the `output` that is about treaties (docs/determinism.md, section 11.1).

use forge_contract::{
    program::{MAX_AMOUNT, Occurrence},
    result_details::{Quantity, TreatyTally},
    treaty::{OccurrenceLayer, Proportion, TreatyTerms},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    commissions::{Commission, fraction},
    figures::{Figures, QuantityStatistics},
    merged::Merged,
    portfolio::PortfolioTreaty,
};
use crate::{statistics::Moments, workload::CommissionErrors};

/// Figures of a treaty.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TreatyOutput {
    /// Name.
    pub name: String,
    /// What the treaty pays in a year.
    pub ceded: Figures,
    /// The largest occurrence of a year, as far as the treaty covers it: what earlier steps have
    /// left of it. Null for treaties that are not by occurrence.
    pub largest_subject: Option<Figures>,
    /// Fraction of years in which it pays.
    pub attachment_probability: f64,
    /// Mean number of occurrences a year that reach the attachment; null for treaties that are not
    /// by occurrence.
    pub attaching_occurrences: Option<f64>,
    /// Mean number of occurrences a year that reach the top of the layer; null likewise.
    pub exhausting_occurrences: Option<f64>,
    /// Of the occurrences that the treaty covers, the fraction that reaches the attachment; null
    /// likewise, and without such occurrences.
    pub attaching_fraction: Option<f64>,
    /// Of these occurrences, the fraction that reaches the top of the layer; null likewise.
    pub exhausting_fraction: Option<f64>,
    /// Fraction of years in which the limit of the year is used up; null without one.
    pub exhaustion_probability: Option<f64>,
    /// What the treaty costs; null without premium, and where the premium is that of ratios.
    pub premium: Option<TreatyPremium>,
    /// Premium as a fraction of the limit; null where either is not given.
    pub rate_on_line: Option<f64>,
    /// For each reinstatement, the mean reinstated amount of the whole layer.
    pub reinstated: Vec<f64>,
    /// Reinstatement premium of the placed part; null without reinstatements or premium.
    pub reinstatement_premium: Option<PremiumFigures>,
    /// Premium of the whole layer that, with its reinstatement premiums, pays for the mean loss of
    /// the layer (Sundt 1991); null for treaties that are not by occurrence.
    pub technical_premium: Option<f64>,
}

/// What a treaty costs, before reinstatement premiums.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TreatyPremium {
    /// The ceded premium: the fraction of a quota share, the placed part of a layer. Reinstatement
    /// premiums are not part of it.
    pub ceded: f64,
    /// What the reinsurer pays back of it; the mean of a sliding scale.
    pub commission: f64,
    /// Mean of what the reinsurer pays back of its profit, which leaves reinstatement premiums out;
    /// 0 without `profit_commission`.
    pub profit_commission: f64,
    /// The ceded premium less both commissions.
    pub net: f64,
}

/// Mean and deviation of a premium that depends on the year.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PremiumFigures {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; null with a single year.
    pub std_dev: Option<f64>,
}

impl Merged<'_> {
    pub(super) fn treaty(&self, at: usize, treaty: &PortfolioTreaty) -> TreatyOutput {
        let (tally, iterations) = (&self.details.treaties[at], self.result.iterations);
        let (unit, n) = (f64::from(self.portfolio.units), iterations as f64);
        let ceded = self.statistics(Quantity::Ceded(at));
        let levels = &self.portfolio.report.levels;
        let a_year = |count: u64| Some(count as f64 / n);
        let limit = limit_of(&treaty.treaty.terms);
        let layer = match &treaty.treaty.terms {
            TreatyTerms::OccurrenceXl(layer) => Some(layer),
            _ => None,
        };
        let has_year_limit = match &treaty.treaty.terms {
            TreatyTerms::QuotaShare { .. } => false,
            TreatyTerms::OccurrenceXl(layer) => layer.annual.limit < MAX_AMOUNT,
            TreatyTerms::AggregateXl { .. } => limit.is_some(),
        };
        let premium = (treaty.premium > 0).then_some(treaty.premium as f64);
        let covered = self.covered_occurrences(treaty);
        let of_covered = |count: u64| (covered > 0).then(|| count as f64 / covered as f64);
        TreatyOutput {
            name: treaty.name.clone(),
            attachment_probability: ceded.positive_probability(),
            attaching_occurrences: layer.and_then(|_| a_year(tally.attached)),
            exhausting_occurrences: layer.and(limit).and_then(|_| a_year(tally.exhausted)),
            attaching_fraction: layer.and_then(|_| of_covered(tally.attached)),
            exhausting_fraction: layer.and(limit).and_then(|_| of_covered(tally.exhausted)),
            exhaustion_probability: has_year_limit.then(|| tally.used_up as f64 / n),
            premium: premium.map(|_| treaty_premium(treaty, unit, &ceded)),
            rate_on_line: premium.zip(limit).map(|(premium, limit)| premium / limit as f64),
            reinstated: tally.reinstated.iter().map(|&sum| sum as f64 / n / unit).collect(),
            reinstatement_premium: premium
                .filter(|_| !tally.reinstated.is_empty())
                .map(|_| reinstatement_premium(tally, iterations, unit)),
            technical_premium: layer.and_then(|layer| technical_premium(layer, tally, &ceded, n)),
            largest_subject: self.largest_subject(treaty).map(|largest| largest.figures(levels)),
            ceded: ceded.figures(levels),
        }
    }

    /// For each treaty, the standard errors of its mean commissions.
    pub(super) fn commission_errors(&self) -> Vec<CommissionErrors> {
        let unit = f64::from(self.portfolio.units);
        let of_treaty = |(at, treaty): (usize, &PortfolioTreaty)| {
            if treaty.premium == 0 {
                return CommissionErrors::default();
            }
            let (ceded, payments) = (ceded_premium(treaty, unit), self.statistics(Quantity::Ceded(at)));
            let commission = |paid| treaty.commission.of(paid, ceded);
            let is_sliding = matches!(treaty.commission, Commission::Sliding(_));
            CommissionErrors {
                commission: is_sliding.then(|| payments.std_error_of(commission)).flatten(),
                profit_commission: treaty
                    .profit_commission
                    .and_then(|terms| payments.std_error_of(|paid| terms.of(paid, ceded, commission(paid)))),
            }
        };
        self.portfolio.treaties.iter().enumerate().map(of_treaty).collect()
    }

    /// The largest occurrence of what a treaty covers; `None` for treaties on the year's amount.
    pub(super) fn largest_subject(&self, treaty: &PortfolioTreaty) -> Option<QuantityStatistics> {
        self.program.subject_of(&treaty.treaty).map(|subject| self.largest(subject))
    }

    /// The number of occurrences of the groups that a treaty covers which have a covered line.
    fn covered_occurrences(&self, treaty: &PortfolioTreaty) -> u64 {
        let mut tallies = self.result.components.iter();
        let mut sum = 0;
        for (at, group) in self.program.groups.iter().enumerate() {
            let tallies: Vec<_> = tallies.by_ref().take(group.components.len()).collect();
            let covered = group.components.iter().zip(tallies);
            let mut covered =
                covered.filter(|(component, _)| treaty.treaty.lines.contains(component.line as usize));
            sum += match group.occurrence {
                _ if !treaty.treaty.groups.contains(at) => 0,
                Occurrence::Annual => 0,
                Occurrence::Claim { .. } => covered.map(|(_, tally)| tally.occurrences).sum(),
                Occurrence::Strike => covered.next().map_or(0, |(_, tally)| tally.occurrences),
            };
        }
        sum
    }
}

/// The limit of a treaty's layer; `None` without one.
fn limit_of(terms: &TreatyTerms) -> Option<u64> {
    let limit = match terms {
        TreatyTerms::QuotaShare { .. } => return None,
        TreatyTerms::OccurrenceXl(layer) => layer.layer.limit,
        TreatyTerms::AggregateXl { layer, .. } => layer.limit,
    };
    (limit < MAX_AMOUNT).then_some(limit)
}

/// The ceded premium, in units of the args: the fraction of a quota share, the placed part of a
/// layer.
fn ceded_premium(treaty: &PortfolioTreaty, unit: f64) -> f64 {
    let part = match &treaty.treaty.terms {
        TreatyTerms::QuotaShare { cession, .. } => *cession,
        TreatyTerms::OccurrenceXl(layer) => layer.placed,
        TreatyTerms::AggregateXl { placed, .. } => *placed,
    };
    treaty.premium as f64 / unit * fraction(part)
}

/// What a treaty costs.
fn treaty_premium(treaty: &PortfolioTreaty, unit: f64, payments: &QuantityStatistics) -> TreatyPremium {
    let ceded = ceded_premium(treaty, unit);
    let commission = match &treaty.commission {
        Commission::Flat(rate) => ceded * fraction(*rate),
        Commission::Sliding(_) => payments.mean_of(|paid| treaty.commission.of(paid, ceded)),
    };
    let profit_commission = treaty.profit_commission.map_or(0.0, |terms| {
        payments.mean_of(|paid| terms.of(paid, ceded, treaty.commission.of(paid, ceded)))
    });
    TreatyPremium { ceded, commission, profit_commission, net: ceded - commission - profit_commission }
}

fn reinstatement_premium(tally: &TreatyTally, iterations: u64, unit: f64) -> PremiumFigures {
    let moments = Moments::of_sums(iterations, tally.premiums, tally.squared_premiums);
    PremiumFigures {
        mean: moments.mean / unit,
        std_dev: moments.variance.map(|variance| variance.sqrt() / unit),
    }
}

/// P = E[A] / (1 + Σ c_k·E[r_k] / limit), where A is what the whole layer pays: the ceded amount
/// divided by the placed proportion.
fn technical_premium(
    layer: &OccurrenceLayer,
    tally: &TreatyTally,
    ceded: &QuantityStatistics,
    iterations: f64,
) -> Option<f64> {
    let million = f64::from(Proportion::ONE.0);
    let limit = layer.layer.limit as f64;
    let priced = layer.reinstatements.iter().zip(&tally.reinstated);
    let loading = priced.fold(0.0, |sum, (price, &reinstated)| {
        sum + f64::from(price.0) / million * (reinstated as f64 / iterations) / limit
    });
    let placed = f64::from(layer.placed.0) / million;
    ceded.mean().map(|mean| mean / placed / (1.0 + loading))
}
