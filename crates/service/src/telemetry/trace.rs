//! Trace contexts in message headers, as in <https://www.w3.org/TR/trace-context/>: `traceparent`,
//! `tracestate`.

use forge_bus::Headers;
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Header with the trace and span that a message belongs to.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Writes the context of the current span into headers; leaves them unchanged without one.
pub fn inject_context(headers: &mut Headers) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut HeaderInjector(headers));
}

/// Makes a span a child of the one that the headers name, if any. Call it before the span is
/// entered or has children; later calls have no effect.
pub fn set_parent(span: &Span, headers: &Headers) {
    let parent = context(headers);
    if parent.has_active_span() {
        // Fails if traces are off or the span has started: the message is then handled without a
        // parent span.
        let _ = span.set_parent(parent);
    }
}

/// Creates a span as a child of the one that the headers name, if any.
pub(crate) fn span_with_parent(headers: &Headers, make_span: impl FnOnce() -> Span) -> Span {
    let span = make_span();
    set_parent(&span, headers);
    span
}

/// Returns headers that continue the trace of an envelope's `ctx.trace_id`: 32 lower-case
/// hexadecimal digits, not all zero. `None` for anything else. The parent span that they name does
/// not exist, because an envelope names only a trace.
pub fn root_headers(trace_id: &str) -> Option<Headers> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let valid =
        trace_id.len() == 32 && trace_id.bytes().all(is_digit) && trace_id.bytes().any(|byte| byte != b'0');
    if !valid {
        return None;
    }
    let last = &trace_id[16..];
    let span_id = if last.bytes().all(|byte| byte == b'0') { &trace_id[..16] } else { last };
    let mut headers = Headers::new();
    headers.set(TRACEPARENT, format!("00-{trace_id}-{span_id}-01"));
    Some(headers)
}

/// Whether the headers name a span that a trace can be continued from.
pub fn has_context(headers: &Headers) -> bool {
    context(headers).has_active_span()
}

/// Returns the trace id of a span, 32 hexadecimal digits. Starts the span, so [`set_parent`] has no
/// effect afterwards.
pub fn trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| context.trace_id().to_string())
}

/// Starts a span under an exported name of low cardinality, and returns its trace id as
/// [`trace_id`] does.
pub(crate) fn start_span(span: &Span, name: String) -> Option<String> {
    span.context().span().update_name(name);
    trace_id(span)
}

fn context(headers: &Headers) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers))
}

struct HeaderInjector<'a>(&'a mut Headers);

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.set(key, value);
        }
    }
}

struct HeaderExtractor<'a>(&'a Headers);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let other_case =
            || self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        self.0.get(key).or_else(other_case)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name).collect()
    }
}
