//! `MemoryBus` passes the conformance suite, on a paused clock.

use forge_bus::{Bus, MemoryBus, SharedBus, testing::conformance, topology::Queue};

async fn prepared_bus() -> SharedBus {
    let bus = MemoryBus::new(conformance::settings());
    bus.prepare().await.unwrap();
    bus
}

#[tokio::test(start_paused = true)]
async fn queues() {
    conformance::check_queues(prepared_bus).await;
}

#[tokio::test(start_paused = true)]
async fn limits() {
    conformance::check_limits(prepared_bus).await;
}

#[tokio::test(start_paused = true)]
async fn replay() {
    conformance::check_replay(prepared_bus).await;
}

#[tokio::test(start_paused = true)]
async fn buckets() {
    conformance::check_buckets(prepared_bus).await;
}

#[tokio::test(start_paused = true)]
async fn core_messaging() {
    conformance::check_core_messaging(prepared_bus).await;
}

#[tokio::test]
async fn opening_a_queue_fails_before_preparation() {
    let bus = MemoryBus::new(conformance::settings());
    assert!(matches!(bus.open_queue(Queue::Jobs).await.map(drop), Err(forge_bus::BusError::Missing(_))));
}
