//! Servers that offer little: less storage than a job's results need, and low limits of requests,
//! streams and consumers.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use forge_harness::NatsConfig;
use serde_json::json;

use crate::{
    raw_nats::RawNatsConnection,
    service_operations::http_get,
    support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope, with_field},
};

fn start_nats(jetstream: &str, extra: &str) -> Cluster {
    let config =
        NatsConfig { jetstream: jetstream.to_owned(), extra: extra.to_owned(), ..NatsConfig::default() };
    Cluster::empty_with_nats(TestStore::Directory, &config)
}

/// Waits until `/readyz` of a service responds with a status, and a text that has this part.
#[track_caller]
fn wait_for_readiness(cluster: &Cluster, port: u16, status: u16, part: &str) {
    let started = Instant::now();
    loop {
        let response = http_get(port, "/readyz");
        if response.as_ref().is_some_and(|(found, text)| *found == status && text.contains(part)) {
            return;
        }
        assert!(started.elapsed() < WAIT_LIMIT, "{response:?}, expected {status}\n{}", cluster.logs());
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_job_whose_results_do_not_fit_says_so_and_leaves_space_to_others() {
    let mut cluster = start_nats("max_file_store: 8MB", "");
    for service in ["planner", "aggregator", "verifier"] {
        cluster.spawn(service, &[service]);
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    cluster.spawn("worker", &["worker", "--http", &format!("127.0.0.1:{port}")]);
    cluster.complete_warm_up();
    wait_for_readiness(&cluster, port, 200, "ok");
    cluster.submit(&insurance_envelope("large", 2000));
    let is_waiting = |record: &serde_json::Value| {
        record["waiting"].as_str().is_some_and(|reason| reason.contains("FORGE_RESULTS"))
    };
    let record = cluster.wait_until("large", "waiting for space", is_waiting);
    assert_eq!(record["state"], "running");
    for command in [["jobs"].as_slice(), &["status", "large"]] {
        let text = String::from_utf8(cluster.run(command).stdout).unwrap();
        assert!(text.contains("waiting: "), "{text}");
    }
    let small = insurance_envelope("small", 3);
    cluster.submit(&small);
    cluster.assert_completes(&small);
    wait_for_readiness(&cluster, port, 200, "ok");
    let cancel = cluster.run(&["cancel", "large"]);
    assert!(cancel.status.success(), "{}{}", String::from_utf8_lossy(&cancel.stderr), cluster.logs());
    let record = cluster.wait_for_end("large");
    assert_eq!((&record["state"], &record["waiting"]), (&json!("cancelled"), &json!(null)));
}

/// The server refuses every message then, also those of streams that have space.
#[test]
fn a_job_can_be_cancelled_while_others_use_up_the_servers_storage() {
    let cluster = start_nats("max_file_store: 16MB", "").with_services();
    cluster.complete_warm_up();
    let mut other = RawNatsConnection::connect(&cluster.nats.url(), "other", "");
    other.send("SUB _INBOX_other.mine.* 1");
    let config = json!({"name": "OTHER", "subjects": ["other"], "storage": "file", "retention": "limits"});
    let created = other.request_reply("$JS.API.STREAM.CREATE.OTHER", &config.to_string());
    assert!(!created.contains("\"error\""), "{created}");
    for _ in 0..20 {
        other.publish("other", &"x".repeat(600_000));
    }
    cluster.submit(&insurance_envelope("large", 2000));
    // Until nothing more is stored.
    let mut stored = || {
        let reply = other.request_reply("$JS.API.STREAM.INFO.FORGE_RESULTS", "");
        let info: serde_json::Value = serde_json::from_str(&reply).unwrap();
        info["state"]["bytes"].as_u64().unwrap()
    };
    let mut before = stored();
    loop {
        thread::sleep(Duration::from_secs(2));
        let now = stored();
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    // Whatever space the job has left.
    for _ in 0..200 {
        other.publish("other", &"x".repeat(30_000));
    }
    let cancel = cluster.run(&["cancel", "large"]);
    assert!(cancel.status.success(), "{}{}", String::from_utf8_lossy(&cancel.stderr), cluster.logs());
    assert_eq!(cluster.wait_for_end("large")["state"], "cancelled");
    let small = insurance_envelope("small", 3);
    cluster.submit(&small);
    cluster.assert_completes(&small);
}

#[test]
fn services_ask_for_no_more_than_the_server_allows() {
    let limits = "limits { max_request_batch: 3, max_ack_pending: 50 }";
    let cluster = start_nats(limits, "").with_services();
    let envelope = with_field(insurance_envelope("limited", 60), "/policy/verify", json!("full"));
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    assert_eq!(record["progress"]["shards_verified"], 60);
}

#[test]
fn a_limit_of_the_account_that_is_too_low_is_named() {
    let accounts = "accounts { A { jetstream: { max_streams: 5 }, users: [{ user: streams, password: p }] }
                               B { jetstream: { max_consumers: 4 }, users: [{ user: consumers, password: p }] } }";
    let cluster = start_nats("", accounts);
    for limit in ["streams", "consumers"] {
        let url = cluster.nats.url().replace("nats://", &format!("nats://{limit}:p@"));
        let planner = cluster.forge().arg("planner").env("FORGE_NATS_URL", url).output().unwrap();
        let text = String::from_utf8_lossy(&planner.stderr).into_owned();
        assert!(!planner.status.success() && text.contains(&format!("the limit max_{limit}")), "{text}");
    }
}
