//! The figures of each year of a leaf.

use forge_contract::{
    digest::Digest,
    program::{Occurrence, Program},
    shard::{LEAF_ITERATIONS, TREE_DEPTH},
    shard_result::ShardResult,
    treaty::{IndexSet, Treaty, TreatyTerms},
};

use crate::{
    backend::{
        ExecutionControl, ExecutionError,
        iteration::{ComponentAmount, IterationObserver, IterationOutcome, recorded},
        result_builder::ResultBuilder,
        scalar::{Interpreter, report_interval},
    },
    seed_tree::descendant,
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

/// Executes the first `iterations` years of a leaf by the scalar reference, reports the figures of
/// each of them in order, and returns the result of all. `root` is the root of the run's seed tree.
///
/// # Errors
/// [`ExecutionError::Cancelled`] if `control` cancels the execution.
pub fn execute_leaf(
    program: &Program,
    root: Digest,
    leaf: u64,
    iterations: u64,
    control: &dyn ExecutionControl,
    on_year: impl FnMut(&YearFigures),
) -> Result<ShardResult, ExecutionError> {
    let seed = leaf_seed(root, leaf);
    let interpreter = Interpreter::new(program);
    let mut observer = LeafObserver {
        result: ResultBuilder::new(program),
        figures: FiguresObserver::new(program, leaf * LEAF_ITERATIONS),
        on_year,
    };
    let interval = report_interval(program);
    for start in (0..iterations).step_by(interval as usize) {
        let end = iterations.min(start + interval);
        (start..end).for_each(|iteration| interpreter.execute(seed, iteration, &mut observer));
        if control.advance(end - start).is_break() {
            return Err(ExecutionError::Cancelled);
        }
    }
    Ok(observer.result.finish())
}

/// The seed of a leaf.
pub(super) fn leaf_seed(root: Digest, leaf: u64) -> Digest {
    descendant(root, leaf, TREE_DEPTH)
}

/// Makes the result of a leaf and the figures of its years in one execution.
struct LeafObserver<'a, F> {
    result: ResultBuilder<'a>,
    figures: FiguresObserver<'a>,
    on_year: F,
}

impl<F> CessionObserver for LeafObserver<'_, F> {
    fn add_cession(&mut self, treaty: usize, line: usize, amount: u64) {
        self.figures.add_cession(treaty, line, amount);
    }
}

impl<F: FnMut(&YearFigures)> IterationObserver for LeafObserver<'_, F> {
    fn start_occurrence(&mut self, group: usize) {
        self.figures.start_occurrence(group);
    }

    fn add_amount(&mut self, amount: &ComponentAmount) {
        self.result.add_amount(amount);
        self.figures.add_amount(amount);
    }

    fn start_closing(&mut self) {
        self.figures.start_closing();
    }

    fn end_iteration(&mut self, outcome: &IterationOutcome) {
        self.result.end_iteration(outcome);
        let figures = self.figures.end_year(outcome);
        (self.on_year)(&figures);
    }
}

/// Counts what the outcome of an iteration does not state. Call [`FiguresObserver::end_year`] at
/// the end of each iteration.
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

    pub(super) fn start_occurrence(&mut self, group: usize) {
        self.end_occurrence();
        self.group = Some(group);
    }

    pub(super) fn add_amount(&mut self, amount: &ComponentAmount) {
        self.amounts[amount.line] += amount.paid;
    }

    pub(super) fn add_cession(&mut self, treaty: usize, _line: usize, amount: u64) {
        self.pays[treaty] |= amount > 0;
    }

    pub(super) fn start_closing(&mut self) {
        self.end_occurrence();
        self.group = None;
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

    /// The figures of the year in progress. The next year starts.
    pub(super) fn end_year(&mut self, outcome: &IterationOutcome) -> YearFigures {
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
