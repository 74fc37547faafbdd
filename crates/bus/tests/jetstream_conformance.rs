//! `JetStreamBus` passes the conformance suite on a real server.

use std::sync::Mutex;

use forge_bus::{Bus, JetStreamBus, SharedBus, jetstream::JetStreamOptions, testing::conformance};
use forge_harness::{NatsConfig, NatsServer};

/// Starts a server for each bus, and keeps the latest one running.
#[derive(Default)]
struct LatestServer(Mutex<Option<NatsServer>>);

impl LatestServer {
    async fn start_bus(&self) -> SharedBus {
        let server = NatsServer::start(&NatsConfig::default());
        let options =
            JetStreamOptions { topology: conformance::settings(), ..JetStreamOptions::new(server.url()) };
        *self.0.lock().unwrap() = Some(server);
        let bus = JetStreamBus::connect(options).await.unwrap();
        bus.prepare().await.unwrap();
        bus
    }
}

#[tokio::test]
async fn queues() {
    let server = LatestServer::default();
    conformance::check_queues(async || server.start_bus().await).await;
}

#[tokio::test]
async fn limits() {
    let server = LatestServer::default();
    conformance::check_limits(async || server.start_bus().await).await;
}

#[tokio::test]
async fn replay() {
    let server = LatestServer::default();
    conformance::check_replay(async || server.start_bus().await).await;
}

#[tokio::test]
async fn buckets() {
    let server = LatestServer::default();
    conformance::check_buckets(async || server.start_bus().await).await;
}

#[tokio::test]
async fn core_messaging() {
    let server = LatestServer::default();
    conformance::check_core_messaging(async || server.start_bus().await).await;
}
