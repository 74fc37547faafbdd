//! One iteration of the scalar reference: what it consists of, and the trait that receives it. A
//! result, the figures of a year and the trace of a year are all made by observers of one
//! execution.

use forge_contract::{
    program::{MAX_AMOUNT, Program},
    treaty::IndexSet,
};

use crate::treaties::{CessionObserver, ClosedYear, sum_of};

/// What happened in one iteration.
pub(crate) struct IterationOutcome {
    /// For each group, the number of its occurrences.
    pub(crate) counts: Vec<u64>,
    /// For each group, the sum of its amounts.
    pub(crate) group_totals: Vec<u64>,
    /// The largest occurrence, before treaties.
    pub(crate) largest: u64,
    /// The year after its treaties.
    pub(crate) year: ClosedYear,
}

/// An amount that was drawn for a component.
pub(crate) struct ComponentAmount {
    /// Number of the component in the program.
    pub(crate) component: usize,
    /// Number of the component's line.
    pub(crate) line: usize,
    /// The loss before the terms of the policy.
    pub(crate) loss: u64,
    /// What the policy pays for the loss.
    pub(crate) paid: u64,
    /// Whether the loss reaches the limit of the policy.
    pub(crate) is_capped: bool,
}

/// Receives what happens in an iteration, in the order of execution: occurrences, each with its
/// amounts and what treaties take of them, then what treaties take of the year's amount.
pub(crate) trait IterationObserver: CessionObserver {
    /// An occurrence of a group starts, or its amounts of the year.
    fn start_occurrence(&mut self, _group: usize) {}
    /// A component has an amount.
    fn add_amount(&mut self, amount: &ComponentAmount);
    /// The occurrences have ended. Treaties on the year's amount follow.
    fn start_closing(&mut self) {}
    /// The iteration has ended.
    fn end_iteration(&mut self, outcome: &IterationOutcome);
}

/// An amount as results record it: saturated.
pub(crate) fn recorded(amount: u64) -> u64 {
    amount.min(MAX_AMOUNT)
}

impl IterationOutcome {
    /// The total: the net amount of all lines and the base, at most the cap.
    pub(crate) fn total(&self, program: &Program) -> u64 {
        recorded(program.base + sum_of(self.year.net(), IndexSet::ALL)).min(program.cap)
    }

    /// The largest occurrence as results record it, at most the cap.
    pub(crate) fn recorded_largest(&self, program: &Program) -> u64 {
        recorded(self.largest).min(program.cap)
    }
}
