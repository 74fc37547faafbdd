//! What every service of Forge Kernel shares: the loop that receives a message, hands it to the service's handler and settles
//! it; executing shards and signing their results; job records, the registry of agents, programs; configuration, telemetry,
//! metrics, health and shutdown. It starts nothing by itself, and decides nothing about a job.
//!
//! Reading order: [`config`] → [`telemetry`] → [`metrics`] → [`queue`] → [`executor`] → [`outcomes`] →
//! [`orders`] → [`records`] → [`registry`] →
//! [`programs`] → [`http`] → [`shutdown`].

pub mod config;
pub mod executor;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod orders;
pub mod outcomes;
pub mod programs;
pub mod queue;
pub mod records;
pub mod registry;
pub mod shutdown;
pub mod telemetry;

pub use self::{
    config::{ConfigError, HttpArgs, IdentityArgs, NatsArgs, TelemetryArgs},
    http::Health,
    metrics::Metrics,
    queue::{GRACE, Handler, Settlement, serve_queue},
    telemetry::{Telemetry, trace},
};
