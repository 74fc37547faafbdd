//! Single years of a run, computed again from their numbers: their figures, and every occurrence of
//! one year. Everything here observes the scalar reference, so it cannot differ from a result.
//! Selects and renders nothing.

mod figures;
mod trace;

pub use self::{
    figures::{PartFigures, YearFigures, execute_leaf},
    trace::{LineTrace, OccurrenceTrace, YearTrace, trace_year},
};
