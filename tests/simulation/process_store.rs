//! The object store as one process sees it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_store::testing::{InjectedFailure, StoreDisturbance, StoreOperation};
use tokio::time::sleep;

use crate::{process::Process, traffic::TrafficLedger};

/// Upper bound of the time for which the store hangs.
const MAX_HANG: Duration = Duration::from_secs(90);

/// Upper bound of the time that a request takes for an object that the store is slow with. Shorter
/// than services wait for the store.
const MAX_SLOWNESS: Duration = Duration::from_secs(5);

/// What happens to the store operations of a process.
pub struct ProcessStore {
    pub process: Arc<Process>,
    pub traffic: Arc<TrafficLedger>,
}

fn describe(operation: StoreOperation<'_>) -> String {
    match operation {
        StoreOperation::Put { key } => format!("store {key}"),
        StoreOperation::Get { key } => format!("load {key}"),
        StoreOperation::Delete { key } => format!("remove {key}"),
        StoreOperation::List => "list objects".to_owned(),
    }
}

impl ProcessStore {
    /// A fault that only writes have.
    fn write_fault(&self, operation: StoreOperation<'_>) -> Option<InjectedFailure> {
        let (world, faults) = (&self.process.world, &self.process.world.options.faults);
        let is_write = matches!(operation, StoreOperation::Put { .. });
        if is_write && world.happens(faults.store_conflict) {
            return Some(InjectedFailure::Conflict);
        }
        (is_write && world.happens(faults.store_partial_write)).then_some(InjectedFailure::PartialWrite)
    }
}

#[async_trait]
impl StoreDisturbance for ProcessStore {
    async fn before(&self, operation: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        let (process, described) = (&self.process, describe(operation));
        let faults = &process.world.options.faults;
        if process.world.happens(faults.store_hang) {
            let time = process.world.up_to(MAX_HANG);
            process.world.record(&process.name, format_args!("{described} hangs for {time:?}"));
            sleep(time).await;
        }
        let is_slow = described.ends_with(process.world.options.slow_object);
        if is_slow && process.world.happens(faults.store_slow) {
            sleep(process.world.up_to(MAX_SLOWNESS)).await;
        }
        let request = process.request(&described, faults.store_failure).await;
        if process.world.is_store_away() {
            process.world.record(&process.name, format_args!("{described} finds no store"));
            return Err(InjectedFailure::Unavailable("the simulated store is away".to_owned()));
        }
        if let Some(fault) = self.write_fault(operation) {
            process.world.record(&process.name, format_args!("{described}: {fault:?}"));
            return Err(fault);
        }
        process.world.record(&process.name, described);
        request.map_err(|error| InjectedFailure::Unavailable(error.to_string()))?;
        if let StoreOperation::Put { key } = operation {
            self.traffic.note_object(key, process.world.now());
        }
        Ok(())
    }

    async fn after(&self, operation: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        if let StoreOperation::Delete { key } = operation {
            self.traffic.note_removed(key);
        }
        let loss = self.process.world.options.faults.store_lost_answer;
        let answered = self.process.answer(&describe(operation), loss).await;
        answered.map_err(|error| InjectedFailure::Unavailable(error.to_string()))
    }
}
