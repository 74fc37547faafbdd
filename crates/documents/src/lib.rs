//! The artifacts of a completed job as bytes, computed from the request, the merged shard results
//! and the record of their execution. Pure: no I/O, no clock and no environment. The caller decides
//! where artifacts are stored.
//!
//! Reading order: [`job`] → [`job_result`] → [`document`] → [`completed_job`]; then the parts that
//! the report page and the terminal summary share: [`number_format`] → [`result_tables`] →
//! [`histogram`] → [`exceedance_curves`].
//!
//! # Example
//! Executes a small job on this thread and renders its report:
//!
//! ```
//! use forge_contract::envelope::ArtifactKind;
//! use forge_documents::{Job, JobResult, reproducible_document};
//! use forge_kernel::{
//!     convergence::StopReason,
//!     backend::{Backend, scalar::Scalar},
//!     reduction::Reduction,
//!     request::Request,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let envelope = br#"{
//!     "op": {"name": "mc", "version": 1, "profile": "eta.v1"},
//!     "args": {"iterations": 1000, "base_eta": 30, "traffic_mean": 5, "traffic_std": 2}
//! }"#;
//! let job = Job::new(Request::from_json(envelope)?);
//! let request = &job.request;
//! let mut reduction = Reduction::new(&request.program);
//! for shard in request.plan.shards() {
//!     let results = Scalar.execute(&request.program, &[request.shard(shard)], &())?;
//!     reduction.add(&results[0])?;
//! }
//! let result = JobResult::new(request, reduction.result(), StopReason::BudgetExhausted);
//! let report = reproducible_document(ArtifactKind::ReportHtml, request, &result);
//! assert_eq!(report.map(|report| report.name), Some("report.html"));
//! # Ok(())
//! # }
//! ```

pub mod completed_job;
pub mod document;
mod ept_csv;
pub mod exceedance_curves;
mod execution_documents;
mod headline_figures;
pub mod histogram;
pub mod job;
pub mod job_result;
pub mod number_format;
pub mod portfolio_tables;
mod report_page;
mod reproducible_document;
pub mod result_tables;
mod saturation;
pub mod tail_value_intervals;

pub use self::{
    completed_job::{CompletedJob, headline},
    document::{Document, artifact_name, canonical_json},
    execution_documents::to_milliseconds,
    headline_figures::{headline_figures, profile_figures, record_figures, state_label},
    job::Job,
    job_result::JobResult,
    report_page::{CHART_TEXT_HEIGHT, NARROW_CHART_TEXT_HEIGHT, stored_exceedance_chart},
    reproducible_document::reproducible_document,
};
