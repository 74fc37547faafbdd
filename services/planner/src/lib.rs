//! The planner service: validates submitted envelopes, charges them to their submitters' quotas,
//! plans them and dispatches their shards to workers. It writes no terminal job record: when a job
//! must end early, it requests that from an aggregator.
//!
//! [`run`] wires the components together. Each component holds only the dependencies it uses, and
//! leaves its decisions to pure functions and state machines.
//!
//! # Code map
//!
//! The modules in the order in which a submission passes them; each describes itself:
//!
//! - `settings`, `planner`
//! - `submission_handler`, `job_slots`
//! - `admission`, `envelope_reader`, `submission_record`, `submission_trace`, `admitted_job`
//! - `quota_ledger`, `quota_policy`
//! - `job_driver`: `start_decision`, `deadline`, `job_preparer`, `dispatch_loop`, `dispatcher`,
//!   `dispatch_window`, `space_watch`, `starvation`, `dispatch_message`, `dispatch_failure`
//! - `straggler_purge`, `end_requester`, `settlement`
//! - `dead_letters`
//! - `job_lookup`, `api`
//!
//! # Example
//!
//! A planner on an in-process bus; stopping it makes [`run`] return.
//!
//! ```
//! use forge_bus::{Bus, MemoryBus, topology::TopologySettings};
//! use forge_planner::PlannerSettings;
//! use forge_service::Metrics;
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), forge_bus::BusError> {
//! let bus = MemoryBus::new(TopologySettings::default());
//! bus.prepare().await?;
//! let (metrics, stop) = (Metrics::new("forge"), CancellationToken::new());
//! let planner = forge_planner::run(bus, PlannerSettings::default(), metrics, stop.clone());
//! stop.cancel();
//! planner.await
//! # }
//! ```

mod admission;
mod admitted_job;
mod api;
mod dead_letters;
mod end_requester;
mod envelope_reader;
mod job_driver;
mod job_lookup;
mod job_slots;
mod planner;
mod quota_ledger;
mod quota_policy;
mod record_space;
mod settings;
mod settlement;
mod straggler_purge;
mod submission_handler;
mod submission_record;
mod submission_trace;
#[cfg(test)]
mod test_fixture;

pub use self::{planner::run, settings::PlannerSettings};
