//! Orders whose handling always panics.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use forge_aggregator::AggregatorSettings;
use forge_bus::{
    SharedBus,
    testing::{BusFault, BusOperation, FaultyBus},
    topology::{Bucket, Stream},
};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    job::{JobError, JobState},
    task::EndOrder,
};
use forge_service::orders;
use forge_store::{
    Store,
    testing::{InjectedFailure, StoreDisturbance, StoreOperation},
};

use crate::{Fixture, UID};

/// A bus that panics at the first `count` operations of this kind.
fn panicking(
    bus: SharedBus,
    count: usize,
    is_panicking: impl Fn(&BusOperation<'_>) -> bool + Send + Sync + 'static,
) -> SharedBus {
    let panics = AtomicUsize::new(0);
    Arc::new(FaultyBus::new(bus, move |operation| {
        let panics = is_panicking(&operation) && panics.fetch_add(1, Ordering::SeqCst) < count;
        assert!(!panics, "planted");
        BusFault::None
    }))
}

/// The error with which the job of the fixture failed.
async fn job_error(fixture: &Fixture) -> JobError {
    let record = fixture.ended_record().await;
    assert_eq!(record.state, JobState::Failed);
    fixture.wait_for_deleted_key().await;
    record.error.unwrap()
}

async fn order_end(fixture: &Fixture) {
    let order = EndOrder::new(fixture.job.id.clone(), UID, "jobs", FailureCode::Timeout, Phase::Plan, "late");
    let (message, id) = orders::build_end(order);
    fixture.bus.publish(message, &id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn job_whose_reduction_always_panics_fails() {
    let replays_results = |operation: &BusOperation<'_>| {
        matches!(operation, BusOperation::Replay { stream: Stream::Results, .. })
    };
    let wrap = |bus| panicking(bus, usize::MAX, replays_results);
    let fixture = Fixture::start_on(AggregatorSettings::default(), wrap, Store::in_memory()).await;
    fixture.order_reduction().await;
    let error = job_error(&fixture).await;
    assert_eq!((error.code, error.phase), (FailureCode::Internal, Phase::Reduce));
    assert_eq!(error.message, "handling a message of queue reduce panicked 5 times, last with: planted");
    let document = fixture.store.get_error(&fixture.job.id).await.unwrap().unwrap();
    assert_eq!((document.code, document.message), (error.code, error.message));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn job_whose_end_order_panics_ends_with_an_internal_error() {
    let reads_record =
        |operation: &BusOperation<'_>| matches!(operation, BusOperation::Get { bucket: Bucket::Jobs(_), .. });
    let wrap = |bus| panicking(bus, 5, reads_record);
    let fixture = Fixture::start_on(AggregatorSettings::default(), wrap, Store::in_memory()).await;
    order_end(&fixture).await;
    let error = job_error(&fixture).await;
    assert_eq!((error.code, error.phase), (FailureCode::Internal, Phase::Plan));
    let reason = "handling a message of queue end panicked 5 times, last with: planted; the order to end the \
                  job had code timeout";
    assert_eq!(error.message, reason);
    fixture.shut_down().await;
}

/// Panics at every write.
struct PanickingWrites;

#[async_trait]
impl StoreDisturbance for PanickingWrites {
    async fn before(&self, operation: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        assert!(!matches!(operation, StoreOperation::Put { .. }), "planted");
        Ok(())
    }

    async fn after(&self, _: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn job_ends_without_error_document_if_storing_it_panics() {
    let store = Store::in_memory().disturbed(PanickingWrites);
    let fixture = Fixture::start_on(AggregatorSettings::default(), |bus| bus, store).await;
    order_end(&fixture).await;
    let error = job_error(&fixture).await;
    let reason = "late (error.json could not be stored: storing it panicked)";
    assert_eq!((error.code, error.message.as_str()), (FailureCode::Timeout, reason));
    fixture.shut_down().await;
}
