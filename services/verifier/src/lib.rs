//! The verifier service: re-executes shards and judges the results that workers returned. It
//! prefers other hardware, or at least another backend, than the one that produced the result. If
//! the results differ, the scalar reference decides, and an agent whose result is refuted goes into
//! quarantine. A verifier also executes shards that workers failed to execute.
//!
//! [`run`] is the entry point; [`VerifierSettings`] are what an operator chooses. The backends of a
//! [`ChildPool`] execute in child processes, so that a shard that crashes its process does not
//! crash the verifier.
//!
//! Reading order: `child_protocol` → `child_executor` → `child_process` → `isolated_backend` →
//! `verifier`.

mod child_executor;
mod child_process;
mod child_protocol;
mod isolated_backend;
mod verifier;

pub use self::{
    child_executor::execute_in_child,
    child_process::{ChildCommand, ChildFailure},
    isolated_backend::ChildPool,
    verifier::{VerifierSettings, run},
};
