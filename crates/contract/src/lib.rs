//! The nouns of Forge Kernel: what is said between a submitter, a planner, workers, a verifier, an aggregator
//! and an auditor. Types, strict reading and canonical bytes; no I/O, no clock, no randomness, no execution.
//!
//! Reading order: [`envelope`] → [`plan`] → [`program`] → [`shard`] → [`shard_result`] → [`task`] →
//! [`verdict`] → [`job`] → [`artifact`]; [`quota`].

pub mod agent;
pub mod artifact;
pub mod canonical;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod ids;
pub mod job;
pub mod merkle;
pub mod plan;
pub mod program;
pub mod quota;
pub mod shard;
pub mod shard_result;
pub mod strict;
pub mod task;
pub mod verdict;
pub mod wire;
