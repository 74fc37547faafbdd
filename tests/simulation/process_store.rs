//! The object store as one process sees it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_store::testing::{InjectedFailure, StoreDisturbance, StoreOperation};
use tokio::time::sleep;

use crate::process::Process;

/// Upper bound of the time for which the store hangs.
const MAX_HANG: Duration = Duration::from_secs(90);

/// What happens to the store operations of a process.
pub struct ProcessStore(pub Arc<Process>);

fn describe(operation: StoreOperation<'_>) -> String {
    match operation {
        StoreOperation::Put { key } => format!("store {key}"),
        StoreOperation::Get { key } => format!("load {key}"),
        StoreOperation::Delete { key } => format!("remove {key}"),
    }
}

#[async_trait]
impl StoreDisturbance for ProcessStore {
    async fn before(&self, operation: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        let (process, operation) = (&self.0, describe(operation));
        let faults = &process.world.options.faults;
        if process.world.happens(faults.store_hang) {
            let time = process.world.up_to(MAX_HANG);
            process.world.record(&process.name, format_args!("{operation} hangs for {time:?}"));
            sleep(time).await;
        }
        let request = process.request(&operation, faults.store_failure).await;
        if process.world.is_store_away() {
            process.world.record(&process.name, format_args!("{operation} finds no store"));
            return Err(InjectedFailure("the simulated store is away".to_owned()));
        }
        process.world.record(&process.name, operation);
        request.map_err(|error| InjectedFailure(error.to_string()))
    }

    async fn after(&self, operation: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        let loss = self.0.world.options.faults.store_lost_answer;
        let answered = self.0.answer(&describe(operation), loss).await;
        answered.map_err(|error| InjectedFailure(error.to_string()))
    }
}
