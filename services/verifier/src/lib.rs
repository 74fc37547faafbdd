//! The verifier service: re-executes shards and judges the results that workers returned. It
//! prefers other hardware, or at least another backend, than the one that produced the result. If
//! the results differ, the scalar reference decides, and an agent whose result is refuted goes into
//! quarantine. A verifier also executes shards that workers failed to execute, in a child process
//! if it has a command for one, so that a shard that crashes its process does not crash the
//! verifier.
//!
//! [`run`] is the entry point; [`VerifierSettings`] are what an operator chooses.

mod isolated_execution;
mod verifier;

pub use self::{
    isolated_execution::{IsolatedExecutor, IsolatedFailure, execute_in_child},
    verifier::{VerifierSettings, run},
};
