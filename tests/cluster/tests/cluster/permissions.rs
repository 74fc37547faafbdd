//! `deploy/nats/nats-server.conf` lets every service do its work and nothing more. Refusals are
//! tested over the raw protocol with each role's credential: the server must answer every attempt
//! with a permissions violation.

mod clients;
mod generated_credentials;
pub mod operators;
mod unreadable_messages;
mod workers;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use forge_bus::topology::{self, Stream};
use forge_harness::{NatsConfig, NatsServer};
use serde_json::{Value, json};

use crate::{
    raw_nats::RawNatsConnection,
    support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope, with_field},
};

const ROLES: [&str; 6] = ["client", "planner", "worker", "worker-gpu", "verifier", "aggregator"];

fn password(role: &str) -> String {
    format!("{role}-secret")
}

/// The configuration intended for production.
fn configuration_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nats/nats-server.conf")
}

/// Starts a server with the production configuration and a password for each role.
fn start_server(data: &Path) -> NatsServer {
    start_server_with(configuration_file(), data)
}

/// Starts a server with a configuration file that names the passwords by environment variables.
fn start_server_with(file: PathBuf, data: &Path) -> NatsServer {
    let variable =
        |role: &&str| (format!("FORGE_{}_PASSWORD", role.to_uppercase().replace('-', "_")), password(role));
    let mut environment: Vec<_> = ROLES.iter().map(variable).collect();
    environment.push(("FORGE_NATS_DATA".to_owned(), data.display().to_string()));
    NatsServer::start(&NatsConfig { file: Some(file), environment, ..NatsConfig::default() })
}

/// Gives the processes started from now on the credential of a role.
pub fn use_role(cluster: &mut Cluster, role: &str) {
    cluster.environment = vec![
        ("FORGE_NATS_USER".to_owned(), role.to_owned()),
        ("FORGE_NATS_PASSWORD".to_owned(), password(role)),
        ("FORGE_NATS_INBOX_PREFIX".to_owned(), format!("_INBOX_{role}")),
    ];
}

/// Starts all services, each with its own credential. Commands use the client's.
fn start_cluster() -> Cluster {
    // The planner creates the buckets. A worker that finds none looks for it, which it may not do.
    start_services(&["planner", "aggregator", "verifier", "worker"])
}

fn start_services(services: &[&str]) -> Cluster {
    let mut cluster = Cluster::empty(TestStore::Directory);
    cluster.nats = start_server(&cluster.directory.path().join("nats"));
    spawn_services(&mut cluster, services);
    cluster
}

fn spawn_services(cluster: &mut Cluster, services: &[&str]) {
    for service in services {
        use_role(cluster, service);
        cluster.spawn(service, &[service]);
        use_role(cluster, "client");
        let started = Instant::now();
        while cluster.run(&["status", "missing"]).status.code() != Some(2) {
            assert!(started.elapsed() < WAIT_LIMIT, "{}", cluster.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Connects with the credential of a role.
pub fn connect_as(cluster: &Cluster, role: &str) -> RawNatsConnection {
    RawNatsConnection::connect(&cluster.nats.url(), role, &password(role))
}

/// Asserts that the server refuses each publication and each subscription by name.
#[track_caller]
fn assert_refused(connection: &mut RawNatsConnection, publish: &[&str], subscribe: &[&str]) {
    for subject in publish {
        let errors = connection.publish(subject, "");
        let expected = format!("Permissions Violation for Publish to \"{subject}\"");
        assert!(errors.iter().any(|error| error.contains(&expected)), "{subject}: {errors:?}");
    }
    for subject in subscribe {
        let errors = connection.send(&format!("SUB {subject} 1"));
        let expected = format!("Permissions Violation for Subscription to \"{subject}\"");
        assert!(errors.iter().any(|error| error.contains(&expected)), "{subject}: {errors:?}");
    }
}

/// Sequence number of the last message of each stream and bucket.
fn last_sequences(planner: &mut RawNatsConnection) -> BTreeMap<String, u64> {
    let buckets = topology::all_buckets(&["jobs".to_owned()]);
    let buckets = buckets.iter().map(|bucket| format!("KV_{}", bucket.name()));
    let names = Stream::ALL.iter().map(|stream| stream.name().to_owned()).chain(buckets);
    let mut last_sequence = |name: &str| {
        let info = planner.request_reply(&format!("$JS.API.STREAM.INFO.{name}"), "");
        let info: Value = serde_json::from_str(&info).unwrap();
        info["state"]["last_seq"].as_u64().unwrap_or_else(|| panic!("{name}: {info}"))
    };
    names.map(|name| (name.clone(), last_sequence(&name))).collect()
}

/// Inboxes of other roles than worker and client.
const FOREIGN_INBOXES: [&str; 6] =
    ["_INBOX.>", "_INBOX_planner.>", "_INBOX_verifier.>", "_INBOX_aggregator.>", "_INBOX_*.>", ">"];

#[test]
fn services_run_jobs_without_permission_violations() {
    let mut cluster = start_cluster();
    let envelope = with_field(insurance_envelope("allowed", 6), "/policy/verify", json!("full"));
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    assert_eq!(record["progress"]["shards_verified"], 6);
    // A cancelled job, and the client's other commands.
    let long = with_field(insurance_envelope("long", 2_000_000), "/policy/max_agents", json!(1));
    cluster.submit(&long);
    for command in [&["cancel", "long"][..], &["jobs"], &["watch", "allowed", "--format", "json"]] {
        let output = cluster.run(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}{}", cluster.logs());
    }
    assert_eq!(cluster.record("long")["state"], "cancelled");
    // The services warn that this is a single server which does not sync every write.
    let started = Instant::now();
    for warning in ["three servers and FORGE_REPLICAS=3", "in production set `sync_interval: always`"] {
        while !cluster.logs().contains(warning) {
            assert!(started.elapsed() < WAIT_LIMIT, "{warning}: {}", cluster.logs());
            thread::sleep(Duration::from_millis(100));
        }
    }
    for service in ["worker", "verifier", "aggregator", "planner"] {
        cluster.kill(service);
    }
    let logs = cluster.logs();
    assert!(!logs.contains("permit") && !logs.contains("ermissions"), "{logs}");
}

#[test]
fn only_planners_and_aggregators_can_read_the_keys_of_jobs() {
    let cluster = start_services(&["planner", "aggregator"]);
    cluster.submit(&insurance_envelope("keyed", 1));
    let key = format!("$KV.forge_secrets.jobs.{}", cluster.record("keyed")["uid"].as_str().unwrap());
    for role in ["planner", "aggregator"] {
        let mut service = connect_as(&cluster, role);
        assert_eq!(service.send(&format!("SUB _INBOX_{role}.mine.* 1")), Vec::<String>::new());
        let latest = json!({"last_by_subj": key}).to_string();
        let reply = service.request_reply("$JS.API.STREAM.MSG.GET.KV_forge_secrets", &latest);
        assert!(reply.contains(&format!("\"subject\":\"{key}\"")), "{role}: {reply}");
    }
    for role in ["verifier", "client", "worker", "worker-gpu"] {
        let reads = [
            &format!("$JS.API.DIRECT.GET.KV_forge_secrets.{key}"),
            "$JS.API.DIRECT.GET.KV_forge_secrets",
            "$JS.API.STREAM.MSG.GET.KV_forge_secrets",
            "$JS.API.STREAM.SNAPSHOT.KV_forge_secrets",
            "$JS.API.CONSUMER.CREATE.KV_forge_secrets",
            "$JS.API.CONSUMER.CREATE.KV_forge_secrets.mine",
            &format!("$JS.API.CONSUMER.CREATE.KV_forge_secrets.mine.{key}"),
            "$JS.API.CONSUMER.DURABLE.CREATE.KV_forge_secrets.mine",
            "$JS.API.CONSUMER.MSG.NEXT.KV_forge_secrets.mine",
            &key,
        ];
        assert_refused(&mut connect_as(&cluster, role), &reads, &["$KV.>", "$KV.forge_secrets.>"]);
    }
    // Nor can they copy the bucket elsewhere, or create consumers on the streams of other roles.
    let copies = [
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.UPDATE.KV_forge_secrets",
        "$JS.API.STREAM.UPDATE.FORGE_DUPLICATES",
        "$JS.API.CONSUMER.CREATE.FORGE_RESULTS.mine",
        "$JS.API.CONSUMER.CREATE.FORGE_JOBS.mine",
        "$JS.API.CONSUMER.CREATE.FORGE_SHARDS.mine.forge.v1.shards.cpu.>",
        "$JS.API.CONSUMER.CREATE.KV_jobs.mine.$KV.jobs.>",
        "$JS.API.CONSUMER.CREATE.KV_forge_agents.mine.$KV.forge_agents.>",
    ];
    assert_refused(&mut connect_as(&cluster, "verifier"), &copies, &[]);
    // A permitted subject with a payload that names a stream that is not.
    let mut planner = connect_as(&cluster, "planner");
    assert_eq!(planner.send("SUB _INBOX_planner.mine.* 1"), Vec::<String>::new());
    let config = json!({"name": "mine", "ack_policy": "none", "mem_storage": true});
    let body = json!({"stream_name": "KV_forge_secrets", "action": "create", "config": config});
    let reply = planner.request_reply("$JS.API.CONSUMER.CREATE.KV_jobs.mine", &body.to_string());
    assert!(reply.contains("\"error\""), "{reply}");
}

#[test]
fn only_trusted_services_can_read_jetstream_settings() {
    let no_errors = Vec::<String>::new();
    let data = tempfile::tempdir().unwrap();
    let nats = start_server(data.path());
    let connect = |role| RawNatsConnection::connect(&nats.url(), role, &password(role));
    for role in ["planner", "verifier", "aggregator"] {
        let mut service = connect(role);
        assert_eq!(service.send(&format!("SUB _INBOX_{role}.mine.* 1")), no_errors);
        let reply = service.request_reply("forge.v1.nats.jetstream", "");
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert!(reply["data"]["config"]["sync_interval"].is_u64(), "{reply}");
        let other_requests =
            ["$SYS.REQ.SERVER.PING.JSZ", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.FORGE.CONNZ"];
        assert_refused(&mut service, &other_requests, &["$SYS.>"]);
    }
    for role in ["client", "worker", "worker-gpu"] {
        assert_refused(&mut connect(role), &["forge.v1.nats.jetstream", "$SYS.REQ.SERVER.PING.JSZ"], &[]);
    }
}

#[test]
fn trusted_services_cannot_publish_for_each_other() {
    let data = tempfile::tempdir().unwrap();
    let nats = start_server(data.path());
    let connect = |role| RawNatsConnection::connect(&nats.url(), role, &password(role));
    let planner = [
        "forge.v1.verdicts.j.0-0",
        "forge.v1.results.default.j.0-0",
        "forge.v1.results.verifiers.j.0-0",
        "$KV.forge_agents.quarantine.UA",
        "$KV.forge_agents.quarantined-pools.default",
        "$JS.API.CONSUMER.CREATE.FORGE_RESULTS.mine",
    ];
    assert_refused(&mut connect("planner"), &planner, &["forge.v1.results.>", "_INBOX_aggregator.>"]);
    let verifier = [
        "$KV.jobs.j",
        "forge.v1.shards.any.j.0-0",
        "forge.v1.reduce.j",
        "forge.v1.results.default.j.0-0",
        "$KV.forge_agents.quarantined-pools.default",
        "$KV.forge_workers.default.UA",
        "$KV.forge_secrets.jobs.00",
        "$KV.forge_quotas.alice",
    ];
    assert_refused(&mut connect("verifier"), &verifier, &["forge.v1.duplicates.>", "_INBOX_planner.>"]);
    let aggregator = [
        "forge.v1.shards.any.j.0-0",
        "forge.v1.results.default.j.0-0",
        "forge.v1.verdicts.j.0-0",
        "$KV.forge_workers.default.UA",
        "$KV.forge_quotas.alice",
        "$JS.API.DIRECT.GET.KV_forge_quotas.$KV.forge_quotas.alice",
    ];
    assert_refused(&mut connect("aggregator"), &aggregator, &["forge.v1.results.>", "_INBOX_verifier.>"]);
    for role in ROLES {
        assert_refused(
            &mut connect(role),
            &["$JS.API.STREAM.DELETE.KV_jobs", "$SYS.REQ.SERVER.PING"],
            &["$SYS.>"],
        );
    }
}
