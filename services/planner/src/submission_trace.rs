//! The trace to which a submission's spans belong: that of its message, or else the one that its
//! envelope names. Both the record and the job's span follow this order.

use forge_bus::Headers;
use forge_service::trace;
use tracing::Span;

use crate::admitted_job::AdmittedJob;

/// The trace id for the record of a submission. Call it in the span of the message: a message
/// without a trace context has started a trace of its own, which counts last. `None` if no spans
/// are recorded and the envelope names no trace.
pub fn submission_trace_id(headers: &Headers, envelope_trace: Option<&str>) -> Option<String> {
    let message_trace = trace::trace_id(&Span::current());
    let envelope_trace = envelope_trace.map(str::to_owned);
    if trace::has_context(headers) {
        message_trace.or(envelope_trace)
    } else {
        envelope_trace.or(message_trace)
    }
}

/// The span of a job whose submission had these headers.
pub fn job_span(admitted: &AdmittedJob, headers: &Headers) -> Span {
    let job = &admitted.job;
    let envelope_trace = job.request.envelope.ctx.trace_id.as_deref().and_then(trace::root_headers);
    let span = tracing::info_span!(
        "job", job_id = %job.id, job_uid = %admitted.uid(), trace_id = tracing::field::Empty
    );
    if let Some(root) = envelope_trace.filter(|_| !trace::has_context(headers)) {
        trace::set_parent(&span, &root);
    }
    if let Some(trace_id) = trace::trace_id(&span) {
        span.record("trace_id", trace_id);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn envelope_names_the_trace_when_no_spans_are_recorded() {
        let of_other_trace = trace::root_headers("1af7651916cd43dd8448eb211c80319c").unwrap();
        for headers in [Headers::new(), of_other_trace] {
            assert_eq!(submission_trace_id(&headers, Some(TRACE)).as_deref(), Some(TRACE));
            assert_eq!(submission_trace_id(&headers, None), None);
        }
    }
}
