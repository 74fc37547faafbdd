//! The rows of single years: the year loss table, and the period loss table of its occurrences.

use forge_contract::program::{MAX_AMOUNT, Occurrence, Program};
use forge_kernel::years::{LineTrace, YearTrace};
use forge_ord::{OrdTable, OrdValue};

use super::selection::{LossPerspective, SummarySet};

/// Occurrences of a group are numbered from here on, times the number of the group.
const EVENTS_OF_GROUP: usize = 1_000_000;

/// A loss of a year, or of an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossRow {
    /// Number of the year, from 1 on.
    period: i32,
    /// Id of the occurrence; 0 in a year loss table.
    event: i32,
    /// Number of the summary, from 1 on.
    summary: i32,
    /// The loss, in minor units.
    loss: u64,
    /// The largest occurrence of the year, in minor units; 0 in a period loss table.
    largest: u64,
}

impl LossRow {
    /// Writes the row as one of a table; `weight` is that of a year.
    pub fn values(&self, table: OrdTable, weight: f64) -> Vec<OrdValue> {
        let (period, summary) = (OrdValue::Integer(self.period), OrdValue::Integer(self.summary));
        let (loss, one) = (OrdValue::Amount(self.loss), OrdValue::Integer(1));
        match table {
            OrdTable::Splt => {
                let midnight = OrdValue::Integer(0);
                let weight = OrdValue::Real(weight);
                let event = OrdValue::Integer(self.event);
                let no_exposure = OrdValue::Amount(0);
                vec![
                    period,
                    weight,
                    event,
                    period,
                    one,
                    one,
                    midnight,
                    midnight,
                    summary,
                    one,
                    loss,
                    no_exposure,
                ]
            }
            _ => vec![period, summary, loss, OrdValue::Amount(self.largest)],
        }
    }
}

/// How the rows of one file follow from a year.
#[derive(Debug, Clone)]
pub struct YearRows {
    table: OrdTable,
    perspective: LossPerspective,
    set: SummarySet,
    summaries: usize,
    /// For each group, whether it has amounts of the year in place of occurrences.
    is_annual: Vec<bool>,
    cap: u64,
    lines: u32,
}

impl YearRows {
    /// The rows of a table of years.
    pub fn new(table: OrdTable, perspective: LossPerspective, set: SummarySet, program: &Program) -> Self {
        let summaries = match set {
            SummarySet::All => 1,
            SummarySet::Line => program.lines as usize,
            SummarySet::Treaty => program.treaties.len(),
        };
        let is_annual = program.groups.iter().map(|group| group.occurrence == Occurrence::Annual).collect();
        Self { table, perspective, set, summaries, is_annual, cap: program.cap, lines: program.lines }
    }

    /// Number of summaries.
    pub fn summaries(&self) -> usize {
        self.summaries
    }

    /// Adds the rows of a year that have a loss.
    pub fn add(&self, year: &YearTrace, rows: &mut Vec<LossRow>) {
        match self.table {
            OrdTable::Splt => self.add_occurrences(year, rows),
            _ => self.add_year(year, rows),
        }
    }

    fn add_year(&self, year: &YearTrace, rows: &mut Vec<LossRow>) {
        let mut losses = vec![0; self.summaries];
        let mut largest = vec![0; self.summaries];
        for occurrence in &year.occurrences {
            let amounts = self.amounts_of(&occurrence.lines);
            for (at, amount) in amounts.into_iter().enumerate() {
                losses[at] += amount;
                if !self.is_annual[occurrence.group] {
                    largest[at] = amount.max(largest[at]);
                }
            }
        }
        for line in &year.closing {
            // The lines have lost at least what treaties take of them.
            self.visit_line(line, |at, gained, taken| losses[at] = losses[at] + gained - taken);
        }
        if self.perspective == LossPerspective::Net && (self.set == SummarySet::All || self.lines == 1) {
            losses[0] = year.figures.net.into();
        }
        for (at, (loss, largest)) in losses.into_iter().zip(largest).enumerate() {
            let (loss, largest) = (recorded(loss), recorded(largest).min(self.largest_cap()));
            self.push(year, 0, at, (loss, largest), rows);
        }
    }

    /// Results cut the largest occurrence as they cut the total.
    fn largest_cap(&self) -> u64 {
        if self.perspective == LossPerspective::Net { self.cap } else { MAX_AMOUNT }
    }

    fn add_occurrences(&self, year: &YearTrace, rows: &mut Vec<LossRow>) {
        let mut occurrences = vec![0; self.is_annual.len()];
        for occurrence in &year.occurrences {
            let group = occurrence.group;
            occurrences[group] += usize::from(!self.is_annual[group]);
            let event = (group + 1) * EVENTS_OF_GROUP + occurrences[group];
            for (at, amount) in self.amounts_of(&occurrence.lines).into_iter().enumerate() {
                self.push(year, event, at, (recorded(amount), 0), rows);
            }
        }
    }

    fn push(
        &self,
        year: &YearTrace,
        event: usize,
        summary: usize,
        (loss, largest): (u64, u64),
        rows: &mut Vec<LossRow>,
    ) {
        if loss > 0 {
            let period = (year.figures.year + 1) as i32;
            rows.push(LossRow { period, event: event as i32, summary: summary as i32 + 1, loss, largest });
        }
    }

    /// For each summary, the amount of an occurrence.
    fn amounts_of(&self, lines: &[LineTrace]) -> Vec<u128> {
        let mut amounts = vec![0; self.summaries];
        for line in lines {
            self.visit_line(line, |at, gained, taken| amounts[at] = amounts[at] + gained - taken);
        }
        amounts
    }

    /// Passes on each summary that a line belongs to, with what the line adds to it and takes from
    /// it.
    fn visit_line(&self, line: &LineTrace, mut visit: impl FnMut(usize, u128, u128)) {
        let summary = if self.set == SummarySet::Line { line.line } else { 0 };
        let (gross, ceded) = (u128::from(line.gross), u128::from(line.all_ceded()));
        match (self.perspective, self.set) {
            (LossPerspective::Gross, _) => visit(summary, gross, 0),
            (LossPerspective::Net, _) => visit(summary, gross, ceded),
            (LossPerspective::Ceded, SummarySet::Treaty) => {
                line.ceded.iter().enumerate().for_each(|(treaty, &part)| visit(treaty, part.into(), 0));
            }
            (LossPerspective::Ceded, _) => visit(summary, ceded, 0),
        }
    }
}

/// An amount as results record it: saturated.
fn recorded(amount: u128) -> u64 {
    amount.min(MAX_AMOUNT.into()) as u64
}
