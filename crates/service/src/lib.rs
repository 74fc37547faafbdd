//! The shared runtime of all Forge Kernel services: the message loop, shard execution, signed shard messages, job records,
//! the agent registry, the program store, configuration, telemetry, metrics, health probes and shutdown. It starts nothing
//! by itself and decides nothing about a job.

pub mod clock;
pub mod config;
pub mod executor;
pub mod gauge_reports;
pub mod http;
pub mod identity;
pub mod job_records;
pub mod job_watch;
pub mod metrics;
pub mod model_cache;
pub mod moving_average;
pub mod orders;
mod panic_message;
pub mod program_store;
pub mod queue_worker;
pub mod registry;
pub mod retry;
pub mod shard_messages;
pub mod shutdown;
pub mod telemetry;

pub use self::{
    config::{ConfigError, HttpArgs, IdentityArgs, NatsArgs, TelemetryArgs},
    http::Health,
    metrics::Metrics,
    queue_worker::{Concurrency, Handler, QueueSettings, SHUTDOWN_GRACE_PERIOD, Settlement, serve_queue},
    telemetry::{Telemetry, trace},
};
