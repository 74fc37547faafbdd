//! The trait of what observes years while they are executed.

use crate::{
    backend::iteration::{ComponentAmount, IterationOutcome},
    treaties::CessionObserver,
};

/// Makes something of each year that is executed.
pub(super) trait YearObserver: CessionObserver {
    /// What is made of a year.
    type Year;
    /// An occurrence of a group starts, or its amounts of the year.
    fn start_occurrence(&mut self, group: usize);
    /// A component has an amount.
    fn add_amount(&mut self, amount: &ComponentAmount);
    /// The occurrences have ended. Treaties on the year's amount follow.
    fn start_closing(&mut self);
    /// The year has ended. The next one starts.
    fn end_year(&mut self, outcome: &IterationOutcome) -> Self::Year;
}
