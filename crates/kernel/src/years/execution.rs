//! Executes years by the scalar reference: their result, and what an observer makes of each.

use std::ops::Range;

use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{LEAF_ITERATIONS, TREE_DEPTH},
    shard_result::ShardResult,
};

use super::{
    figures::{FiguresObserver, YearFigures},
    observer::YearObserver,
    trace::{TraceObserver, YearTrace},
};
use crate::{
    backend::{
        ExecutionControl, ExecutionError,
        iteration::{ComponentAmount, IterationObserver, IterationOutcome},
        result_builder::ResultBuilder,
        scalar::{Interpreter, report_interval},
    },
    seed_tree::descendant,
    treaties::CessionObserver,
};

/// Consecutive years of one leaf, by their numbers in the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafYears {
    leaf: u64,
    /// Numbers in the leaf.
    within: Range<u64>,
}

impl LeafYears {
    /// The years of a range, whose end is in the leaf of its start.
    ///
    /// # Panics
    /// If the range is empty or reaches into another leaf.
    pub fn new(years: Range<u64>) -> Self {
        let leaf = years.start / LEAF_ITERATIONS;
        let first = leaf * LEAF_ITERATIONS;
        assert!(years.start < years.end && years.end <= first + LEAF_ITERATIONS, "{years:?} is in one leaf");
        Self { leaf, within: years.start - first..years.end - first }
    }

    /// Number of the first year.
    pub fn start(&self) -> u64 {
        self.leaf * LEAF_ITERATIONS + self.within.start
    }
}

/// What an execution of years by the scalar reference yields of each.
pub trait ComputedYear: Sized {
    /// Executes years, reports each in order, and returns the result of all. `root` is the root of
    /// the run's seed tree. Not generic over `on_year`, so that it is compiled here, with the
    /// optimisation of this crate.
    ///
    /// # Errors
    /// [`ExecutionError::Cancelled`] if `control` cancels the execution.
    fn compute(
        program: &Program,
        root: Digest,
        years: &LeafYears,
        control: &dyn ExecutionControl,
        on_year: &mut dyn FnMut(&Self),
    ) -> Result<ShardResult, ExecutionError>;
}

impl ComputedYear for YearFigures {
    fn compute(
        program: &Program,
        root: Digest,
        years: &LeafYears,
        control: &dyn ExecutionControl,
        on_year: &mut dyn FnMut(&Self),
    ) -> Result<ShardResult, ExecutionError> {
        execute(program, root, years, control, FiguresObserver::new(program, years.start()), on_year)
    }
}

impl ComputedYear for YearTrace {
    fn compute(
        program: &Program,
        root: Digest,
        years: &LeafYears,
        control: &dyn ExecutionControl,
        on_year: &mut dyn FnMut(&Self),
    ) -> Result<ShardResult, ExecutionError> {
        execute(program, root, years, control, TraceObserver::new(program, years.start()), on_year)
    }
}

/// Executes one year by the scalar reference. `root` is the root of the run's seed tree.
pub fn trace_year(program: &Program, root: Digest, year: u64) -> YearTrace {
    let mut trace = None;
    let years = LeafYears::new(year..year + 1);
    let executed = YearTrace::compute(program, root, &years, &(), &mut |traced| trace = Some(traced.clone()));
    executed.ok().and(trace).expect("nothing cancels the execution")
}

fn execute<O: YearObserver>(
    program: &Program,
    root: Digest,
    years: &LeafYears,
    control: &dyn ExecutionControl,
    observer: O,
    on_year: &mut dyn FnMut(&O::Year),
) -> Result<ShardResult, ExecutionError> {
    let seed = descendant(root, years.leaf, TREE_DEPTH);
    let interpreter = Interpreter::new(program);
    let mut observer = ResultAndYears { result: ResultBuilder::new(program), years: observer, on_year };
    let interval = report_interval(program);
    for start in years.within.clone().step_by(interval as usize) {
        let end = years.within.end.min(start + interval);
        (start..end).for_each(|iteration| interpreter.execute(seed, iteration, &mut observer));
        if control.advance(end - start).is_break() {
            return Err(ExecutionError::Cancelled);
        }
    }
    Ok(observer.result.finish())
}

/// Makes the result of years and something of each of them in one execution.
struct ResultAndYears<'a, O: YearObserver> {
    result: ResultBuilder<'a>,
    years: O,
    on_year: &'a mut dyn FnMut(&O::Year),
}

impl<O: YearObserver> CessionObserver for ResultAndYears<'_, O> {
    fn add_left(&mut self, steps: usize, amounts: &[u64]) {
        self.result.add_left(steps, amounts);
    }

    fn add_cession(&mut self, treaty: usize, line: usize, amount: u64) {
        self.years.add_cession(treaty, line, amount);
    }
}

impl<O: YearObserver> IterationObserver for ResultAndYears<'_, O> {
    fn start_occurrence(&mut self, group: usize) {
        self.result.start_occurrence(group);
        self.years.start_occurrence(group);
    }

    fn add_amount(&mut self, amount: &ComponentAmount) {
        self.result.add_amount(amount);
        self.years.add_amount(amount);
    }

    fn start_closing(&mut self) {
        self.years.start_closing();
    }

    fn end_iteration(&mut self, outcome: &IterationOutcome) {
        self.result.end_iteration(outcome);
        let year = self.years.end_year(outcome);
        (self.on_year)(&year);
    }
}
