//! Shards that were delivered again and again and never finished: each of them may have killed its workers. Their jobs fail.

use std::sync::Arc;

use async_trait::async_trait;
use forge_bus::{Delivery, topology};
use forge_contract::{artifact::Phase, error::FailureCode, task::EndOrder};
use forge_service::{
    job_records,
    queue_worker::{Handler, Settlement},
};

use crate::planner::Planner;

/// Ends the jobs of dead letters.
#[derive(Debug)]
pub struct DeadLetters(pub Arc<Planner>);

#[async_trait]
impl Handler for DeadLetters {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let planner = &self.0;
        let Some((job, shard)) = topology::parse_shard_subject(&delivery.message.subject) else {
            tracing::warn!(subject = delivery.message.subject, "a dead letter that is no shard");
            return Settlement::Ack;
        };
        let Some((bucket, _)) = (match planner.find(&job).await {
            Ok(found) => found,
            Err(error) => return planner.settle(Err(error)),
        }) else {
            return Settlement::Ack;
        };
        let message = format!(
            "shard {shard} was delivered {} times, and no worker returned a result: it may have killed them",
            topology::MAX_SHARD_DELIVERIES
        );
        let order = EndOrder::new(job, bucket.name(), FailureCode::ExecutionFailed, Phase::Execute, message);
        planner.settle(planner.end(order).await)
    }
}

impl Planner {
    /// The record of a job, in whichever bucket it is.
    pub(crate) async fn find(
        &self,
        job: &forge_contract::ids::JobId,
    ) -> Result<Option<(topology::Bucket, forge_contract::job::JobRecord)>, forge_bus::BusError> {
        for namespace in &self.settings.namespaces {
            let bucket = topology::Bucket::Jobs(namespace.clone());
            if let Some(found) = job_records::get(self.bus.as_ref(), &bucket, job).await? {
                return Ok(Some((bucket, found.record)));
            }
        }
        Ok(None)
    }
}
