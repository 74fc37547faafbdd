//! The verbs of Forge Kernel, pure: args become a program and a plan, shards are executed, results are merged, tested
//! for convergence and reported. No I/O, no clock, no environment, no threads of its own.
//!
//! Reading order: [`workload`] → [`seed`] → [`plan`] → [`tables`] → [`execute`] → [`reduce`] → [`converge`] → [`report`].

pub mod dd;
pub mod execute;
pub mod normal;
pub mod plan;
pub mod reduce;
pub mod seed;
pub mod statistics;
pub mod tables;
