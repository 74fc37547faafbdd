//! Messages of clients and workers whose headers the services' NATS client cannot parse: no job
//! waits because of them, also after restarts, and the permissions suffice to step over them.

use super::{connect_as, start_cluster, use_role};
use crate::{
    raw_nats::RawNatsConnection,
    support::{Cluster, insurance_envelope},
};

/// The first makes the client drop its connection; at the second its task panics.
const UNREADABLE_HEADERS: [&str; 2] =
    ["NATS/1.0\r\nno colon\r\n\r\n", "NATS/1.0\r\nForge-Test: a\rb\r\n\r\n"];

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

#[test]
fn unreadable_messages_stop_no_job() {
    let mut cluster = start_cluster();
    for job in ["first", "after-restart"] {
        let envelope = insurance_envelope(job, 400);
        cluster.submit(&envelope);
        attack(&cluster, cluster.record(job)["uid"].as_str().unwrap());
        cluster.assert_completes(&envelope);
        for service in ["planner", "aggregator"] {
            cluster.kill(service);
            use_role(&mut cluster, service);
            cluster.spawn(service, &[service]);
            use_role(&mut cluster, "client");
        }
    }
    let logs = cluster.logs();
    assert!(logs.contains("stepped over a message whose headers cannot be read"), "{logs}");
    assert!(!logs.contains("permit") && !logs.contains("ermissions"), "{logs}");
}
