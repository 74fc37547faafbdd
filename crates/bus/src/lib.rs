//! The message bus of Forge Kernel: durable work queues, the ordered replay of a job's results,
//! key-value buckets, requests and replies. Defines the topology (every stream, queue, bucket and
//! subject) and its guarantees; payloads are opaque to it. No other crate uses `async-nats`.
//!
//! Services depend on the [`Bus`] trait. [`JetStreamBus`] implements it over NATS; [`MemoryBus`]
//! implements it within one process, for local runs and tests.
//!
//! ```
//! use forge_bus::{Bus, MemoryBus, Message, topology::{self, Queue, TopologySettings}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), forge_bus::BusError> {
//! let bus = MemoryBus::new(TopologySettings::default());
//! bus.prepare().await?;
//! bus.publish(Message::new(topology::SUBMIT_SUBJECT, "envelope"), "submission-1").await?;
//!
//! let mut jobs = bus.open_queue(Queue::Jobs).await?;
//! for delivery in jobs.fetch(16).await? {
//!     assert_eq!(delivery.message.payload, "envelope");
//!     delivery.lease.ack().await;
//! }
//! assert_eq!(bus.backlog(Queue::Jobs).await?, 0);
//! # Ok(())
//! # }
//! ```
//!
//! Modules, each using only those before it: [`error`], [`retry`], [`message`], [`topology`],
//! `replay`, [`bus`], [`memory`], [`jetstream`], `testing` (with the feature of that name).

pub mod bus;
pub mod error;
pub mod jetstream;
pub mod memory;
pub mod message;
mod replay;
pub mod retry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topology;

pub use self::{
    bus::{
        BucketEntry, Bus, CallResponder, Delivery, DeliveryLease, DeliveryProgress, PublishOutcome,
        QueueReceiver, ServiceCall, SharedBus, StreamSpace, SubjectPage,
    },
    error::BusError,
    jetstream::JetStreamBus,
    memory::MemoryBus,
    message::{Headers, Message, StoredMessage},
    replay::Replay,
};
