//! Handles the queue of submissions: waits for a slot, asks admission for a decision and carries it
//! out.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{Delivery, SharedBus, topology};
use forge_service::{Handler, Settlement};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    admission::{Admission, AdmissionDecision},
    end_requester::EndRequester,
    job_driver::JobDriver,
    job_slots::JobSlots,
    settlement::{retry_later, to_settlement},
    straggler_purge::purge_stragglers,
    submission_trace::job_span,
};

/// Delay before the redelivery of a submission when too many others of its submitter wait for a
/// slot.
const SLOT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Turns submissions into driven jobs.
#[derive(Debug)]
pub struct SubmissionHandler {
    pub bus: SharedBus,
    pub slots: Arc<JobSlots>,
    pub admission: Admission,
    pub end_requester: EndRequester,
    pub driver: JobDriver,
    pub stop: CancellationToken,
}

#[async_trait]
impl Handler for SubmissionHandler {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        // A submission without a valid submitter is recorded under the default one.
        let submitter = topology::parse_submit_subject(&delivery.message.subject).unwrap_or_default();
        let _slot = match self.stop.run_until_cancelled(self.slots.acquire(&submitter)).await {
            Some(Some(slot)) => slot,
            Some(None) => return Settlement::Retry(SLOT_RETRY_DELAY),
            None => return Settlement::Retry(Duration::ZERO),
        };
        let received = Instant::now();
        let admitted = self.admission.admit(&delivery.message, delivery.sequence, delivery.attempt).await;
        let decision = match admitted {
            Ok(decision) => decision,
            Err(error) => return retry_later("admitting the submission", &error),
        };
        match decision {
            AdmissionDecision::Duplicate => Settlement::Ack,
            AdmissionDecision::Terminal { bucket, job_id, uid } => {
                let purged = purge_stragglers(self.bus.as_ref(), &bucket, &job_id, uid).await;
                purged.unwrap_or_else(|error| retry_later("purging the job's stragglers", &error))
            }
            AdmissionDecision::Rejected(order) => {
                let requested = self.end_requester.request(order).await;
                to_settlement("requesting the end of the rejected submission", requested)
            }
            AdmissionDecision::Admitted(admitted) => {
                let span = job_span(&admitted, &delivery.message.headers);
                self.driver.drive(*admitted, received).instrument(span).await
            }
        }
    }
    async fn give_up(&self, delivery: Delivery, reason: String) -> Settlement {
        let (sequence, attempt) = (delivery.sequence, delivery.attempt);
        let order = self.admission.give_up(&delivery.message, sequence, attempt, reason).await;
        match order {
            Ok(Some(order)) => {
                let requested = self.end_requester.request(order).await;
                to_settlement("requesting the end of a submission whose handling panics", requested)
            }
            Ok(None) => Settlement::Ack,
            Err(error) => retry_later("giving a submission up", &error),
        }
    }
}
