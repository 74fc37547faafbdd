//! The rows of tables of statistics, from the merged result of a job: the figures of `result.json`
//! and `ept.csv`, and those of each line and treaty by return period.

use forge_contract::{
    distribution::Resolution,
    occurrence_subject::OccurrenceSubject,
    program::{MAX_AMOUNT, Program},
    result_details::{Quantity, QuantityResult},
    shard_result::ShardResult,
};
use forge_documents::portfolio_tables::has_occurrences;
use forge_kernel::{
    request::Request,
    statistics::{Level, Moments, OrderStatistics},
    summary::HighestMoment,
    workload::ModelParts,
};
use forge_ord::{OrdTable, OrdValue};

use super::selection::{LossPerspective, SummarySet};

/// `EPCalc` of full uncertainty.
const FULL_UNCERTAINTY: i32 = 2;
/// `SampleType` of figures of samples.
const OF_SAMPLES: i32 = 2;
/// `EPType` of occurrence exceedance; its tail value has the next number.
const OEP: i32 = 1;
/// `EPType` of aggregate exceedance; its tail value has the next number.
const AEP: i32 = 3;

/// An amount of each year, of which a result holds the distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatedAmount {
    /// The total of the result.
    Total,
    /// A quantity of a portfolio.
    Part(Quantity),
}

/// The amounts of the summaries of a set, in order; `None` if results do not state them.
pub fn stated_amounts(
    program: &Program,
    perspective: LossPerspective,
    set: SummarySet,
) -> Option<Vec<StatedAmount>> {
    let set = if set == SummarySet::Line && program.lines == 1 { SummarySet::All } else { set };
    // Without treaties, limit and base, losses are the same before and after them.
    let is_total = program.treaties.is_empty() && program.cap == MAX_AMOUNT && program.base == 0;
    let parts: Vec<Quantity> = match (perspective, set) {
        (LossPerspective::Net, SummarySet::All) => return Some(vec![StatedAmount::Total]),
        (LossPerspective::Gross, SummarySet::All) if program.details => vec![Quantity::Gross],
        (LossPerspective::Gross, SummarySet::All) if is_total => return Some(vec![StatedAmount::Total]),
        (LossPerspective::Gross, SummarySet::Line) if program.details => {
            (0..program.lines as usize).map(Quantity::GrossLine).collect()
        }
        (LossPerspective::Ceded, SummarySet::Treaty) if program.details => {
            (0..program.treaties.len()).map(Quantity::Ceded).collect()
        }
        _ => return None,
    };
    Some(parts.into_iter().map(StatedAmount::Part).collect())
}

/// The statistics of a summary.
pub struct SummaryStatistics {
    ordered: OrderStatistics,
    moments: Moments,
    highest: HighestMoment,
    /// The largest occurrence of a year; `None` where the result does not state it.
    largest: Option<(OrderStatistics, HighestMoment)>,
}

impl SummaryStatistics {
    /// The statistics of an amount; `None` if the result lacks it.
    pub fn new(request: &Request, merged: &ShardResult, amount: StatedAmount) -> Option<Self> {
        let program = &request.program;
        let (ordered, moments) = match amount {
            StatedAmount::Total => {
                (OrderStatistics::new(&merged.total, &program.marks()), Moments::new(merged))
            }
            StatedAmount::Part(quantity) => {
                let (result, ordered) = quantity_statistics(program, merged, quantity)?;
                (ordered, Moments::of_sums(merged.iterations, result.sum, result.sum_squares))
            }
        };
        let largest = match largest_subject(program, amount).filter(|_| has_occurrences(program)) {
            Some(subject) => Some(largest_statistics(request, merged, subject)?),
            None => None,
        };
        Some(Self { ordered, moments, highest: highest_moment(&request.parts(), amount), largest })
    }
}

/// The result of a quantity, and its amounts in order; `None` if the result lacks it.
fn quantity_statistics<'a>(
    program: &Program,
    merged: &'a ShardResult,
    quantity: Quantity,
) -> Option<(&'a QuantityResult, OrderStatistics)> {
    let position = program.quantities().iter().position(|&other| other == quantity)?;
    let result = merged.details.as_ref()?.quantities.get(position)?;
    let marks = program.marks_of(quantity);
    let ordered = OrderStatistics::with_resolution(&result.distribution, &marks, Resolution::COARSE);
    Some((result, ordered))
}

/// The subject whose largest occurrence belongs to an amount; `None` where results state none, as
/// of what a treaty cedes.
fn largest_subject(program: &Program, amount: StatedAmount) -> Option<OccurrenceSubject> {
    let last_step = program.steps().last().copied().unwrap_or(0);
    match amount {
        StatedAmount::Total => Some(OccurrenceSubject::all_lines(last_step)),
        StatedAmount::Part(Quantity::Gross) => Some(OccurrenceSubject::all_lines(0)),
        StatedAmount::Part(Quantity::GrossLine(line)) => Some(OccurrenceSubject::line(line)),
        StatedAmount::Part(_) => None,
    }
}

/// The largest occurrence of a subject, as `result.json` states it.
fn largest_statistics(
    request: &Request,
    merged: &ShardResult,
    subject: OccurrenceSubject,
) -> Option<(OrderStatistics, HighestMoment)> {
    let program = &request.program;
    let normal = program.normal_subject(subject);
    let position = program.occurrence_subjects().iter().position(|&other| other == normal)?;
    let highest = request.largest_moment(normal);
    // That of all lines before treaties comes first, and has a finer distribution of its own.
    let ordered = match position {
        0 => OrderStatistics::new(&merged.largest, &program.marks()),
        _ => quantity_statistics(program, merged, Quantity::LargestOccurrence(position))?.1,
    };
    Some((ordered, highest))
}

fn highest_moment(parts: &ModelParts, amount: StatedAmount) -> HighestMoment {
    match amount {
        StatedAmount::Total => parts.net,
        StatedAmount::Part(Quantity::Gross) => parts.gross,
        StatedAmount::Part(Quantity::GrossLine(line)) => parts.lines[line].highest,
        StatedAmount::Part(Quantity::Ceded(treaty)) => parts.treaties[treaty].highest,
        // No summary has these.
        StatedAmount::Part(Quantity::NetAfterSteps(_) | Quantity::LargestOccurrence(_)) => {
            HighestMoment::None
        }
    }
}

/// The rows of a table of statistics. Figures that do not exist have no row.
pub fn statistics_rows(
    request: &Request,
    table: OrdTable,
    summaries: &[SummaryStatistics],
) -> Vec<Vec<OrdValue>> {
    let units = f64::from(request.program.units);
    let mut rows = Vec::new();
    for (summary, number) in summaries.iter().zip(1..) {
        let number = OrdValue::Integer(number);
        match table {
            OrdTable::Alt => rows.extend(average_loss(summary, units).map(|[mean, deviation, _]| {
                vec![number, OrdValue::Integer(OF_SAMPLES), OrdValue::Real(mean), OrdValue::Real(deviation)]
            })),
            OrdTable::Alct => {
                rows.extend(average_loss(summary, units).map(|figures| convergence_row(number, figures)))
            }
            OrdTable::Ept => {
                let calculation = OrdValue::Integer(FULL_UNCERTAINTY);
                add_exceedance(request, summary, [number, calculation], &mut rows);
            }
            OrdTable::Psept => {
                add_exceedance(request, summary, [number, OrdValue::Integer(1)], &mut rows);
            }
            OrdTable::Ylt | OrdTable::Splt => unreachable!("its rows are those of years"),
        }
    }
    rows
}

/// Mean, standard deviation and standard error of the mean; `None` if one of them does not exist.
fn average_loss(summary: &SummaryStatistics, units: f64) -> Option<[f64; 3]> {
    let SummaryStatistics { moments, highest, .. } = summary;
    let deviation = highest.variance(moments.variance?.sqrt())?;
    Some([moments.mean / units, deviation / units, moments.std_error? / units])
}

/// A year is one sample of one period. So all error of the mean is that of hazard, and none is that
/// of the samples of an event.
fn convergence_row(summary: OrdValue, [mean, deviation, error]: [f64; 3]) -> Vec<OrdValue> {
    let relative = if mean > 0.0 { error / mean } else { 0.0 };
    let real = OrdValue::Real;
    let of_hazard = [error * error, error, relative].map(real);
    let of_samples = [0.0; 3].map(real);
    let mut row = vec![summary, real(mean), real(deviation), OrdValue::Integer(1), real(mean), real(mean)];
    row.extend([0.0; 2].map(real));
    row.extend(of_hazard);
    row.extend(of_samples);
    row
}

/// Adds the rows of a summary by type and, within a type, from the longest return period to the
/// shortest.
fn add_exceedance(
    request: &Request,
    summary: &SummaryStatistics,
    key: [OrdValue; 2],
    rows: &mut Vec<Vec<OrdValue>>,
) {
    let units = f64::from(request.program.units);
    let periods = request.reported_tails().return_periods;
    let by_occurrence = summary.largest.as_ref().map(|(ordered, highest)| (OEP, ordered, *highest));
    let by_year = (AEP, &summary.ordered, summary.highest);
    for (first_type, ordered, highest) in by_occurrence.into_iter().chain([by_year]) {
        for (ep_type, is_tail) in [(first_type, false), (first_type + 1, true)] {
            for &period in periods.iter().rev() {
                let level = Level::new(period - 1, period);
                let amount =
                    if is_tail { highest.mean(ordered.tvar(level)) } else { Some(ordered.var(level)) };
                if let Some(amount) = amount {
                    let (period, loss) = (OrdValue::Real(period as f64), OrdValue::Real(amount / units));
                    rows.push(vec![key[0], key[1], OrdValue::Integer(ep_type), period, loss]);
                }
            }
        }
    }
}
