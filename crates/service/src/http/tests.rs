//! Health probes and metrics over real connections.

use forge_bus::{memory::MemoryBus, topology::TopologySettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        sleep(Duration::from_millis(5)).await;
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
