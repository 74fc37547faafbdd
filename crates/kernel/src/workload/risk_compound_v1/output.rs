//! The `output` of the result document (docs/determinism.md, section 11).

use forge_contract::{
    program::{Occurrence, Program},
    result_details::{Quantity, ResultDetails, TreatyTally},
    shard_result::ShardResult,
    treaty::{Proportion, TreatyTerms},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    allocation::{Allocation, allocations},
    figures::{Figures, QuantityStatistics},
    highest_moments::HighestMoments,
    model_checks::{ModelChecks, model_checks},
    portfolio::{CapitalBasis, CapitalMeasure, Portfolio, PortfolioTreaty},
};
use crate::{
    statistics::{Level, Moments},
    summary::{Histogram, Summary, TailFigures},
};

/// Level at which lines are compared where no capital is given: 99.5%.
const DIVERSIFICATION_LEVEL: Level = Level::new(995_000, 1_000_000);

/// Output of `risk.compound.v1`, in the currency of the args.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "RiskOutput")]
pub struct RiskOutput {
    /// The annual loss after all treaties.
    pub net: Figures,
    /// The annual loss before treaties.
    pub gross: Figures,
    /// Loss exceedance by return period.
    pub exceedance: Vec<PortfolioExceedance>,
    /// For each line, its annual loss before treaties.
    pub lines: Vec<LineOutput>,
    /// For each step, the annual loss after the treaties up to and including it.
    pub steps: Vec<StepOutput>,
    /// For each treaty, what it pays.
    pub treaties: Vec<TreatyOutput>,
    /// Parts of lines and treaties in the net annual loss, by level; empty without
    /// `report.allocation`.
    pub allocation: Vec<Allocation>,
    /// For each return period, the mean loss of each line in the years whose net loss is beyond it;
    /// empty without `report.allocation`.
    pub tail_exposure_surface: Vec<SurfaceRow>,
    /// How much less the lines need together than each alone.
    pub diversification: Diversification,
    /// Own funds and the capital requirement; null without `capital`.
    pub capital_adequacy_signal: Option<CapitalSignal>,
    /// Figures of the run beside those of the model: sums over the program's tables.
    pub checks: ModelChecks,
    /// Histogram of the net annual loss.
    pub loss_distribution: Histogram,
}

/// The amounts that are exceeded once in a return period, on average.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PortfolioExceedance {
    /// The return period T, in years: the level is 1 − 1/T.
    pub return_period: u64,
    /// Annual loss after all treaties (net AEP).
    pub net: TailFigures,
    /// Annual loss before treaties (gross AEP).
    pub gross: TailFigures,
    /// Largest occurrence in a year, before treaties (gross OEP).
    pub largest_occurrence: TailFigures,
}

/// Figures of a line.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LineOutput {
    /// Name.
    pub name: String,
    /// Annual loss before treaties.
    pub gross: Figures,
}

/// Figures after a step.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StepOutput {
    /// The step.
    pub step: u32,
    /// Annual loss after the treaties up to and including this step.
    pub net: Figures,
}

/// Figures of a treaty.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TreatyOutput {
    /// Name.
    pub name: String,
    /// What the treaty pays in a year.
    pub ceded: Figures,
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
    /// The ceded premium: the fraction of a quota share, the placed part of a layer.
    pub ceded: f64,
    /// What the reinsurer pays back of it.
    pub commission: f64,
    /// The ceded premium less the commission.
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

/// The mean losses of lines beyond a return period.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SurfaceRow {
    /// The return period, in years.
    pub return_period: u64,
    /// For each line, its mean before treaties in the years beyond it, in the order of the args.
    pub lines: Vec<Option<f64>>,
}

/// The value at risk of the lines, each alone and together, before treaties.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Diversification {
    /// The level.
    pub level: f64,
    /// Sum of the lines' values at risk.
    pub sum_of_lines: f64,
    /// Value at risk of their sum.
    pub together: f64,
    /// By how much the second is less than the first, as a fraction of it; null where that is 0.
    pub benefit: Option<f64>,
}

/// Own funds compared with the capital requirement.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CapitalSignal {
    /// Solvency capital requirement: the measure of the net annual loss; null where the measure is
    /// the tail value at risk and the loss has no mean.
    pub scr: Option<f64>,
    /// Own funds divided by the requirement; null where that is 0 or null.
    pub ratio: Option<f64>,
    /// Lower bound of the ratio's 95% confidence interval; null if there are too few years, or no
    /// interval of the requirement.
    pub ratio_low: Option<f64>,
    /// Upper bound of that interval; null likewise.
    pub ratio_high: Option<f64>,
    /// Fraction of years whose net loss is above the own funds.
    pub ruin_probability: f64,
    /// `adequate` if own funds are at least the upper bound of the requirement's 95% confidence
    /// interval, `inadequate` if they are below its lower bound, else `undecided`.
    pub signal: CapitalAdequacy,
}

/// Whether own funds meet the capital requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CapitalAdequacy {
    /// They do.
    Adequate,
    /// They do not.
    Inadequate,
    /// The run is too short to tell, or the requirement has no confidence interval.
    Undecided,
}

/// The merged result of a portfolio, with what its figures need.
struct Merged<'a> {
    portfolio: &'a Portfolio,
    program: &'a Program,
    result: &'a ShardResult,
    details: &'a ResultDetails,
    quantities: Vec<Quantity>,
    moments: HighestMoments<'a>,
}

/// The output of a merged result of at least one iteration.
///
/// # Panics
/// When the result has no details, so that it is not of a portfolio.
pub fn output(
    portfolio: &Portfolio,
    program: &Program,
    result: &ShardResult,
    summary: &Summary,
) -> RiskOutput {
    let details = result.details.as_ref().expect("the results of portfolios have details");
    let (quantities, moments) = (program.quantities(), HighestMoments::new(portfolio));
    let merged = Merged { portfolio, program, result, details, quantities, moments };
    let total = QuantityStatistics::of_total(result, program, merged.moments.net());
    let gross = merged.statistics(Quantity::Gross);
    let levels = &portfolio.report.levels;
    RiskOutput {
        net: total.figures(levels),
        gross: gross.figures(levels),
        exceedance: merged.exceedance(&total, &gross),
        lines: merged.lines(levels),
        steps: merged.steps(&total, levels),
        treaties: portfolio.treaties.iter().enumerate().map(|(at, t)| merged.treaty(at, t)).collect(),
        allocation: allocations(portfolio, result, levels),
        tail_exposure_surface: merged.surface(),
        diversification: merged.diversification(&gross),
        capital_adequacy_signal: portfolio.capital.map(|basis| capital_signal(portfolio, basis, &total)),
        checks: model_checks(portfolio, program, result, details),
        loss_distribution: summary.distribution.clone(),
    }
}

fn level_of(return_period: u64) -> Level {
    Level::new(return_period - 1, return_period)
}

impl Merged<'_> {
    fn statistics(&self, quantity: Quantity) -> QuantityStatistics {
        let highest = match quantity {
            Quantity::Gross => self.moments.gross(),
            Quantity::GrossLine(line) => self.moments.line(line),
            Quantity::NetAfterSteps(steps) => self.moments.after_step(self.program.steps()[steps - 1]),
            Quantity::Ceded(treaty) => self.moments.ceded(&self.portfolio.treaties[treaty]),
        };
        let found = self.quantities.iter().zip(&self.details.quantities).find(|(q, _)| **q == quantity);
        let (_, result) = found.expect("the program has the quantity");
        QuantityStatistics::of_quantity(quantity, result, self.result.iterations, self.program, highest)
    }

    fn exceedance(&self, total: &QuantityStatistics, gross: &QuantityStatistics) -> Vec<PortfolioExceedance> {
        let largest = QuantityStatistics::of_largest(self.result, self.program);
        let unit = f64::from(self.portfolio.units);
        let row = |&return_period: &u64| {
            let level = level_of(return_period);
            PortfolioExceedance {
                return_period,
                net: total.tail(level),
                gross: gross.tail(level),
                largest_occurrence: TailFigures::new(&largest, level, unit, self.moments.largest()),
            }
        };
        self.portfolio.report.return_periods.iter().map(row).collect()
    }

    fn lines(&self, levels: &[Level]) -> Vec<LineOutput> {
        let line = |(at, name): (usize, &String)| LineOutput {
            name: name.clone(),
            gross: self.statistics(Quantity::GrossLine(at)).figures(levels),
        };
        self.portfolio.lines.iter().enumerate().map(line).collect()
    }

    fn steps(&self, total: &QuantityStatistics, levels: &[Level]) -> Vec<StepOutput> {
        let steps = self.program.steps();
        let step = |(at, &step): (usize, &u32)| {
            let net = if at + 1 == steps.len() {
                total.figures(levels)
            } else {
                self.statistics(Quantity::NetAfterSteps(at + 1)).figures(levels)
            };
            StepOutput { step, net }
        };
        steps.iter().enumerate().map(step).collect()
    }

    fn treaty(&self, at: usize, treaty: &PortfolioTreaty) -> TreatyOutput {
        let (tally, iterations) = (&self.details.treaties[at], self.result.iterations);
        let (unit, n) = (f64::from(self.portfolio.units), iterations as f64);
        let ceded = self.statistics(Quantity::Ceded(at));
        let a_year = |count: u64| Some(count as f64 / n);
        let limit = limit_of(&treaty.treaty.terms);
        let layer = match &treaty.treaty.terms {
            TreatyTerms::OccurrenceXl(layer) => Some(layer),
            _ => None,
        };
        let has_year_limit = match &treaty.treaty.terms {
            TreatyTerms::QuotaShare { .. } => false,
            TreatyTerms::OccurrenceXl(layer) => layer.annual.limit < forge_contract::amount::MAX_AMOUNT,
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
            premium: premium.map(|premium| treaty_premium(treaty, premium / unit)),
            rate_on_line: premium.zip(limit).map(|(premium, limit)| premium / limit as f64),
            reinstated: tally.reinstated.iter().map(|&sum| sum as f64 / n / unit).collect(),
            reinstatement_premium: premium
                .filter(|_| !tally.reinstated.is_empty())
                .map(|_| reinstatement_premium(tally, iterations, unit)),
            technical_premium: layer.and_then(|layer| technical_premium(layer, tally, &ceded, n)),
            ceded: ceded.figures(&self.portfolio.report.levels),
        }
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

    fn surface(&self) -> Vec<SurfaceRow> {
        let return_periods = &self.portfolio.report.return_periods;
        let levels: Vec<Level> = return_periods.iter().map(|&period| level_of(period)).collect();
        let rows = allocations(self.portfolio, self.result, &levels).into_iter();
        let rows = return_periods.iter().zip(rows);
        rows.map(|(&return_period, row)| SurfaceRow { return_period, lines: row.tail.lines }).collect()
    }

    fn diversification(&self, gross: &QuantityStatistics) -> Diversification {
        let level = self.portfolio.capital.map_or(DIVERSIFICATION_LEVEL, |basis| basis.level);
        let lines = (0..self.portfolio.lines.len()).map(Quantity::GrossLine);
        let sum_of_lines = lines.fold(0.0, |sum, line| sum + self.statistics(line).tail(level).var);
        let together = gross.tail(level).var;
        let benefit = (sum_of_lines > 0.0).then(|| (sum_of_lines - together) / sum_of_lines);
        Diversification { level: level.to_f64(), sum_of_lines, together, benefit }
    }
}

/// The limit of a treaty's layer; `None` without one.
fn limit_of(terms: &TreatyTerms) -> Option<u64> {
    let limit = match terms {
        TreatyTerms::QuotaShare { .. } => return None,
        TreatyTerms::OccurrenceXl(layer) => layer.layer.limit,
        TreatyTerms::AggregateXl { layer, .. } => layer.limit,
    };
    (limit < forge_contract::amount::MAX_AMOUNT).then_some(limit)
}

/// What a treaty costs; `premium` is that of the layer or the subject, in units of the args.
fn treaty_premium(treaty: &PortfolioTreaty, premium: f64) -> TreatyPremium {
    let fraction = |proportion: Proportion| f64::from(proportion.0) / f64::from(Proportion::ONE.0);
    let part = match &treaty.treaty.terms {
        TreatyTerms::QuotaShare { cession, .. } => *cession,
        TreatyTerms::OccurrenceXl(layer) => layer.placed,
        TreatyTerms::AggregateXl { placed, .. } => *placed,
    };
    let ceded = premium * fraction(part);
    let commission = ceded * fraction(treaty.commission);
    TreatyPremium { ceded, commission, net: ceded - commission }
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
    layer: &forge_contract::treaty::OccurrenceLayer,
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

fn capital_signal(portfolio: &Portfolio, basis: CapitalBasis, total: &QuantityStatistics) -> CapitalSignal {
    let own_funds = basis.own_funds as f64 / f64::from(portfolio.units);
    let tail = total.tail(basis.level);
    let (scr, low, high) = match basis.measure {
        CapitalMeasure::Var => (Some(tail.var), tail.var_low, tail.var_high),
        CapitalMeasure::Tvar => (tail.tvar, tail.tvar_low, tail.tvar_high),
    };
    let ratio = |requirement: f64| (requirement > 0.0).then(|| own_funds / requirement);
    let (ratio_low, ratio_high) = (high.and_then(ratio), low.and_then(ratio));
    // Funds are compared with the requirement, not ratios with 1: a requirement of 0 has no ratio.
    let signal = match (low, high) {
        (_, Some(high)) if own_funds >= high => CapitalAdequacy::Adequate,
        (Some(low), _) if own_funds < low => CapitalAdequacy::Inadequate,
        _ => CapitalAdequacy::Undecided,
    };
    CapitalSignal {
        scr,
        ratio: scr.and_then(ratio),
        ratio_low,
        ratio_high,
        ruin_probability: total.fraction_above(basis.own_funds),
        signal,
    }
}
