//! Single years of a run, computed again from their numbers: their figures, and every occurrence of
//! a year. Everything here observes the scalar reference, so it cannot differ from a result.
//! Selects and renders nothing.

mod execution;
mod figures;
mod observer;
mod trace;

pub use self::{
    execution::{LeafYears, execute_years, trace_year, trace_years},
    figures::{PartFigures, YearFigures},
    trace::{LineTrace, OccurrenceTrace, YearTrace},
};
