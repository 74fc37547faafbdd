//! Submissions whose handling always panics.

use forge_bus::topology::Stream;
use forge_contract::artifact::Phase;
use forge_service::job_records::MISSING_RECORD_GRACE_PERIOD;

use super::*;

/// A planner on a bus that panics at these operations, and an envelope that was submitted.
async fn start_panicking(
    is_panicking: fn(&BusOperation<'_>) -> bool,
    envelope: String,
) -> (Arc<MemoryBus>, CancellationToken, PlannerTask) {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    register_worker(&bus, Target::Cpu, &stop).await;
    let faulty = FaultyBus::new(bus.clone(), move |operation| {
        assert!(!is_panicking(&operation), "planted in {operation:?}");
        BusFault::None
    });
    let settings = PlannerSettings::default();
    let planner = tokio::spawn(run(Arc::new(faulty), settings, Metrics::new("test"), stop.clone()));
    submit(bus.as_ref(), SUBMIT_SUBJECT, envelope).await;
    (bus, stop, planner)
}

/// Checks that the submission is ended by this phase of an internal error, and then is gone.
async fn assert_given_up(is_panicking: fn(&BusOperation<'_>) -> bool, envelope: String, phase: Phase) {
    let (bus, stop, planner) = start_panicking(is_panicking, envelope).await;
    let start = Instant::now();
    let order = next_end_order(bus.as_ref()).await;
    // Its own record, and then that of a rejection, may be hidden for a grace period.
    let limit = Duration::from_secs(20) + 2 * MISSING_RECORD_GRACE_PERIOD;
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    assert_eq!((order.code, order.phase), (FailureCode::Internal, phase));
    let reason = "handling a message of queue jobs panicked 5 times, last with: planted in ";
    assert!(order.message.starts_with(reason), "{}", order.message);
    let found = job_records::get(bus.as_ref(), &Bucket::default_jobs(), &order.job_id).await.unwrap();
    let record = found.expect("an aggregator can end the submission").record;
    assert_eq!((record.uid, record.state.is_terminal()), (order.job_uid, false));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bus.message_count(Stream::Jobs), 0);
    stop.cancel();
    planner.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn job_whose_preparation_always_panics_ends() {
    let stores_program = |operation: &BusOperation<'_>| {
        matches!(operation, BusOperation::Put { bucket: Bucket::Programs, .. })
    };
    assert_given_up(stores_program, two_shards("a", "cpu", 0), Phase::Plan).await;
}

#[tokio::test(start_paused = true)]
async fn submission_whose_admission_always_panics_ends_as_a_rejected_one() {
    let stores_key = |operation: &BusOperation<'_>| {
        matches!(operation, BusOperation::CompareAndSet { bucket: Bucket::Secrets, .. })
    };
    assert_given_up(stores_key, two_shards("a", "cpu", 0), Phase::Validate).await;
}
