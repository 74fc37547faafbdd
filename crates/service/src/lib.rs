//! The shared runtime of all Forge Kernel services: the message loop, shard execution, signed shard
//! messages, job records and keys, the agent registry, the program store, configuration,
//! telemetry, metrics, health probes and shutdown. It starts nothing by itself and decides nothing
//! about a job.
//!
//! A service implements [`Handler`] and passes it to [`serve_queue`]:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use async_trait::async_trait;
//! use forge_bus::{
//!     Bus, BusError, Delivery, MemoryBus, Message,
//!     topology::{Queue, SUBMIT_SUBJECT, TopologySettings},
//! };
//! use forge_service::{Concurrency, Handler, Metrics, QueueSettings, Settlement, serve_queue};
//! use tokio_util::sync::CancellationToken;
//!
//! /// Acknowledges a message and stops the service.
//! struct StopAfterOne(CancellationToken);
//!
//! #[async_trait]
//! impl Handler for StopAfterOne {
//!     async fn handle(&self, _: Delivery) -> Settlement {
//!         self.0.cancel();
//!         Settlement::Ack
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BusError> {
//! let bus = MemoryBus::new(TopologySettings::default());
//! bus.prepare().await?;
//! bus.publish(Message::new(SUBMIT_SUBJECT, "an envelope"), "message-1").await?;
//!
//! let (metrics, stop) = (Metrics::new("example"), CancellationToken::new());
//! let settings = QueueSettings {
//!     queue: Queue::Jobs,
//!     concurrency: Concurrency::new(8),
//!     lease: Duration::from_secs(30),
//! };
//! serve_queue(bus, settings, metrics.clone(), stop.clone(), Arc::new(StopAfterOne(stop))).await;
//! assert!(metrics.encode().contains(r#"queue="jobs",outcome="ack"} 1"#));
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`config`] → [`telemetry`] → [`metrics`] → [`queue_worker`] → [`executor`] →
//! [`shard_messages`] → [`orders`] → [`job_records`] → [`job_keys`] → [`job_watch`] →
//! [`registry`] → [`program_store`] → [`memory_budget`] → [`job_memory`] → [`http_server`] →
//! [`http`] → [`job_api`] → [`shutdown`].

pub mod blocking;
mod cache_weight;
pub mod clock;
pub mod config;
pub mod executor;
pub mod http;
pub mod http_server;
pub mod identity;
pub mod job_api;
pub mod job_keys;
pub mod job_memory;
pub mod job_records;
pub mod job_watch;
pub mod memory_budget;
pub mod metric_reports;
pub mod metrics;
pub mod model_cache;
pub mod moving_average;
pub mod orders;
mod panic_message;
pub mod program_store;
pub mod queue_worker;
pub mod random;
pub mod registry;
pub mod result_limit;
pub mod result_space;
pub mod retry;
pub mod shard_messages;
pub mod short_text;
pub mod shutdown;
pub mod telemetry;
pub mod topology_watch;

pub use self::{
    config::{ConfigError, HttpArgs, IdentityArgs, NatsArgs, TelemetryArgs, TopologyArgs},
    http::Health,
    metrics::Metrics,
    queue_worker::{Concurrency, Handler, QueueSettings, SHUTDOWN_GRACE_PERIOD, Settlement, serve_queue},
    telemetry::{Telemetry, trace},
};
