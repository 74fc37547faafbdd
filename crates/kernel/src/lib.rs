//! The verbs of Forge Kernel, pure: args become a program and a plan, shards are executed, results are merged, tested
//! for convergence and reported. No I/O, no clock, no environment, no threads of its own.
//!
//! Modules, each depending on those above it only: [`double_double`], [`normal`], [`tables`], [`statistics`],
//! [`seed_tree`], [`plan`], [`reduction`], [`verification`], [`summary`], [`convergence`], [`workload`],
//! [`result_document`], [`request`], [`backend`], `testing`.

pub mod backend;
pub mod convergence;
pub mod double_double;
pub mod normal;
pub mod plan;
pub mod reduction;
pub mod request;
pub mod result_document;
pub mod seed_tree;
pub mod statistics;
pub mod summary;
pub mod tables;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verification;
pub mod workload;

/// The kernel version. Results are equal only under one version; anything that would change a released test vector
/// is a new one.
pub const KERNEL: u32 = 1;
