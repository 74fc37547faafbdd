//! The artifacts of a completed job: pure functions of a request, its merged result and the record
//! of its execution. No I/O, no clock, no environment, and no store: the caller decides where the
//! documents are stored.
//!
//! Reading order: [`job`] → [`job_result`] → [`document`] → [`completed_job`]; then what documents
//! and texts say: [`number_format`] → [`result_tables`] → [`histogram`] → [`exceedance_curves`].

pub mod completed_job;
pub mod document;
mod ept_csv;
pub mod exceedance_curves;
mod execution_documents;
pub mod histogram;
pub mod job;
pub mod job_result;
pub mod number_format;
mod report_page;
mod reproducible_document;
pub mod result_tables;

pub use self::{
    completed_job::CompletedJob,
    document::{Document, canonical_json},
    execution_documents::to_milliseconds,
    job::Job,
    job_result::JobResult,
    reproducible_document::reproducible_document,
};
