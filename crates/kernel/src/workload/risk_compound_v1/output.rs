//! The `output` of the result document (docs/determinism.md, section 11).

use forge_contract::{
    occurrence_subject::OccurrenceSubject, program::Program, result_details::Quantity,
    shard_result::ShardResult,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    allocation::{Allocation, allocations},
    figures::{Figures, QuantityStatistics},
    merged::Merged,
    model_checks::{ModelChecks, model_checks},
    portfolio::{CapitalBasis, CapitalMeasure, Portfolio},
    treaty_output::TreatyOutput,
};
use crate::{
    statistics::Level,
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
    /// The largest occurrence of a year, before treaties.
    pub largest_occurrence: Figures,
    /// The largest occurrence of a year, after all treaties that pay by occurrence.
    pub net_largest_occurrence: Figures,
    /// Loss exceedance by return period.
    pub exceedance: Vec<PortfolioExceedance>,
    /// For each line, its loss before treaties.
    pub lines: Vec<LineOutput>,
    /// For each step, the loss after the treaties up to and including it.
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
    /// Largest occurrence in a year, after all treaties that pay by occurrence (net OEP).
    pub net_largest_occurrence: TailFigures,
    /// For each line, in the order of the args.
    pub lines: Vec<LineExceedance>,
    /// For each step of the treaties, ascending.
    pub steps: Vec<StepExceedance>,
    /// For each treaty, in the order of the args.
    pub treaties: Vec<TreatyExceedance>,
}

/// The amounts of a line that are exceeded once in a return period, on average.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LineExceedance {
    /// Annual loss before treaties (gross AEP).
    pub gross: TailFigures,
    /// Largest occurrence in a year, before treaties (gross OEP).
    pub largest_occurrence: TailFigures,
}

/// The amounts after a step that are exceeded once in a return period, on average.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StepExceedance {
    /// Annual loss after the treaties up to and including the step (net AEP).
    pub net: TailFigures,
    /// Largest occurrence in a year, after these treaties (net OEP).
    pub largest_occurrence: TailFigures,
}

/// The amounts of a treaty that are exceeded once in a return period, on average.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TreatyExceedance {
    /// What the treaty pays in a year (AEP).
    pub ceded: TailFigures,
    /// Largest occurrence in a year, as far as the treaty covers it (OEP of its subject); null for
    /// treaties that are not by occurrence.
    pub largest_subject: Option<TailFigures>,
}

/// Figures of a line.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LineOutput {
    /// Name.
    pub name: String,
    /// Annual loss before treaties.
    pub gross: Figures,
    /// The largest occurrence of a year, before treaties.
    pub largest_occurrence: Figures,
}

/// Figures after a step.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StepOutput {
    /// The step.
    pub step: u32,
    /// Annual loss after the treaties up to and including this step.
    pub net: Figures,
    /// The largest occurrence of a year, after these treaties.
    pub largest_occurrence: Figures,
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

/// The amounts of all lines together.
struct PortfolioAmounts {
    net: QuantityStatistics,
    gross: QuantityStatistics,
    largest: QuantityStatistics,
    net_largest: QuantityStatistics,
}

/// An amount of each year, and its largest occurrence.
struct AmountPair {
    year: QuantityStatistics,
    largest: QuantityStatistics,
}

impl AmountPair {
    fn line_output(&self, name: &str, levels: &[Level]) -> LineOutput {
        LineOutput {
            name: name.to_owned(),
            gross: self.year.figures(levels),
            largest_occurrence: self.largest.figures(levels),
        }
    }

    fn step_output(&self, step: u32, levels: &[Level]) -> StepOutput {
        StepOutput { step, net: self.year.figures(levels), largest_occurrence: self.largest.figures(levels) }
    }
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
    let merged = Merged::new(portfolio, program, result);
    let last = program.steps().last().copied().unwrap_or(0);
    let portfolio_amounts = PortfolioAmounts {
        net: merged.total(),
        gross: merged.statistics(Quantity::Gross),
        largest: merged.largest(OccurrenceSubject::all_lines(0)),
        net_largest: merged.largest(OccurrenceSubject::all_lines(last)),
    };
    let PortfolioAmounts { net, gross, largest, net_largest } = &portfolio_amounts;
    let levels = &portfolio.report.levels;
    let (lines, steps) = (merged.lines(), merged.steps(net));
    RiskOutput {
        net: net.figures(levels),
        gross: gross.figures(levels),
        largest_occurrence: largest.figures(levels),
        net_largest_occurrence: net_largest.figures(levels),
        exceedance: merged.exceedance(&portfolio_amounts, &lines, &steps),
        lines: portfolio
            .lines
            .iter()
            .zip(&lines)
            .map(|(name, line)| line.line_output(name, levels))
            .collect(),
        steps: program
            .steps()
            .iter()
            .zip(&steps)
            .map(|(&step, after)| after.step_output(step, levels))
            .collect(),
        treaties: portfolio.treaties.iter().enumerate().map(|(at, t)| merged.treaty(at, t)).collect(),
        allocation: allocations(portfolio, result, levels),
        tail_exposure_surface: merged.surface(),
        diversification: merged.diversification(gross, &lines),
        capital_adequacy_signal: portfolio.capital.map(|basis| capital_signal(portfolio, basis, net)),
        checks: model_checks(&merged),
        loss_distribution: summary.distribution.clone(),
    }
}

fn level_of(return_period: u64) -> Level {
    Level::new(return_period - 1, return_period)
}

impl Merged<'_> {
    fn exceedance(
        &self,
        amounts: &PortfolioAmounts,
        lines: &[AmountPair],
        steps: &[AmountPair],
    ) -> Vec<PortfolioExceedance> {
        let treaties: Vec<_> = self.portfolio.treaties.iter().enumerate().collect();
        let treaties: Vec<_> = treaties
            .into_iter()
            .map(|(at, treaty)| (self.statistics(Quantity::Ceded(at)), self.largest_subject(treaty)))
            .collect();
        let row = |&return_period: &u64| {
            let level = level_of(return_period);
            let line = |line: &AmountPair| LineExceedance {
                gross: line.year.tail(level),
                largest_occurrence: line.largest.tail(level),
            };
            let step = |after: &AmountPair| StepExceedance {
                net: after.year.tail(level),
                largest_occurrence: after.largest.tail(level),
            };
            PortfolioExceedance {
                return_period,
                net: amounts.net.tail(level),
                gross: amounts.gross.tail(level),
                largest_occurrence: amounts.largest.tail(level),
                net_largest_occurrence: amounts.net_largest.tail(level),
                lines: lines.iter().map(line).collect(),
                steps: steps.iter().map(step).collect(),
                treaties: treaties
                    .iter()
                    .map(|(ceded, subject)| TreatyExceedance {
                        ceded: ceded.tail(level),
                        largest_subject: subject.as_ref().map(|largest| largest.tail(level)),
                    })
                    .collect(),
            }
        };
        self.portfolio.report.return_periods.iter().map(row).collect()
    }

    fn lines(&self) -> Vec<AmountPair> {
        let line = |at| AmountPair {
            year: self.statistics(Quantity::GrossLine(at)),
            largest: self.largest(OccurrenceSubject::line(at)),
        };
        (0..self.portfolio.lines.len()).map(line).collect()
    }

    fn steps(&self, total: &QuantityStatistics) -> Vec<AmountPair> {
        let steps = self.program.steps();
        let step = |(at, &step): (usize, &u32)| AmountPair {
            year: match at + 1 == steps.len() {
                true => total.clone(),
                false => self.statistics(Quantity::NetAfterSteps(at + 1)),
            },
            largest: self.largest(OccurrenceSubject::all_lines(step)),
        };
        steps.iter().enumerate().map(step).collect()
    }

    fn surface(&self) -> Vec<SurfaceRow> {
        let return_periods = &self.portfolio.report.return_periods;
        let levels: Vec<Level> = return_periods.iter().map(|&period| level_of(period)).collect();
        let rows = allocations(self.portfolio, self.result, &levels).into_iter();
        let rows = return_periods.iter().zip(rows);
        rows.map(|(&return_period, row)| SurfaceRow { return_period, lines: row.tail.lines }).collect()
    }

    fn diversification(&self, gross: &QuantityStatistics, lines: &[AmountPair]) -> Diversification {
        let level = self.portfolio.capital.map_or(DIVERSIFICATION_LEVEL, |basis| basis.level);
        let sum_of_lines = lines.iter().fold(0.0, |sum, line| sum + line.year.tail(level).var);
        let together = gross.tail(level).var;
        let benefit = (sum_of_lines > 0.0).then(|| (sum_of_lines - together) / sum_of_lines);
        Diversification { level: level.to_f64(), sum_of_lines, together, benefit }
    }
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
