//! JetStream passes the conformance suite on a real server.

use std::sync::Mutex;

use forge_bus::{Bus, JetStreamBus, SharedBus, jetstream::JetStreamOptions, testing::conformance};
use forge_harness::{NatsConfig, NatsServer};

/// Makes buses on servers of their own, which live as long as this.
#[derive(Default)]
struct Servers(Mutex<Vec<NatsServer>>);

impl Servers {
    async fn fresh(&self) -> SharedBus {
        let server = NatsServer::start(&NatsConfig::default());
        let options =
            JetStreamOptions { topology: conformance::settings(), ..JetStreamOptions::new(server.url()) };
        *self.0.lock().unwrap() = vec![server];
        let bus = JetStreamBus::connect(options).await.unwrap();
        bus.prepare().await.unwrap();
        bus
    }
}

#[tokio::test]
async fn queues() {
    let servers = Servers::default();
    conformance::queues(async || servers.fresh().await).await;
}

#[tokio::test]
async fn replay() {
    let servers = Servers::default();
    conformance::replay(async || servers.fresh().await).await;
}

#[tokio::test]
async fn buckets() {
    let servers = Servers::default();
    conformance::buckets(async || servers.fresh().await).await;
}

#[tokio::test]
async fn wire() {
    let servers = Servers::default();
    conformance::wire(async || servers.fresh().await).await;
}
