//! The aggregator: takes in a job's results as they come, has some of them verified, writes the artifacts, and ends jobs.
//! Terminal records are written here and nowhere else.
//!
//! Reading order: [`aggregator`] → [`intake`] → [`fold`] → [`complete`] → [`end`].

pub mod aggregator;
mod complete;
mod end;
pub mod fold;
mod intake;

pub use self::aggregator::{AggregatorSettings, JobCompletion, run};
