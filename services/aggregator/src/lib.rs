//! The aggregator collects a job's results, has a sample of them verified, publishes the result and
//! ends the job. It is the only service that writes terminal records, and it executes no shard.
//!
//! ```
//! use std::sync::Arc;
//!
//! use forge_aggregator::{AggregatorSettings, run};
//! use forge_bus::{Bus, BusError, MemoryBus, topology::TopologySettings};
//! use forge_contract::agent::Identity;
//! use forge_service::Metrics;
//! use forge_store::Store;
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BusError> {
//! let bus = MemoryBus::new(TopologySettings::default());
//! bus.prepare().await?;
//! let store = Arc::new(Store::in_memory());
//! let identity = Identity::from_random([1; 32]);
//! let (settings, metrics) = (AggregatorSettings::default(), Metrics::new("forge-aggregator"));
//! let stop = CancellationToken::new();
//! let service = tokio::spawn(run(bus, store, identity, settings, metrics, stop.clone()));
//! stop.cancel();
//! service.await.expect("the aggregator does not panic")
//! # }
//! ```
//!
//! Reading order, where each module uses only modules above it:
//!
//! - `kept_results`: the shard results that are kept for `shards.bin`.
//! - `acceptance`: checks one result against the job; pure.
//! - `reduction`: decides which results are accepted, merges them, and decides which of them to
//!   verify; pure.
//! - `pool_quarantine`: puts pools with several refuted agents into quarantine.
//! - `discarded_results`: removes results that do not count.
//! - `verdict_wait`: notices that a job waits for verifiers; pure apart from the clock.
//! - `space_wait`: notices that a job waits for space for results.
//! - `reduction_slots`: whether other jobs wait for what a reduction holds.
//! - `result_collector`: feeds the results on the bus to the reduction.
//! - `store_retry`: retries store operations for a limited time.
//! - `manifest_log`: appends to the log of the store.
//! - `publish_error`: why a result could not be published.
//! - `earlier_manifest`: decides whether a manifest that is there already is the job's.
//! - `publisher`: stores the artifacts and the manifest, and records it in the log.
//! - `termination`: writes terminal records and removes a job's messages.
//! - `job_reducer`: takes one job through all of these.
//! - `janitor`: purges messages of jobs that are not being reduced.
//! - `aggregator`: settings, wiring, and the dispatch of orders.

mod acceptance;
mod aggregator;
mod discarded_results;
mod earlier_manifest;
mod index_content;
mod janitor;
mod job_reducer;
mod kept_results;
mod manifest_log;
mod pool_quarantine;
mod publish_error;
mod publisher;
mod reduction;
mod reduction_slots;
mod reported_shards;
mod result_collector;
mod space_wait;
mod store_retry;
mod termination;
#[cfg(test)]
mod test_allocator;
#[cfg(test)]
mod test_job;
mod verdict_wait;

pub use self::{
    aggregator::{AggregatorSettings, run},
    index_content::index_content,
    job_reducer::JobCompletion,
};
