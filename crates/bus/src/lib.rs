//! What the services say to each other, and over what: durable work queues, the ordered replay of a job's results,
//! key-value buckets, request and reply. The only crate that uses `async-nats`. It knows names and guarantees, and nothing
//! of what is in a message.
//!
//! Reading order: [`topology`] → [`message`] → [`bus`] → [`memory`] → [`jetstream`].

pub mod bus;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod jetstream;
pub mod memory;
pub mod message;
pub mod topology;

pub use self::{
    bus::{Bus, BusError, Call, Content, Delivery, Entry, Pull, Respond, Settle, SharedBus},
    jetstream::JetStream,
    memory::MemoryBus,
    message::{Headers, Message, Stored},
};
