//! A run's result as text for people: figures with their units and uncertainty, tables and a plot. Knows no profile by
//! name: nouns and units come from [`Vocabulary`](forge_kernel::workload::Vocabulary).

pub mod bars;
pub mod plot;
pub mod summary;
pub mod table;
