//! Health probes and metrics over real connections.

use forge_bus::{memory::MemoryBus, topology::TopologySettings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::timeout,
};

use super::*;

async fn get(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    (text[9..12].parse().unwrap(), text)
}

fn local() -> HttpArgs {
    HttpArgs { http: Some("127.0.0.1:0".parse().unwrap()) }
}

#[tokio::test]
async fn probes_follow_the_health_of_the_service() {
    let (health, stop) = (Health::new(), CancellationToken::new());
    let started = serve(&local(), health.clone(), Metrics::new("test"), stop.clone()).await;
    let address = started.unwrap().unwrap();
    let alive = health.guard_loop("the loop");

    assert_eq!(get(address, "GET /healthz").await.0, 200);
    let (status, text) = get(address, "GET /readyz").await;
    assert!(status == 503 && text.ends_with("starting\n"), "{text}");
    health.set_bus(MemoryBus::new(TopologySettings::default()));
    health.set_ready();
    assert_eq!(get(address, "GET /readyz").await.0, 200);
    health.set_not_ready("the bucket is read-only");
    let (status, text) = get(address, "GET /readyz").await;
    assert!(status == 503 && text.ends_with("the bucket is read-only\n"), "{text}");
    assert_eq!(get(address, "GET /healthz").await.0, 200);

    drop(alive);
    let (status, text) = get(address, "GET /healthz").await;
    assert!(status == 503 && text.ends_with("the loop has ended\n"), "{text}");

    stop.cancel();
    while TcpStream::connect(address).await.is_ok() {
        yield_now().await;
    }
}

#[tokio::test]
async fn metrics_are_served_and_unknown_paths_and_methods_are_refused() {
    let metrics = Metrics::new("test");
    metrics.count_quarantined_agent();
    let started = serve(&local(), Health::new(), metrics, CancellationToken::new()).await;
    let address = started.unwrap().unwrap();
    let (status, text) = get(address, "GET /metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains(OPEN_METRICS) && text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains("forge_quarantined_agents_total{service=\"test\"} 1\n"), "{text}");
    assert_eq!(get(address, "GET /").await.0, 404);
    assert_eq!(get(address, "POST /metrics").await.0, 405);
    let (status, text) = get(address, "HEAD /healthz").await;
    assert!(status == 200 && !text.ends_with("ok\n"), "{text}");
}

/// Opens a connection that never completes its request.
async fn open_half_request(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /he").await.unwrap();
    stream
}

/// Whether the server has closed a connection without a response.
fn is_closed(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 16]) {
        Ok(count) => {
            assert_eq!(count, 0, "no response");
            true
        }
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[tokio::test]
async fn half_open_connections_keep_neither_file_handles_nor_probes() {
    let started = serve(&local(), Health::new(), Metrics::new("test"), CancellationToken::new()).await;
    let address = started.unwrap().unwrap();
    let mut half_open = Vec::new();
    for _ in 0..374 {
        half_open.push(open_half_request(address).await);
    }
    assert_eq!(get(address, "GET /healthz").await.0, 200, "under a flood of connections");
    let (closed, open) = half_open.split_at(half_open.len() - LIMITS.connections);
    for stream in closed {
        stream.readable().await.unwrap();
        assert!(is_closed(stream));
    }
    assert!(!is_closed(open.last().unwrap()), "only the oldest are closed");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_arrive_is_given_up() {
    let started = serve(&local(), Health::new(), Metrics::new("test"), CancellationToken::new()).await;
    let mut stream = open_half_request(started.unwrap().unwrap()).await;
    let start = tokio::time::Instant::now();
    let mut response = Vec::new();
    let closed = timeout(LIMITS.connection_timeout, stream.read_to_end(&mut response)).await;
    assert!(closed.is_ok() && !response.starts_with(b"HTTP/1.1 200"), "{closed:?} {response:?}");
    assert!(start.elapsed() >= http_server::HEAD_TIMEOUT && start.elapsed() < LIMITS.connection_timeout);
}

#[tokio::test]
async fn oversized_requests_are_refused() {
    let started = serve(&local(), Health::new(), Metrics::new("test"), CancellationToken::new()).await;
    let address = started.unwrap().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(1_000_000));
    // The server may close the connection before it has received everything.
    stream.write_all(request.as_bytes()).await.ok();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.ok();
    assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 431"), "{response:?}");
    assert_eq!(get(address, "GET /healthz").await.0, 200);
}

#[tokio::test]
async fn an_address_in_use_is_an_error_of_option_http() {
    let occupied = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = HttpArgs { http: Some(occupied.local_addr().unwrap()) };
    let error =
        serve(&args, Health::new(), Metrics::new("test"), CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.field, "--http");
    let off =
        serve(&HttpArgs::default(), Health::new(), Metrics::new("test"), CancellationToken::new()).await;
    assert_eq!(off.unwrap(), None);
}
