//! The trace of one year: every occurrence, with what each treaty takes of it.

use forge_contract::program::Program;

use super::{
    figures::{FiguresObserver, YearFigures},
    observer::YearObserver,
};
use crate::{
    backend::iteration::{ComponentAmount, IterationOutcome},
    treaties::CessionObserver,
};

/// Everything that happens in a year, in the order of execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YearTrace {
    /// The figures of the year.
    pub figures: YearFigures,
    /// The annual amounts of groups that have such, then the occurrences.
    pub occurrences: Vec<OccurrenceTrace>,
    /// For each line, what treaties on the year's amount take of it; its other amounts are 0.
    pub closing: Vec<LineTrace>,
}

/// One occurrence, or the annual amounts of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OccurrenceTrace {
    /// Number of the group.
    pub group: usize,
    /// The lines that are struck, in ascending order.
    pub lines: Vec<LineTrace>,
}

/// The amounts of a line, in minor units. They are exact: unlike the figures of a year, they do not
/// saturate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineTrace {
    /// Number of the line.
    pub line: usize,
    /// Loss before the terms of policies.
    pub ground_up: u64,
    /// What policies pay: the amount before treaties.
    pub gross: u64,
    /// For each treaty, what it takes.
    pub ceded: Vec<u64>,
}

impl LineTrace {
    fn new(line: usize, treaties: usize) -> Self {
        Self { line, ground_up: 0, gross: 0, ceded: vec![0; treaties] }
    }

    /// What all treaties take.
    pub fn all_ceded(&self) -> u64 {
        self.ceded.iter().sum()
    }
}

/// Collects what happens in a year.
pub(super) struct TraceObserver<'a> {
    program: &'a Program,
    figures: FiguresObserver<'a>,
    occurrences: Vec<OccurrenceTrace>,
    closing: Vec<LineTrace>,
    is_closing: bool,
}

impl<'a> TraceObserver<'a> {
    pub(super) fn new(program: &'a Program, first_year: u64) -> Self {
        Self {
            program,
            figures: FiguresObserver::new(program, first_year),
            occurrences: Vec::new(),
            closing: empty_lines(program),
            is_closing: false,
        }
    }

    /// The amounts of a line in the occurrence in progress, or in the closing of the year. Lines
    /// are struck in the order of components, and treaties take only of lines that are struck.
    fn line(&mut self, line: usize) -> Option<&mut LineTrace> {
        if self.is_closing {
            return self.closing.get_mut(line);
        }
        let lines = &mut self.occurrences.last_mut()?.lines;
        let at = lines.binary_search_by_key(&line, |trace| trace.line).unwrap_or_else(|at| {
            lines.insert(at, LineTrace::new(line, self.program.treaties.len()));
            at
        });
        lines.get_mut(at)
    }
}

fn empty_lines(program: &Program) -> Vec<LineTrace> {
    (0..program.lines as usize).map(|line| LineTrace::new(line, program.treaties.len())).collect()
}

impl CessionObserver for TraceObserver<'_> {
    fn add_cession(&mut self, treaty: usize, line: usize, amount: u64) {
        self.figures.add_cession(treaty, line, amount);
        if amount > 0
            && let Some(trace) = self.line(line)
        {
            trace.ceded[treaty] += amount;
        }
    }
}

impl YearObserver for TraceObserver<'_> {
    type Year = YearTrace;

    fn start_occurrence(&mut self, group: usize) {
        self.figures.start_occurrence(group);
        self.occurrences.push(OccurrenceTrace { group, lines: Vec::new() });
    }

    fn add_amount(&mut self, amount: &ComponentAmount) {
        self.figures.add_amount(amount);
        if let Some(trace) = self.line(amount.line) {
            trace.ground_up += amount.loss;
            trace.gross += amount.paid;
        }
    }

    fn start_closing(&mut self) {
        self.figures.start_closing();
        self.is_closing = true;
    }

    fn end_year(&mut self, outcome: &IterationOutcome) -> YearTrace {
        self.is_closing = false;
        YearTrace {
            figures: self.figures.end_year(outcome),
            occurrences: std::mem::take(&mut self.occurrences),
            closing: std::mem::replace(&mut self.closing, empty_lines(self.program)),
        }
    }
}
