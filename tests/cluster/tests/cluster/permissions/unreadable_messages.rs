//! Messages of clients and workers whose headers the services' NATS client cannot parse: no job
//! waits because of them, also after restarts, and the permissions suffice to step over them.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use super::{connect_as, start_cluster, use_role};
use crate::{
    raw_nats::RawNatsConnection,
    service_operations::http_get,
    support::{Cluster, WAIT_LIMIT, insurance_envelope},
};

/// The first makes the client drop its connection; at the second its task panics. The others look
/// like statuses of the server.
const UNREADABLE_HEADERS: [&str; 4] = [
    "NATS/1.0\r\nno colon\r\n\r\n",
    "NATS/1.0\r\nForge-Test: a\rb\r\n\r\n",
    "NATS/1.0 503\r\n\r\n",
    "NATS/1.0 100 Idle Heartbeat\r\n\r\n",
];

fn publish_unreadable(connection: &mut RawNatsConnection, subject: &str) {
    for headers in UNREADABLE_HEADERS {
        let message = format!("HPUB {subject} {} {}\r\n{headers}{{}}", headers.len(), headers.len() + 2);
        assert_eq!(connection.send(&message), Vec::<String>::new(), "{subject}");
    }
}

/// Publishes unreadable messages wherever a client or worker may publish; some of them concern the
/// job `uid`.
fn attack(cluster: &Cluster, uid: &str) {
    let (mut client, mut worker) = (connect_as(cluster, "client"), connect_as(cluster, "worker"));
    for i in 0..20 {
        publish_unreadable(&mut client, "forge.v1.jobs.submit");
        publish_unreadable(&mut worker, &format!("forge.v1.results.default.{uid}.0-{i}"));
        publish_unreadable(&mut worker, &format!("$KV.forge_workers.default.U{i}"));
    }
    publish_unreadable(&mut client, "forge.v1.api.status");
    publish_unreadable(&mut client, "forge.v1.api.submit");
}

/// Waits until the metric of unreadable messages is above zero at a service's port.
fn wait_for_count(port: u16) {
    let started = Instant::now();
    loop {
        let scrape = http_get(port, "/metrics").map(|(_, text)| text).unwrap_or_default();
        let line = scrape.lines().find(|line| line.starts_with("forge_unreadable_messages_total{"));
        let count = line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        if count.is_some_and(|count| count > 0) {
            return;
        }
        assert!(started.elapsed() < WAIT_LIMIT, "no unreadable message is counted:\n{scrape}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn unreadable_messages_stop_no_job_and_are_counted() {
    let mut cluster = start_cluster();
    let (mut planner_port, mut uid) = (0, String::new());
    for job in ["first", "after-restart"] {
        let envelope = insurance_envelope(job, 400);
        cluster.submit(&envelope);
        uid = cluster.record(job)["uid"].as_str().unwrap().to_owned();
        attack(&cluster, &uid);
        cluster.assert_completes(&envelope);
        for service in ["planner", "aggregator"] {
            cluster.kill(service);
            use_role(&mut cluster, service);
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            cluster.spawn(service, &[service, "--http", &format!("127.0.0.1:{port}")]);
            if service == "planner" {
                planner_port = port;
            }
            use_role(&mut cluster, "client");
        }
    }
    // The planner of the last round has seen no attack yet.
    attack(&cluster, &uid);
    wait_for_count(planner_port);
    let logs = cluster.logs();
    assert!(logs.contains("stepped over a message whose headers cannot be read"), "{logs}");
    assert!(!logs.contains("permit") && !logs.contains("ermissions"), "{logs}");
}
