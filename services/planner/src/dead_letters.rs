//! Handles dead letters: shards that were delivered too often without a result. Such a shard may
//! have crashed its workers, or each of them may have refused it. Neither is certain, so its job is
//! not ended: the outcome makes the dispatcher start the shard's next attempt, and the later
//! attempts go to verifiers.

use std::time::Duration;

use async_trait::async_trait;
use forge_bus::{Delivery, SharedBus, topology};
use forge_contract::{
    protocol::{UnreadableMessage, parse_message},
    task::{ShardOutcome, ShardTask},
};
use forge_service::{Handler, Settlement, shard_messages};

use crate::settlement::to_settlement;

/// Delay before another planner, which may have the right version, receives a dead letter of
/// another version.
const OTHER_VERSION_DELAY: Duration = Duration::from_secs(30);

/// Publishes the outcome of dead letters.
#[derive(Debug)]
pub struct DeadLetterHandler {
    bus: SharedBus,
}

impl DeadLetterHandler {
    pub fn new(bus: SharedBus) -> Self {
        Self { bus }
    }
}

#[async_trait]
impl Handler for DeadLetterHandler {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let subject = &delivery.message.subject;
        let ShardTask { job_uid, shard_id, task_id, .. } = match parse_message(&delivery.message.payload) {
            Ok(task) => task,
            Err(error @ UnreadableMessage::OtherVersion(_)) => {
                tracing::warn!(%error, subject, "leaving a dead letter to a planner of its version");
                return Settlement::Retry(OTHER_VERSION_DELAY);
            }
            Err(error) => {
                tracing::warn!(%error, subject, "discarding a dead letter that is not a shard");
                return Settlement::Ack;
            }
        };
        tracing::warn!(
            job_uid = %job_uid,
            shard = %shard_id,
            "a shard was delivered {} times without a result; starting its next attempt",
            topology::MAX_SHARD_DELIVERIES
        );
        let outcome = ShardOutcome::Undeliverable { shard_id, task_id };
        let (message, id) = shard_messages::build_outcomes(job_uid, vec![outcome]);
        to_settlement("publishing the dead letter's outcome", self.bus.publish(message, &id).await)
    }
}
