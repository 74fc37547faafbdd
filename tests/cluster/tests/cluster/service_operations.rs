//! What operators see of a service: effective settings, errors in settings, health endpoints,
//! metrics, and the trace of a job in the logs.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope, with_field};

const SERVICES: [&str; 5] = ["planner", "worker", "verifier", "aggregator", "up"];

/// Runs a command and returns its exit code and its standard output and error.
fn run_command(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn print_config_shows_origins_and_hides_secrets() {
    let cluster = Cluster::empty(TestStore::Directory);
    for service in SERVICES {
        let mut command = cluster.forge();
        command.args([service, "--print-config", "--nats-url", "nats://ann:hush@localhost:1"]);
        command.env("FORGE_NATS_USER", "ann").env("FORGE_NATS_PASSWORD", "hush");
        let (code, text) = run_command(&mut command);
        assert_eq!(code, Some(0), "{service}: {text}");
        assert!(!text.contains("hush"), "{service}: {text}");
        for part in [
            "nats://***@localhost:1  (from flag)",
            "(from environment FORGE_NATS_USER)",
            "***",
            "(from default)",
        ] {
            assert!(text.contains(part), "{service}, {part}: {text}");
        }
        let (code, help) = run_command(cluster.forge().args([service, "--help"]));
        assert_eq!(code, Some(0));
        for variable in ["FORGE_NATS_URL", "FORGE_NATS_CREDS", "FORGE_LOG", "FORGE_HTTP", "FORGE_LEASE_MS"] {
            assert!(help.contains(variable), "{service}, {variable}: {help}");
        }
        assert!(!help.contains("hush"));
    }
}

#[test]
fn invalid_settings_are_rejected_by_name() {
    let cluster = Cluster::empty(TestStore::Directory);
    for service in SERVICES {
        for (arguments, expected) in [
            (&["--nats-url", "nats://["][..], "--nats-url"),
            (&["--replicas", "2"], "--replicas"),
            (&["--nats-creds", "/nowhere"], "--nats-creds"),
            (&["--nats-user", "ann"], "--nats-password"),
            (&["--lease-ms", "1"], "--lease-ms"),
            (&["--log", "loud"], "--log"),
            (&["--http", "nowhere"], "--http"),
        ] {
            let (code, text) = run_command(cluster.forge().arg(service).args(arguments));
            assert_eq!(code, Some(2), "{service} {arguments:?}: {text}");
            assert!(text.contains(expected), "{service} {expected}: {text}");
        }
    }
    let quotas = cluster.directory.path().join("quotas.json").display().to_string();
    fs::write(&quotas, r#"{"schema": "forge.quotas.v1", "submitters": {"a": {"jobs": 1}}}"#).unwrap();
    for (arguments, expected) in [
        (&["planner", "--quotas", &quotas][..], "/submitters/a/jobs"),
        (&["up", "--quotas", &quotas], "/submitters/a/jobs"),
        (&["planner", "--quotas", "/nowhere"], "--quotas: /nowhere"),
        (&["aggregator", "--object-lock", "governance:1"], "--object-lock"),
        (&["aggregator", "--object-lock", "for-ever"], "--object-lock"),
        (&["aggregator", "--identity", "/nowhere"], "--identity"),
        (&["worker", "--backend", "abacus"], "abacus"),
        (&["planner", "--kv-namespaces", "forge_secrets"], "--kv-namespaces"),
    ] {
        let (code, text) = run_command(cluster.forge().args(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// Status and body of a GET request to a local port; None if there is no complete response.
pub fn http_get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: forge\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Waits until a path responds with a status.
#[track_caller]
fn wait_for_status(port: u16, path: &str, status: u16) {
    let started = Instant::now();
    while http_get(port, path).is_none_or(|(found, _)| found != status) {
        assert!(
            started.elapsed() < WAIT_LIMIT,
            "{path} does not respond with {status}: {:?}",
            http_get(port, path)
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn health_readiness_and_metrics_follow_the_service_state() {
    let mut cluster = Cluster::start_without("worker");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    cluster.spawn("worker", &["worker", "--http", &format!("127.0.0.1:{port}")]);
    wait_for_status(port, "/readyz", 200);
    cluster.complete_warm_up();
    assert_eq!(http_get(port, "/healthz").unwrap().0, 200);
    assert_eq!(http_get(port, "/nothing").unwrap().0, 404);
    let (status, metrics) = http_get(port, "/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
    let executed =
        metrics.lines().find(|line| line.contains("shard") && line.contains("ok") && !line.starts_with('#'));
    assert!(executed.is_some(), "{metrics}");
    cluster.nats.kill();
    wait_for_status(port, "/readyz", 503);
    assert_eq!(http_get(port, "/healthz").unwrap().0, 200);
    cluster.nats.restart();
    wait_for_status(port, "/readyz", 200);
}

#[test]
fn trace_id_of_the_envelope_appears_in_every_services_log() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    cluster.environment.push(("FORGE_LOG".to_owned(), "info,forge_worker=debug".to_owned()));
    for service in ["planner", "aggregator", "worker"] {
        cluster.spawn(service, &[service]);
    }
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let envelope = with_field(insurance_envelope("traced", 2), "/ctx/trace_id", json!(trace));
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    assert_eq!(record["trace_id"], trace, "{record:#}");
    for service in ["worker", "aggregator"] {
        let log = fs::read_to_string(cluster.directory.path().join(format!("{service}.log"))).unwrap();
        let traced = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let traced = traced.filter(|line| line["span"]["trace_id"] == trace).count();
        assert!(traced > 0, "{service}: {log}");
    }
}

#[test]
fn worker_without_a_gpu_logs_the_reason_and_executes_cpu_shards() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    cluster.environment.push(("VK_DRIVER_FILES".to_owned(), "/dev/null".to_owned()));
    cluster.environment.push(("VK_ICD_FILENAMES".to_owned(), "/dev/null".to_owned()));
    for service in ["planner", "aggregator", "verifier", "worker"] {
        cluster.spawn(service, &[service]);
    }
    let waiting =
        with_field(insurance_envelope("waiting", 2), "/policy", json!({"target": "gpu", "timeout_ms": 4000}));
    let cpu = with_field(insurance_envelope("cpu", 2), "/policy/target", json!("cpu"));
    cluster.submit(&waiting);
    cluster.submit(&cpu);
    cluster.assert_completes(&cpu);
    let record = cluster.wait_for_end("waiting");
    assert_eq!(
        (&record["error"]["code"], &record["progress"]["shards_done"]),
        (&json!("timeout"), &json!(0))
    );
    let log = fs::read_to_string(cluster.directory.path().join("worker.log")).unwrap();
    assert!(log.contains("no Vulkan driver reports a GPU"), "{log}");
}
