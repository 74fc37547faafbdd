//! The computation of Forge Kernel, pure: args become a program and a plan, backends execute its
//! shards, and their results are merged, tested for convergence and summarised.
//!
//! Every output depends on the input alone, on every machine. Nothing here does I/O, starts a
//! thread, or reads a clock or the environment; the platform's math library is never called (see
//! `clippy.toml`).
//!
//! # Example
//!
//! ```
//! use forge_kernel::{
//!     backend::{Backend, simd::Simd},
//!     convergence::StopReason,
//!     reduction::Reduction,
//!     request::Request,
//! };
//!
//! let envelope = br#"{
//!     "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
//!     "args": {
//!         "iterations": 1000, "claim_freq": 2, "claim_severity_mu": 6, "claim_severity_sig": 1
//!     }
//! }"#;
//! let request = Request::from_json(envelope)?;
//! let backend = Simd::new();
//! let mut reduction = Reduction::new(&request.program);
//! for id in request.plan.shards() {
//!     for result in backend.execute(&request.program, &[request.shard(id)], &())? {
//!         reduction.add(&result)?;
//!     }
//! }
//! let document = request.result_document(&reduction.result(), StopReason::BudgetExhausted);
//! assert_eq!(document.iterations.performed, 1000);
//! assert!(document.output["mean_loss"].as_f64() > Some(0.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! A module imports only modules above it in this list (the workspace's architecture tests reject
//! import cycles):
//!
//! 1. [`double_double`], 106-bit floating-point arithmetic
//! 2. [`dyadic`], exact numbers
//! 3. `quantile_steps`, quantile functions by their differential equation
//! 4. [`normal`], the standard normal quantile function
//! 5. [`standard_quantiles`], the quantile functions at the nodes of tables
//! 6. [`gamma`], [`beta`] and [`inverse_gaussian`], quantile functions of those laws
//! 7. [`tables`], quantile tables
//! 8. [`severities`], the quantile tables of amounts
//! 9. [`counts`], the count tables of numbers of occurrences
//! 10. [`treaties`], reinsurance treaties on a year's amounts
//! 11. [`statistics`], order statistics, tail values and confidence intervals of a merged result
//! 12. [`seed_tree`], the seeds of shards and leaves
//! 13. [`plan`], a run's shards and checkpoints
//! 14. [`result_shape`], `details_reduction` and [`reduction`], merging shard results
//! 15. [`job_key`], the secret of a job: task ids, and the order in which shards are verified
//! 16. [`verification`], which shards are executed a second time
//! 17. [`summary`], a result's figures, in units of the args
//! 18. [`convergence`], whether a run may end before its budget
//! 19. [`backend`], execution of shards: the scalar reference and SIMD
//! 20. [`years`], single years, computed again from their numbers
//! 21. [`table_moments`], moments of what a program's tables give
//! 22. [`tail_sums`], sums over the years of a tail
//! 23. [`workload`], the model of each op, one file per profile
//! 24. [`result_document`], `result.json`
//! 25. [`request`], a validated envelope with its program and plan
//! 26. `testing`, support for tests of backends (feature `testing`)

pub mod backend;
pub mod beta;
pub mod convergence;
pub mod counts;
pub(crate) mod details_reduction;
pub mod double_double;
pub mod dyadic;
pub mod gamma;
pub mod inverse_gaussian;
pub mod job_key;
pub mod normal;
pub mod occurrence_tallies;
pub mod plan;
pub(crate) mod quantile_steps;
pub mod reduction;
pub mod request;
pub mod result_document;
pub mod result_shape;
pub mod result_size;
pub mod seed_tree;
pub mod severities;
pub mod standard_quantiles;
pub mod statistics;
pub mod summary;
pub mod table_moments;
pub mod tables;
pub mod tail_sums;
#[cfg(feature = "testing")]
pub mod testing;
pub mod treaties;
pub mod verification;
pub mod workload;
pub mod years;

/// The kernel version. Results are comparable only within one version: a change that would alter a
/// released test vector requires a new version.
pub const KERNEL: u32 = 1;
