//! The planner service: validates submitted envelopes, charges them to their submitters' quotas,
//! plans them and dispatches their shards to workers. It writes no terminal job record: when a job
//! must end early, it requests that from an aggregator.
//!
//! [`run`] wires the components together. Each component holds only the dependencies it uses, and
//! leaves its decisions to pure functions and state machines, marked "pure" below.
//!
//! # Code map
//!
//! The modules in reading order, which is the path of a submission:
//!
//! 1. `settings`: the planner's settings.
//! 2. `planner`: wires the components; serves the two work queues and the API.
//! 3. `submission_handler`: receives a submission and acts on the decision about it.
//! 4. `admission`: decides whether a submission becomes a job, and records it.
//! 5. `envelope_reader`: validates and plans an envelope.
//! 6. `submission_record`: the record's initial content and its name. Pure.
//! 7. `admitted_job`: the job that admission hands to the job driver.
//! 8. `quota_ledger`: stores and charges each submitter's usage.
//! 9. `quota_policy`: decides whether a charge is permitted. Pure.
//! 10. `job_driver`: drives an admitted job until it ends, in these steps:
//!     1. `deadline`: fails the job at its timeout.
//!     2. `agent_quorum`: waits for the minimum number of agents.
//!     3. `job_preparer`: stores the program, hands the job to an aggregator, opens the replay.
//!     4. `dispatch_loop`: publishes the shards that the dispatcher returns.
//!     5. `shard_event`: parses a stored message into a result or a verdict. Pure.
//!     6. `dispatcher`: decides which shards are dispatched next. Pure.
//!     7. `dispatch_window`: limits the in-flight shards. Pure.
//!     8. `starvation`: measures how long the job has had no live agent. Pure.
//!     9. `dispatch_message`: builds the message that dispatches a shard.
//!     10. `dispatch_failure`: the reasons for which the driver fails a job. Pure.
//! 11. `straggler_purge`: removes messages that arrive after their job has ended.
//! 12. `end_requester`: asks an aggregator to end a job.
//! 13. `dead_letters`: requests the end of jobs with shards that were delivered too often.
//! 14. `job_lookup`: finds a job's record across namespaces, and pages of records.
//! 15. `api`: serves submit, status, cancel and list requests of clients.
//! 16. `settlement`: turns the result of handling a message into its settlement.
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
mod planner;
mod quota_ledger;
mod quota_policy;
mod settings;
mod settlement;
mod straggler_purge;
mod submission_handler;
mod submission_record;
#[cfg(test)]
mod test_fixture;

pub use self::{planner::run, settings::PlannerSettings};
