//! `deploy/nats/nats-server.conf`: every service can do its work under it, and nobody more than that. What is refused is
//! tried by hand, with the credential alone: every attempt has to meet the server's refusal.

mod workers;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use forge_harness::{NatsConfig, NatsServer};
use serde_json::{Value, json};

use crate::{
    support::{Cluster, PATIENCE, Place, insurance, with},
    wire::Wire,
};

const ROLES: [&str; 6] = ["client", "planner", "worker", "worker-gpu", "verifier", "aggregator"];

fn password(role: &str) -> String {
    format!("{role}-secret")
}

/// The committed file.
fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nats/nats-server.conf")
}

/// The committed file, with a password for each role, and its data in a directory.
fn server(data: &Path) -> NatsServer {
    server_of(configuration(), data)
}

fn server_of(file: PathBuf, data: &Path) -> NatsServer {
    let variable =
        |role: &&str| (format!("FORGE_{}_PASSWORD", role.to_uppercase().replace('-', "_")), password(role));
    let mut environment: Vec<_> = ROLES.iter().map(variable).collect();
    environment.push(("FORGE_NATS_DATA".to_owned(), data.display().to_string()));
    NatsServer::start(&NatsConfig { file: Some(file), environment, ..NatsConfig::default() })
}

fn become_role(cluster: &mut Cluster, role: &str) {
    cluster.environment = vec![
        ("FORGE_NATS_USER".to_owned(), role.to_owned()),
        ("FORGE_NATS_PASSWORD".to_owned(), password(role)),
        ("FORGE_NATS_INBOX_PREFIX".to_owned(), format!("_INBOX_{role}")),
    ];
}

/// All services, each with its own credential; commands with the client's.
fn cluster() -> Cluster {
    // The planner first: a worker that finds no bucket asks whether there is one, which it is not permitted.
    cluster_of(&["planner", "aggregator", "verifier", "worker"])
}

fn cluster_of(services: &[&str]) -> Cluster {
    let mut cluster = Cluster::empty(Place::Directory);
    cluster.nats = server(&cluster.directory.path().join("nats"));
    for service in services {
        become_role(&mut cluster, service);
        cluster.spawn(service, &[service]);
        become_role(&mut cluster, "client");
        let started = Instant::now();
        while cluster.run(&["status", "nobody"]).status.code() != Some(2) {
            assert!(started.elapsed() < PATIENCE, "{}", cluster.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }
    cluster
}

fn wire(cluster: &Cluster, role: &str) -> Wire {
    Wire::connect(&cluster.nats.url(), role, &password(role))
}

/// Each of these is refused, by name.
#[track_caller]
fn refused(wire: &mut Wire, publish: &[&str], subscribe: &[&str]) {
    for subject in publish {
        let errors = wire.publish(subject, "");
        let expected = format!("Permissions Violation for Publish to \"{subject}\"");
        assert!(errors.iter().any(|error| error.contains(&expected)), "{subject}: {errors:?}");
    }
    for subject in subscribe {
        let errors = wire.send(&format!("SUB {subject} 1"));
        let expected = format!("Permissions Violation for Subscription to \"{subject}\"");
        assert!(errors.iter().any(|error| error.contains(&expected)), "{subject}: {errors:?}");
    }
}

const OTHERS_INBOXES: [&str; 6] =
    ["_INBOX.>", "_INBOX_planner.>", "_INBOX_verifier.>", "_INBOX_aggregator.>", "_INBOX_*.>", ">"];

#[test]
fn every_service_can_do_its_work_and_says_nothing_of_refusals() {
    let mut cluster = cluster();
    let envelope = with(insurance("allowed", 6), "/policy/verify", json!("full"));
    cluster.submit(&envelope);
    let record = cluster.completes(&envelope);
    assert_eq!(record["progress"]["shards_verified"], 6);
    // The other end of a job, and the client's other commands.
    let long = with(insurance("long", 2_000_000), "/policy/max_agents", json!(1));
    cluster.submit(&long);
    for command in [&["cancel", "long"][..], &["jobs"], &["watch", "allowed", "--format", "json"]] {
        let output = cluster.run(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}{}", cluster.logs());
    }
    assert_eq!(cluster.record("long")["state"], "cancelled");
    // This is one server, which does not sync always.
    let started = Instant::now();
    for warning in ["three servers and FORGE_REPLICAS=3", "for production, `sync_interval: always`"] {
        while !cluster.logs().contains(warning) {
            assert!(started.elapsed() < PATIENCE, "{warning}: {}", cluster.logs());
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
fn planners_and_verifiers_cannot_read_the_key_of_checks() {
    let cluster = cluster_of(&["planner", "aggregator"]);
    let mut aggregator = wire(&cluster, "aggregator");
    assert_eq!(aggregator.send("SUB _INBOX_aggregator.mine.* 1"), Vec::<String>::new());
    let key = "$JS.API.DIRECT.GET.KV_forge_secrets.$KV.forge_secrets.verify_key";
    let key_is_there = aggregator.ask(key, "");
    assert!(key_is_there.contains("Nats-Stream: KV_forge_secrets"), "{key_is_there}");
    for role in ["planner", "verifier", "client", "worker"] {
        let reading = [
            key,
            "$JS.API.DIRECT.GET.KV_forge_secrets",
            "$JS.API.STREAM.MSG.GET.KV_forge_secrets",
            "$JS.API.STREAM.SNAPSHOT.KV_forge_secrets",
            "$JS.API.CONSUMER.CREATE.KV_forge_secrets",
            "$JS.API.CONSUMER.CREATE.KV_forge_secrets.mine",
            "$JS.API.CONSUMER.CREATE.KV_forge_secrets.mine.$KV.forge_secrets.verify_key",
            "$JS.API.CONSUMER.DURABLE.CREATE.KV_forge_secrets.mine",
            "$JS.API.CONSUMER.MSG.NEXT.KV_forge_secrets.mine",
        ];
        refused(&mut wire(&cluster, role), &reading, &["$KV.>", "$KV.forge_secrets.>"]);
    }
    // Nor by copying it elsewhere, nor what only others read.
    let copying = [
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.UPDATE.KV_forge_secrets",
        "$JS.API.STREAM.UPDATE.FORGE_DUPLICATES",
        "$JS.API.CONSUMER.CREATE.FORGE_RESULTS.mine",
        "$JS.API.CONSUMER.CREATE.FORGE_JOBS.mine",
        "$JS.API.CONSUMER.CREATE.FORGE_SHARDS.mine.forge.v1.shards.cpu.>",
        "$JS.API.CONSUMER.CREATE.KV_jobs.mine.$KV.jobs.>",
        "$JS.API.CONSUMER.CREATE.KV_forge_agents.mine.$KV.forge_agents.>",
    ];
    refused(&mut wire(&cluster, "verifier"), &copying, &[]);
    // A subject that is permitted, about a stream that is not.
    let mut planner = wire(&cluster, "planner");
    assert_eq!(planner.send("SUB _INBOX_planner.mine.* 1"), Vec::<String>::new());
    let config = json!({"name": "mine", "ack_policy": "none", "mem_storage": true});
    let body = json!({"stream_name": "KV_forge_secrets", "action": "create", "config": config});
    let answer = planner.ask("$JS.API.CONSUMER.CREATE.KV_jobs.mine", &body.to_string());
    assert!(answer.contains("\"error\""), "{answer}");
}

#[test]
fn services_learn_how_jetstream_is_set_and_nobody_else_does() {
    let nothing = Vec::<String>::new();
    let data = tempfile::tempdir().unwrap();
    let nats = server(data.path());
    let connect = |role| Wire::connect(&nats.url(), role, &password(role));
    for role in ["planner", "verifier", "aggregator"] {
        let mut service = connect(role);
        assert_eq!(service.send(&format!("SUB _INBOX_{role}.mine.* 1")), nothing);
        let answer = service.ask("forge.v1.nats.jetstream", "");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["data"]["config"]["sync_interval"].is_u64(), "{answer}");
        let more = ["$SYS.REQ.SERVER.PING.JSZ", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.FORGE.CONNZ"];
        refused(&mut service, &more, &["$SYS.>"]);
    }
    for role in ["client", "worker", "worker-gpu"] {
        refused(&mut connect(role), &["forge.v1.nats.jetstream", "$SYS.REQ.SERVER.PING.JSZ"], &[]);
    }
}

#[test]
fn a_client_reads_records_and_writes_none() {
    let cluster = cluster();
    let envelope = insurance("read-only", 1);
    cluster.submit(&envelope);
    let record = cluster.completes(&envelope);
    let mut client = wire(&cluster, "client");
    let publish = [
        "$KV.jobs.read-only",
        "forge.v1.shards.any.read-only.0-0",
        "forge.v1.duplicates.read-only.0-0",
        "forge.v1.results.read-only.0-0",
        "forge.v1.verdicts.read-only.0-0",
        "forge.v1.reduce.read-only",
        "forge.v1.ended.read-only",
        "$KV.forge_agents.quarantine.UA",
        "$KV.forge_agents.workers.UA",
        "$KV.forge_programs.00",
        "$KV.forge_secrets.verify_key",
        "$JS.API.DIRECT.GET.KV_forge_secrets.$KV.forge_secrets.verify_key",
        "$JS.API.DIRECT.GET.KV_forge_programs.$KV.forge_programs.00",
        "$JS.API.STREAM.MSG.GET.KV_forge_secrets",
        "forge.v1.jobs.submit.alice",
        "forge.v1.api.submit.alice",
        "$KV.forge_quotas.default",
        "$JS.API.DIRECT.GET.KV_forge_quotas.$KV.forge_quotas.default",
        "$JS.API.CONSUMER.CREATE.KV_forge_quotas",
        "$JS.API.CONSUMER.CREATE.KV_forge_secrets",
        "$JS.API.CONSUMER.CREATE.FORGE_JOBS",
        "$JS.API.STREAM.PURGE.KV_jobs",
        "$JS.API.STREAM.DELETE.KV_jobs",
        "$JS.API.STREAM.UPDATE.KV_jobs",
        "$JS.API.STREAM.CREATE.MINE",
        "_INBOX_planner.a.b",
    ];
    let subscribe = ["forge.v1.>", "forge.v1.api.*", "forge.v1.jobs.submit", "$KV.jobs.>", "_INBOX_worker.>"];
    refused(&mut client, &publish, &subscribe);
    refused(&mut client, &[], &OTHERS_INBOXES);
    assert_eq!(cluster.record("read-only"), record);
}

/// The committed file with a user for alice alone, made from `client` as the file says.
fn with_alice(directory: &Path) -> PathBuf {
    let text = fs::read_to_string(configuration()).unwrap();
    let from = text.find("      {\n        user: client\n").unwrap();
    let to = from + text[from..].find("\n      }\n").unwrap() + "\n      }\n".len();
    let api = r#""forge.v1.api.submit.alice", "forge.v1.api.status", "forge.v1.api.cancel""#;
    let alice = text[from..to]
        .replace("user: client", "user: client-alice")
        .replace("$FORGE_CLIENT_PASSWORD", &password("client-alice"))
        .replace("_INBOX_client.>", "_INBOX_client-alice.>")
        .replace("\"forge.v1.jobs.submit\"", "\"forge.v1.jobs.submit.alice\"")
        .replace("\"forge.v1.api.*\"", api);
    let path = directory.join("nats-server.conf");
    fs::write(&path, [&text[..to], &alice, &text[to..]].concat()).unwrap();
    path
}

#[test]
fn a_user_that_is_tied_to_a_submitter_submits_as_nobody_else() {
    let mut cluster = Cluster::empty(Place::Directory);
    let file = with_alice(cluster.directory.path());
    cluster.nats = server_of(file, &cluster.directory.path().join("nats"));
    let quotas = cluster.directory.path().join("quotas.json").display().to_string();
    let text = r#"{"schema": "forge.quotas.v1", "submitters": {"alice": {"iterations_per_day": 65536}}}"#;
    fs::write(&quotas, text).unwrap();
    become_role(&mut cluster, "planner");
    cluster.spawn("planner", &["planner", "--quotas", &quotas]);
    become_role(&mut cluster, "client-alice");
    cluster.environment.push(("FORGE_SUBMITTER".to_owned(), "alice".to_owned()));
    assert_eq!(cluster.submit(&insurance("mine", 1)), "mine");
    assert_eq!(cluster.record("mine")["submitter"], "alice");
    let publish = [
        "forge.v1.jobs.submit",
        "forge.v1.jobs.submit.bob",
        "forge.v1.jobs.submit.default",
        "forge.v1.jobs.submit.alice.bob",
        "forge.v1.api.submit",
        "forge.v1.api.submit.bob",
        "$KV.forge_quotas.alice",
        "$KV.jobs.mine",
    ];
    let mut alice = wire(&cluster, "client-alice");
    refused(&mut alice, &publish, &["forge.v1.api.submit.*", "_INBOX_client.>"]);
    let path = cluster.directory.path().join("mine.json").display().to_string();
    let output = cluster.run(&["submit", &path, "--as", "bobs", "--submitter", "bob"]);
    assert!(!output.status.success() && cluster.record("bobs").is_null(), "{output:?}");
    refused(&mut wire(&cluster, "client"), &["forge.v1.jobs.submit.alice", "forge.v1.api.submit.alice"], &[]);
    // The planner has what it needs to count.
    assert!(!cluster.logs().contains("ermission"), "{}", cluster.logs());
}

#[test]
fn trusted_services_keep_to_their_parts() {
    let data = tempfile::tempdir().unwrap();
    let nats = server(data.path());
    let connect = |role| Wire::connect(&nats.url(), role, &password(role));
    let planner = [
        "forge.v1.verdicts.j.0-0",
        "forge.v1.results.j.0-0",
        "$KV.forge_agents.quarantine.UA",
        "$KV.forge_secrets.verify_key",
    ];
    refused(&mut connect("planner"), &planner, &["forge.v1.results.>", "_INBOX_aggregator.>"]);
    let verifier = [
        "$KV.jobs.j",
        "forge.v1.shards.any.j.0-0",
        "forge.v1.reduce.j",
        "$KV.forge_secrets.verify_key",
        "$KV.forge_quotas.alice",
    ];
    refused(&mut connect("verifier"), &verifier, &["forge.v1.duplicates.>", "_INBOX_planner.>"]);
    let aggregator = [
        "forge.v1.shards.any.j.0-0",
        "forge.v1.results.j.0-0",
        "$KV.forge_agents.quarantine.UA",
        "$KV.forge_quotas.alice",
        "$JS.API.DIRECT.GET.KV_forge_quotas.$KV.forge_quotas.alice",
    ];
    refused(&mut connect("aggregator"), &aggregator, &["forge.v1.results.>", "_INBOX_verifier.>"]);
    for role in ROLES {
        refused(&mut connect(role), &["$JS.API.STREAM.DELETE.KV_jobs", "$SYS.REQ.SERVER.PING"], &["$SYS.>"]);
    }
}
