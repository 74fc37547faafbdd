//! The services as commands. Each command reads its settings, connects to NATS and the store, and
//! runs its service until a signal stops it. The services themselves are crates of their own.
//!
//! Reading order: [`service_host`] → [`planner`], [`worker`], [`verifier`], [`aggregator`] →
//! [`console`] → [`up`].

mod aggregator;
mod console;
mod execute_shard;
mod nats_server;
mod planner;
mod service_host;
mod settings;
mod up;
mod verifier;
mod worker;

pub use self::{
    aggregator::AggregatorArgs,
    console::ConsoleArgs,
    execute_shard::ExecuteShardArgs,
    planner::PlannerArgs,
    settings::{is_default, print_config},
    up::UpArgs,
    verifier::VerifierArgs,
    worker::{WorkerArgs, parse_worker_pool},
};

/// The function that runs each command.
pub mod commands {
    pub use super::{
        aggregator::execute as aggregator, console::execute as console,
        execute_shard::execute as execute_shard, planner::execute as planner, up::execute as up,
        verifier::execute as verifier, worker::execute as worker,
    };
}
