//! The worker: pulls shards for its hardware, executes them, and returns signed results. It keeps nothing and knows nothing of
//! a job but the shards it is given.
//!
//! Reading order: [`worker`] → [`shelf`] → [`pause`].

mod pause;
mod shelf;
pub mod worker;

pub use self::worker::{Settings, run};
