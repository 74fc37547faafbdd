//! Handles dead letters: shards that were delivered too often without a result. Such a shard may
//! have killed each of its workers, so its job is ended instead of dispatching it again.

use async_trait::async_trait;
use forge_bus::{Delivery, topology};
use forge_contract::{artifact::Phase, error::FailureCode, task::EndOrder};
use forge_service::{Handler, Settlement};

use crate::{
    end_requester::EndRequester,
    job_lookup::JobLookup,
    settlement::{retry_later, to_settlement},
};

/// Requests the end of every job that has a dead letter.
#[derive(Debug)]
pub struct DeadLetterHandler {
    jobs: JobLookup,
    end_requester: EndRequester,
}

impl DeadLetterHandler {
    pub fn new(jobs: JobLookup, end_requester: EndRequester) -> Self {
        Self { jobs, end_requester }
    }
}

#[async_trait]
impl Handler for DeadLetterHandler {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let subject = &delivery.message.subject;
        let Some((job, shard)) = topology::parse_shard_subject(subject) else {
            tracing::warn!(subject, "discarding a dead letter that is not a shard");
            return Settlement::Ack;
        };
        let bucket = match self.jobs.find(&job).await {
            Ok(Some((bucket, _))) => bucket,
            // The record was removed: there is nothing left to end.
            Ok(None) => return Settlement::Ack,
            Err(error) => return retry_later("looking up the dead letter's job", &error),
        };
        let message = format!(
            "shard {shard} was delivered {} times without a result and may have crashed its workers",
            topology::MAX_SHARD_DELIVERIES
        );
        let order = EndOrder::new(job, bucket.name(), FailureCode::ExecutionFailed, Phase::Execute, message);
        to_settlement("requesting the end of the dead letter's job", self.end_requester.request(order).await)
    }
}
