//! The twin passes the conformance suite, in a time of its own.

use forge_bus::{Bus, MemoryBus, SharedBus, testing::conformance, topology::Queue};

async fn fresh() -> SharedBus {
    let bus = MemoryBus::new(conformance::settings());
    bus.prepare().await.unwrap();
    bus
}

#[tokio::test(start_paused = true)]
async fn queues() {
    conformance::queues(fresh).await;
}

#[tokio::test(start_paused = true)]
async fn replay() {
    conformance::replay(fresh).await;
}

#[tokio::test(start_paused = true)]
async fn buckets() {
    conformance::buckets(fresh).await;
}

#[tokio::test(start_paused = true)]
async fn wire() {
    conformance::wire(fresh).await;
}

#[tokio::test]
async fn unprepared() {
    let bus = MemoryBus::new(conformance::settings());
    assert!(matches!(bus.open_queue(Queue::Jobs).await.map(drop), Err(forge_bus::BusError::Missing(_))));
}
