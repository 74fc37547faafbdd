//! Single years of a run, computed again from their numbers: their figures, and every occurrence of
//! a year. Everything here observes the scalar reference, so it cannot differ from a result.
//! Selects and renders nothing.

mod execution;
mod figures;
mod observer;
mod trace;

pub use self::{
    execution::{ComputedYear, LeafYears, trace_year},
    figures::{PartFigures, YearFigures},
    trace::{LineTrace, OccurrenceTrace, YearTrace},
};
