//! The verifier: executes shards a second time, on other hardware or at least by another backend than the first where it has
//! one, and judges the result that a worker returned. Where they differ, the scalar reference decides, and the agent that was wrong goes into
//! quarantine. It also executes shards that workers have failed at.
//!
//! One file: [`verifier`].

pub mod verifier;

pub use self::verifier::{VerifierSettings, run};
