//! Handles the queue of submissions: asks admission for a decision and carries it out.

use async_trait::async_trait;
use forge_bus::{Delivery, Headers, SharedBus};
use forge_service::{Handler, Settlement, trace};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::{
    admission::{Admission, AdmissionDecision},
    admitted_job::AdmittedJob,
    end_requester::EndRequester,
    job_driver::JobDriver,
    settlement::{retry_later, to_settlement},
    straggler_purge::purge_stragglers,
};

/// Turns submissions into driven jobs.
#[derive(Debug)]
pub struct SubmissionHandler {
    pub bus: SharedBus,
    pub admission: Admission,
    pub end_requester: EndRequester,
    pub driver: JobDriver,
}

#[async_trait]
impl Handler for SubmissionHandler {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let received = Instant::now();
        let decision = match self.admission.admit(&delivery.message, delivery.sequence).await {
            Ok(decision) => decision,
            Err(error) => return retry_later("admitting the submission", &error),
        };
        match decision {
            AdmissionDecision::Duplicate => Settlement::Ack,
            AdmissionDecision::Terminal(job, bucket) => {
                let purged = purge_stragglers(self.bus.as_ref(), &bucket, &job).await;
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
}

/// The span of a job: in the trace of the message that submitted it, or else in the trace that its
/// envelope names.
fn job_span(admitted: &AdmittedJob, headers: &Headers) -> Span {
    let job = &admitted.job;
    let envelope_trace = job.request.envelope.ctx.trace_id.as_deref().and_then(trace::root_headers);
    let span = tracing::info_span!("job", job_id = %job.id, trace_id = tracing::field::Empty);
    if let Some(root) = envelope_trace.filter(|_| !trace::has_context(headers)) {
        trace::set_parent(&span, &root);
    }
    if let Some(trace_id) = trace::trace_id(&span) {
        span.record("trace_id", trace_id);
    }
    span
}
