//! Real servers for tests: a NATS server and an S3 store, installed from a package registry and
//! started on free loopback ports. Tests can kill, freeze and restart them. The servers end with
//! the test process, even if it is killed (on Linux).
//!
//! This crate knows nothing of Forge, so that the tests of every crate can use it. All calls block.
//! A failure is a panic with the end of the server's log. Unix only.
//!
//! ```no_run
//! use forge_harness::{NatsConfig, NatsServer};
//!
//! let mut server = NatsServer::start(&NatsConfig::default());
//! let url = server.url();
//! server.kill();
//! server.restart();
//! assert_eq!(server.url(), url);
//! ```

pub mod gpu;
mod nats;
mod nats_cluster;
mod process;
mod proxy;
mod s3;
mod tls;
pub mod tools;

pub use self::{
    nats::{NatsConfig, NatsServer},
    nats_cluster::NatsCluster,
    proxy::FaultyProxy,
    s3::S3Server,
    tls::Certificates,
};
