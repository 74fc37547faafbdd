//! The services as commands: each reads its settings, reaches NATS and the store, and runs until it is asked to end. What a
//! service does is its own crate's business.

mod aggregator;
mod config;
mod host;
mod nats_server;
mod planner;
mod up;
mod verifier;
mod worker;

pub use self::{
    aggregator::AggregatorArgs,
    config::{StoreArgs, is_default, print_config},
    planner::PlannerArgs,
    up::UpArgs,
    verifier::VerifierArgs,
    worker::WorkerArgs,
};

/// Commands by name.
pub mod commands {
    pub use super::{
        aggregator::execute as aggregator, planner::execute as planner, up::execute as up,
        verifier::execute as verifier, worker::execute as worker,
    };
}
