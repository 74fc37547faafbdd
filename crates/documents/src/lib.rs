//! The artifacts of a completed job: pure functions of a request, its merged result and the record of its execution. No
//! I/O, no clock, no environment, and no store: who keeps the documents where is the caller's business.
//!
//! Reading order: [`job`] → [`figures`] → [`document`] → [`outcome`]; then what documents and texts say: [`number`] →
//! [`tables`] → [`histogram`] → [`curve`].

pub mod curve;
pub mod document;
mod ept;
pub mod figures;
pub mod histogram;
pub mod job;
pub mod number;
pub mod outcome;
mod records;
mod report;
pub mod tables;

pub use self::{
    document::{Document, canonical},
    figures::Figures,
    job::Job,
    outcome::Outcome,
    records::milliseconds,
};
