//! The worker: pulls shards for its hardware, executes them, and returns signed results. It keeps nothing and knows nothing of
//! a job but the shards it is given.
//!
//! Reading order: [`worker`] → [`in_flight`] → [`backend_breaker`].

mod backend_breaker;
mod in_flight;
pub mod worker;

pub use self::worker::{WorkerSettings, run};
