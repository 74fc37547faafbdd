//! Profile `risk.compound.v1`: one iteration is one year of a portfolio of several lines, in the
//! collective risk model, with reinsurance treaties.
//!
//! A group is a source of counts. Each of its occurrences is a claim of one component or strikes
//! several components at once; a component has a severity, policy terms and a line. Treaties cover
//! lines in inuring steps.
//!
//! Args are read and validated, resolved to a [`Portfolio`], and compiled to a program.

pub mod allocation;
pub mod args;
mod checks;
pub mod commissions;
pub mod compile;
mod conversions;
pub mod counts;
pub mod event_tables;
pub mod examples;
pub mod families;
mod fields;
pub mod figures;
mod formula;
pub mod highest_moments;
pub mod listed_severities;
mod merged;
pub mod model;
pub mod model_checks;
mod other_names;
pub mod output;
pub mod portfolio;
pub mod ranges;
mod read;
mod read_events;
mod read_treaties;
pub mod resolve;
pub mod severities;
#[cfg(test)]
mod tests;
pub mod treaty_args;
mod treaty_output;
mod treaty_subjects;
mod treaty_warnings;
mod warnings;

pub use self::{args::RiskArgs, model::PROFILE, portfolio::Portfolio};
