//! Results that a verifier refutes after they were collected, before the job's result is stored.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use forge_aggregator::AggregatorSettings;
use forge_bus::{
    SharedBus,
    testing::{BusFault, BusOperation, FaultyBus},
};
use forge_contract::{job::JobState, shard_result::ShardResult, task::Claim, verdict::VerdictOutcome};
use forge_kernel::backend::{Backend, scalar::Scalar};
use forge_service::shard_messages::{self, Judgement};
use forge_store::{
    Store,
    testing::{InjectedFailure, StoreDisturbance, StoreOperation},
};
use tokio::time::sleep;

use crate::{Fixture, UID, falsified, pool};

/// How long the aggregator takes for its last step before it stores the result.
const SLOW_STEP: Duration = Duration::from_secs(4);

/// A bus on which the first outcomes take [`SLOW_STEP`].
fn with_slow_outcomes(bus: SharedBus) -> SharedBus {
    let was_slow = AtomicBool::new(false);
    Arc::new(FaultyBus::new(bus, move |operation| match operation {
        BusOperation::PublishAll { .. } if !was_slow.swap(true, Ordering::SeqCst) => {
            BusFault::Delay(SLOW_STEP)
        }
        _ => BusFault::None,
    }))
}

/// Writes to the store take [`SLOW_STEP`].
struct SlowWrites;

#[async_trait]
impl StoreDisturbance for SlowWrites {
    async fn before(&self, operation: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        if let StoreOperation::Put { key } = operation
            && key.starts_with("artifacts/")
        {
            sleep(SLOW_STEP).await;
        }
        Ok(())
    }

    async fn after(&self, _: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        Ok(())
    }
}

impl Fixture {
    /// Refutes a result of a worker, as a verifier does that another aggregator has asked.
    async fn refute(&self, worker: usize, position: usize, result: &ShardResult) {
        let shard = self.job.request.plan.shards().nth(position).unwrap();
        let task = self.key.issue_task(UID, shard, [worker as u8; 16]);
        let task = self.job.shard_task(UID, shard, task);
        let claim = Claim {
            pool: pool(worker),
            agent_id: self.workers[worker].id().clone(),
            backend: Scalar.name().to_owned(),
            adapter: None,
            result_hash: result.digest(),
        };
        let correct = Some(self.results[position].digest());
        let judgement =
            Judgement::from_execution(&Scalar, VerdictOutcome::Refuted, correct, "they differ".to_owned());
        let (message, id) = shard_messages::build_verdict(&self.verifier, UID, &task, &claim, judgement);
        self.bus.publish(message, &id).await.unwrap();
    }

    /// Completes a job one of whose results is refuted while the aggregator is slow.
    async fn complete_with_late_refutation(mut self) {
        let (wrong, results) = (falsified(&self.results[0]), self.results.clone());
        // Both results are there before the reduction begins, so their outcomes are the last ones.
        self.return_result(1, 0, &wrong).await;
        self.return_result(0, 1, &results[1]).await;
        self.order_reduction().await;
        sleep(SLOW_STEP / 2).await;
        self.refute(1, 0, &wrong).await;
        sleep(2 * SLOW_STEP).await;
        assert_eq!(self.store.get_manifest(&self.job.id).await.unwrap(), None);
        self.return_result(0, 0, &results[0]).await;
        let completion = self.completion().await;
        let agents: Vec<_> = completion.executions.iter().map(|execution| &execution.agent_id).collect();
        assert_eq!(agents, [self.workers[0].id(); 2]);
        assert_eq!(completion.verification.refuted.len(), 1);
        let record = self.ended_record().await;
        assert_eq!((record.state, record.result), (JobState::Completed, Some(completion.job_result.hash)));
        self.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn result_that_is_refuted_while_outcomes_are_published_is_not_stored() {
    let settings = AggregatorSettings::default();
    let fixture = Fixture::start_on(settings, with_slow_outcomes, Store::in_memory()).await;
    fixture.complete_with_late_refutation().await;
}

#[tokio::test(start_paused = true)]
async fn result_that_is_refuted_while_artifacts_are_stored_is_not_stored() {
    let store = Store::in_memory().disturbed(SlowWrites);
    let fixture = Fixture::start_on(AggregatorSettings::default(), |bus| bus, store).await;
    fixture.complete_with_late_refutation().await;
}

#[tokio::test(start_paused = true)]
async fn result_that_is_refuted_late_is_not_recorded_if_nothing_is_stored() {
    let settings = AggregatorSettings::default();
    let mut fixture = Fixture::start_on(settings, with_slow_outcomes, Store::in_memory()).await;
    fixture.job.request.envelope.artifacts.persist = false;
    fixture.complete_with_late_refutation().await;
}
