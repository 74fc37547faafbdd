//! The figures of a year.

use forge_contract::{
    program::{Occurrence, Program},
    treaty::{IndexSet, Treaty, TreatyTerms},
};

use super::observer::YearObserver;
use crate::{
    backend::iteration::{ComponentAmount, IterationOutcome, recorded},
    treaties::{CessionObserver, TreatyYear, sum_of},
};

/// The figures of one year, in minor units, saturated as results record them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YearFigures {
    /// Number of the year in its run, from 0 on.
    pub year: u64,
    /// Sum of all lines before treaties.
    pub gross: u64,
    /// The total of the result: after treaties, with the base, at most the cap of the program.
    pub net: u64,
    /// For each line, its amount before treaties, and the number of its occurrences with a loss.
    pub lines: Vec<PartFigures>,
    /// For each group, its amount before treaties, and the number of its occurrences.
    pub groups: Vec<PartFigures>,
    /// For each treaty, what it pays, and the number of its payments: one for each occurrence that
    /// it pays for, and one where it pays for amounts of the year.
    pub treaties: Vec<PartFigures>,
    /// For each treaty, the reinstatement premium of its placed part.
    pub premiums: Vec<u64>,
    /// The largest occurrence before treaties, at most the cap of the program.
    pub largest: u64,
    /// The group of the largest occurrence, the first one of equal size; `None` without a loss by
    /// occurrence.
    pub largest_group: Option<usize>,
}

/// What a line, a group or a treaty has in a year.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartFigures {
    /// Amount, in minor units.
    pub amount: u64,
    /// Number of occurrences or payments.
    pub count: u64,
}

/// Counts what the outcome of an iteration does not state.
pub(super) struct FiguresObserver<'a> {
    program: &'a Program,
    /// Number of the year in progress.
    year: u64,
    /// Group of the occurrence in progress, or of the annual amounts; `None` before the first one,
    /// and while the year is closed.
    group: Option<usize>,
    /// For each line, its amount of the occurrence in progress.
    amounts: Vec<u64>,
    /// For each treaty, whether it pays for the occurrence in progress, or for the year.
    pays: Vec<bool>,
    line_counts: Vec<u64>,
    payments: Vec<u64>,
    largest: u64,
    largest_group: Option<usize>,
}

impl<'a> FiguresObserver<'a> {
    pub(super) fn new(program: &'a Program, first_year: u64) -> Self {
        let (lines, treaties) = (program.lines as usize, program.treaties.len());
        Self {
            program,
            year: first_year,
            group: None,
            amounts: vec![0; lines],
            pays: vec![false; treaties],
            line_counts: vec![0; lines],
            payments: vec![0; treaties],
            largest: 0,
            largest_group: None,
        }
    }

    /// Counts the occurrence in progress.
    fn end_occurrence(&mut self) {
        for (payments, pays) in self.payments.iter_mut().zip(&mut self.pays) {
            *payments += u64::from(*pays);
            *pays = false;
        }
        let is_occurrence = |group: &usize| self.program.groups[*group].occurrence != Occurrence::Annual;
        if let Some(group) = self.group.filter(is_occurrence) {
            for (count, &amount) in self.line_counts.iter_mut().zip(&self.amounts) {
                *count += u64::from(amount > 0);
            }
            let amount = self.amounts.iter().sum::<u64>();
            if amount > self.largest {
                (self.largest, self.largest_group) = (amount, Some(group));
            }
        }
        self.amounts.fill(0);
    }
}

impl CessionObserver for FiguresObserver<'_> {
    fn add_cession(&mut self, treaty: usize, _line: usize, amount: u64) {
        self.pays[treaty] |= amount > 0;
    }
}

impl YearObserver for FiguresObserver<'_> {
    type Year = YearFigures;

    fn start_occurrence(&mut self, group: usize) {
        self.end_occurrence();
        self.group = Some(group);
    }

    fn add_amount(&mut self, amount: &ComponentAmount) {
        self.amounts[amount.line] += amount.paid;
    }

    fn start_closing(&mut self) {
        self.end_occurrence();
        self.group = None;
    }

    fn end_year(&mut self, outcome: &IterationOutcome) -> YearFigures {
        self.end_occurrence();
        let (program, closed) = (self.program, &outcome.year);
        let gross = closed.after_steps(0);
        let part = |(amount, &count): (u64, &u64)| PartFigures { amount: recorded(amount), count };
        let ceded = closed.treaties.iter().map(|treaty| treaty.ceded);
        let premium = |(treaty, year): (&Treaty, &TreatyYear)| match &treaty.terms {
            TreatyTerms::OccurrenceXl(layer) => layer.reinstatement_premium(year.paid),
            _ => 0,
        };
        let figures = YearFigures {
            year: self.year,
            gross: recorded(sum_of(gross, IndexSet::ALL)),
            net: outcome.total(program),
            lines: gross.iter().copied().zip(&self.line_counts).map(part).collect(),
            groups: outcome.group_totals.iter().copied().zip(&outcome.counts).map(part).collect(),
            treaties: ceded.zip(&self.payments).map(part).collect(),
            premiums: program.treaties.iter().zip(&closed.treaties).map(premium).collect(),
            largest: outcome.recorded_largest(program),
            largest_group: self.largest_group,
        };
        self.year += 1;
        self.line_counts.fill(0);
        self.payments.fill(0);
        (self.largest, self.largest_group) = (0, None);
        figures
    }
}
