//! The verifier service: re-executes shards and judges the results that workers returned. It
//! prefers other hardware, or at least another backend, than the one that produced the result. If
//! the results differ, the scalar reference decides, and an agent whose result is refuted goes into
//! quarantine. A verifier also executes shards that workers failed to execute.
//!
//! [`run`] is the entry point; [`VerifierSettings`] are what an operator chooses.

mod verifier;

pub use self::verifier::{VerifierSettings, run};
