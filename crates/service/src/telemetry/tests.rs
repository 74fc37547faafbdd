//! Trace contexts survive the round trip through message headers.

use forge_bus::Headers;
use tracing::{Span, info_span, subscriber::with_default};

use super::*;

/// Header with vendor-specific trace state.
const TRACESTATE: &str = "tracestate";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn args() -> TelemetryArgs {
    TelemetryArgs { log: "off".parse().unwrap(), log_format: LogFormat::Text, otlp_endpoint: None }
}

/// Runs with logs off and traces that are not exported.
fn with_traces<T>(act: impl FnOnce() -> T) -> T {
    let args = args();
    let provider = provider("test", &args).unwrap();
    with_default(Registry::default().with(log_layer(&args)).with(trace_layer(&provider)), act)
}

fn injected(span: &Span) -> Headers {
    let mut headers = Headers::new();
    span.in_scope(|| trace::inject_context(&mut headers));
    headers
}

fn parts(headers: &Headers) -> Vec<String> {
    headers.get(trace::TRACEPARENT).unwrap().split('-').map(str::to_owned).collect()
}

#[test]
fn a_trace_continues_from_message_to_message() {
    with_traces(|| {
        let first = injected(&info_span!("sender"));
        let second = injected(&trace::span_with_parent(&first, || info_span!("receiver")));
        let (first, second) = (parts(&first), parts(&second));
        assert_eq!(first[1], second[1]);
        assert_ne!(first[2], second[2]);
        assert_eq!((&*first[3], &*second[3]), ("01", "01"));
    });
}

#[test]
fn child_spans_belong_to_the_same_trace() {
    with_traces(|| {
        let root = trace::root_headers(TRACE).unwrap();
        let span = trace::span_with_parent(&root, || info_span!("receiver"));
        assert_eq!(trace::trace_id(&span).unwrap(), TRACE);
        let inner = span.in_scope(|| injected(&info_span!("inner")));
        assert_eq!(parts(&inner)[1], TRACE);
    });
}

#[test]
fn the_sampling_decision_and_vendor_state_are_propagated() {
    with_traces(|| {
        let mut headers = Headers::new();
        headers.set(trace::TRACEPARENT, format!("00-{TRACE}-00f067aa0ba902b7-00"));
        headers.set(TRACESTATE, "vendor=1");
        assert!(trace::has_context(&headers));
        let onward = injected(&trace::span_with_parent(&headers, || info_span!("receiver")));
        assert_eq!((&*parts(&onward)[1], &*parts(&onward)[3]), (TRACE, "00"));
        assert_eq!(onward.get(TRACESTATE), Some("vendor=1"));
    });
}

#[test]
fn malformed_headers_start_a_new_trace() {
    with_traces(|| {
        let mut headers = Headers::new();
        headers.set(trace::TRACEPARENT, "00-nonsense");
        assert!(!trace::has_context(&headers));
        let span = trace::span_with_parent(&headers, || info_span!("receiver"));
        assert_eq!(trace::trace_id(&span).unwrap().len(), 32);
    });
}

#[test]
fn only_valid_trace_ids_give_root_headers() {
    assert_eq!(parts(&trace::root_headers(TRACE).unwrap())[1], TRACE);
    assert!(trace::has_context(
        &trace::root_headers(&format!("{}{}", "a".repeat(16), "0".repeat(16))).unwrap()
    ));
    for wrong in ["", "0", &"0".repeat(32), &TRACE.to_uppercase(), &TRACE[1..], "zz"] {
        assert_eq!(trace::root_headers(wrong), None, "{wrong}");
    }
}

#[test]
fn no_context_is_injected_without_traces() {
    with_default(Registry::default(), || {
        assert_eq!(injected(&info_span!("x")), Headers::new());
        assert_eq!(trace::trace_id(&info_span!("x")), None);
    });
}

#[test]
fn a_collector_address_without_scheme_is_refused() {
    let args = TelemetryArgs { otlp_endpoint: Some("127.0.0.1:4318".to_owned()), ..args() };
    assert_eq!(provider("test", &args).unwrap_err().field, "--otlp-endpoint");
}

/// A collector that accepts one request. The thread returns the raw request.
#[cfg(feature = "otlp")]
fn collector() -> (std::net::SocketAddr, std::thread::JoinHandle<Vec<u8>>) {
    use std::io::{Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let collected = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            request.extend(&buffer[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        request
    });
    (address, collected)
}

#[cfg(feature = "otlp")]
#[tokio::test]
async fn pending_traces_are_exported_on_drop() {
    let (address, collected) = collector();
    let args = TelemetryArgs { otlp_endpoint: Some(format!("http://{address}/")), ..args() };
    let telemetry = Telemetry { provider: provider("test", &args).unwrap() };
    let subscriber = Registry::default().with(log_layer(&args)).with(trace_layer(&telemetry.provider));
    with_default(subscriber, || info_span!("an exported span").in_scope(|| {}));
    drop(telemetry);
    let request = collected.join().unwrap();
    let has = |text: &str| request.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(request.starts_with(b"POST /v1/traces HTTP/1.1"), "{}", String::from_utf8_lossy(&request));
    assert!(has("an exported span") && has("forge-test"), "{}", String::from_utf8_lossy(&request));
}
