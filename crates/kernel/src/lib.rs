//! The verbs of Forge Kernel, pure: args become a program and a plan, shards are executed, results are merged, tested
//! for convergence and reported. No I/O, no clock, no environment, no threads of its own.
//!
//! Reading order: [`request`] → [`workload`] → [`tables`] → [`plan`] → [`seed`] → [`execute`] → [`reduce`] →
//! [`converge`] → [`statistics`] → [`report`].

pub mod converge;
pub mod dd;
pub mod execute;
pub mod normal;
pub mod plan;
pub mod reduce;
pub mod report;
pub mod request;
pub mod seed;
pub mod statistics;
pub mod tables;
pub mod verify;
pub mod workload;

/// The kernel version. Results are equal only under one version; anything that would change a released test vector
/// is a new one.
pub const KERNEL: u32 = 1;
