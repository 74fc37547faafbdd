//! The worker service: pulls shards for its hardware, executes them, and publishes signed results.
//! A worker is stateless and untrusted; it knows nothing of a job except the shards that it
//! receives.
//!
//! [`run`] is the entry point; [`WorkerSettings`] are what an operator chooses.

mod backend_breaker;
mod in_flight;
mod worker;

pub use self::worker::{WorkerSettings, run};
