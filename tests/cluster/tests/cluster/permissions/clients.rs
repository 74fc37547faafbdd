//! Permissions of clients: which operations they are granted, and that every other is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    FOREIGN_INBOXES, assert_refused, configuration_file, connect_as, last_sequences, password, start_cluster,
    start_server, start_server_with, start_services, use_role,
};
use crate::{
    raw_nats::RawNatsConnection,
    support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope},
};

#[test]
fn client_can_read_records_but_not_write_them() {
    let cluster = start_cluster();
    let envelope = insurance_envelope("read-only", 1);
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    let mut client = connect_as(&cluster, "client");
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
        "$KV.forge_quotas.default",
        "forge.v1.jobs.submit.alice",
        "forge.v1.api.submit.alice",
        "_INBOX_planner.a.b",
    ];
    let subscribe = ["forge.v1.>", "forge.v1.api.*", "forge.v1.jobs.submit", "$KV.jobs.>", "_INBOX_worker.>"];
    assert_refused(&mut client, &publish, &subscribe);
    assert_refused(&mut client, &[], &FOREIGN_INBOXES);
    assert_eq!(cluster.record("read-only"), record);
}

#[test]
fn client_can_send_no_request_to_jetstream() {
    let data = tempfile::tempdir().unwrap();
    let nats = start_server(data.path());
    let mut client = RawNatsConnection::connect(&nats.url(), "client", &password("client"));
    let requests = [
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.KV_jobs",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.PURGE.KV_jobs",
        "$JS.API.STREAM.DELETE.KV_jobs",
        "$JS.API.STREAM.UPDATE.KV_jobs",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.MSG.GET.KV_forge_secrets",
        "$JS.API.DIRECT.GET.KV_jobs.$KV.jobs.j",
        "$JS.API.DIRECT.GET.KV_forge_secrets.$KV.forge_secrets.verify_key",
        "$JS.API.DIRECT.GET.KV_forge_programs.$KV.forge_programs.00",
        "$JS.API.DIRECT.GET.KV_forge_quotas.$KV.forge_quotas.default",
        "$JS.API.CONSUMER.CREATE.KV_jobs",
        "$JS.API.CONSUMER.CREATE.KV_jobs.mine",
        "$JS.API.CONSUMER.CREATE.KV_jobs.mine.$KV.jobs.>",
        "$JS.API.CONSUMER.DURABLE.CREATE.KV_jobs.mine",
        "$JS.API.CONSUMER.CREATE.KV_forge_quotas",
        "$JS.API.CONSUMER.CREATE.KV_forge_secrets",
        "$JS.API.CONSUMER.CREATE.FORGE_JOBS",
        "$JS.API.CONSUMER.INFO.KV_jobs.mine",
        "$JS.API.CONSUMER.MSG.NEXT.KV_jobs.mine",
        "$JS.API.CONSUMER.DELETE.KV_jobs.mine",
        "$JS.FC.KV_jobs.x",
        "$JS.ACK.FORGE_JOBS.planners.1.1.1.1.1",
    ];
    assert_refused(&mut client, &requests, &["$JS.>", "$JS.API.>", "$JS.ACK.>", "$JS.EVENT.>"]);
}

/// Subjects of streams and buckets, and requests to JetStream that would do harm.
const STORED_SUBJECTS: [&str; 12] = [
    "$KV.jobs.x",
    "$KV.forge_agents.quarantine.UA",
    "$KV.forge_agents.verifiers.UA",
    "$KV.forge_programs.aa",
    "$KV.forge_secrets.verify_key",
    "$KV.forge_quotas.default",
    "forge.v1.shards.any.x.0-0",
    "forge.v1.duplicates.x.0-0",
    "forge.v1.results.x.0-0",
    "forge.v1.verdicts.x.0-0",
    "forge.v1.reduce.x",
    "$JS.API.STREAM.PURGE.FORGE_JOBS",
];

#[test]
fn replies_to_a_client_are_never_stored_under_a_subject_it_chose() {
    let no_errors = Vec::<String>::new();
    let cluster = start_services(&["planner", "aggregator", "verifier", "worker"]);
    let envelope = insurance_envelope("mine", 1);
    cluster.submit(&envelope);
    cluster.assert_completes(&envelope);
    let mut planner = connect_as(&cluster, "planner");
    assert_eq!(planner.send("SUB _INBOX_planner.mine.* 1"), no_errors);
    let mut client = connect_as(&cluster, "client");
    // Heartbeats would change the bucket of agents, and the planner would answer its own client.
    let mut cluster = cluster;
    for service in ["worker", "verifier", "aggregator"] {
        cluster.kill(service);
    }
    let before = last_sequences(&mut planner);
    let requests = [
        ("forge.v1.api.status", "mine"),
        ("forge.v1.api.status", "unknown"),
        ("forge.v1.api.cancel", "mine"),
        ("forge.v1.api.list", ""),
        ("$SRV.PING", ""),
        ("$SRV.INFO.forge", ""),
    ];
    for reply in STORED_SUBJECTS {
        for (subject, payload) in requests {
            assert_eq!(client.request(subject, reply, "", payload), no_errors, "{subject} {reply}");
        }
    }
    // Nor may it direct traces of its messages there.
    for destination in STORED_SUBJECTS {
        let trace = format!("Nats-Trace-Dest: {destination}\r\n");
        let errors = client.request("forge.v1.api.status", "_INBOX_client.x", &trace, "mine");
        assert!(
            errors.iter().any(|error| error.contains("Permissions Violation")),
            "{destination}: {errors:?}"
        );
    }
    // Whatever was not refused has been answered by now.
    assert_eq!(client.send("SUB _INBOX_client.mine.* 1"), no_errors);
    assert!(client.request_reply("forge.v1.api.status", "mine").contains("\"mine\""));
    thread::sleep(Duration::from_millis(500));
    assert_eq!(last_sequences(&mut planner), before);
    // A submission is stored once, whatever its acknowledgement's subject is.
    for (count, reply) in (1..).zip(STORED_SUBJECTS) {
        assert_eq!(client.request("forge.v1.jobs.submit", reply, "", "no envelope"), no_errors);
        thread::sleep(Duration::from_millis(50));
        let sequence = last_sequences(&mut planner)["FORGE_JOBS"];
        assert_eq!(sequence, before["FORGE_JOBS"] + count, "{reply}");
    }
    let after = last_sequences(&mut planner);
    for name in
        ["KV_forge_agents", "KV_forge_programs", "KV_forge_secrets", "KV_forge_quotas", "FORGE_SHARDS"]
    {
        assert_eq!(after[name], before[name], "{name}");
    }
}

/// A reply whose subject is an endpoint arrives there as a request. It has no reply subject, which
/// distinguishes it from requests.
#[test]
fn reply_redirected_to_an_endpoint_is_not_a_request() {
    let no_errors = Vec::<String>::new();
    let cluster = start_services(&["planner", "aggregator"]);
    cluster.submit(&insurance_envelope("waits", 1));
    let mut client = connect_as(&cluster, "client");
    assert_eq!(client.send("SUB _INBOX_client.mine.* 1"), no_errors);
    assert_eq!(client.request("forge.v1.api.status", "forge.v1.api.cancel", "", "waits"), no_errors);
    // A second redirected reply is submitted. It is a record and no envelope, so it is rejected.
    assert_eq!(client.request("forge.v1.api.status", "forge.v1.jobs.submit", "", "waits"), no_errors);
    let started = Instant::now();
    let rejected = loop {
        let page: Value = serde_json::from_str(&client.request_reply("forge.v1.api.list", "")).unwrap();
        let jobs = page["jobs"].as_array().unwrap().clone();
        if let Some(rejected) = jobs.into_iter().find(|job| job["job_id"] != "waits") {
            break rejected;
        }
        assert!(started.elapsed() < WAIT_LIMIT, "{}", cluster.logs());
        thread::sleep(Duration::from_millis(50));
    };
    assert!(rejected["job_id"].as_str().unwrap().starts_with("rejected-"), "{rejected}");
    assert_eq!(cluster.record("waits")["error"], Value::Null);
}

#[test]
fn client_discovers_the_micro_service_and_receives_notices_of_ended_jobs() {
    let no_errors = Vec::<String>::new();
    let cluster = start_cluster();
    let mut client = connect_as(&cluster, "client");
    assert_eq!(client.send("SUB _INBOX_client.mine.* 1"), no_errors);
    for subject in ["$SRV.PING", "$SRV.INFO.forge", "$SRV.STATS.forge"] {
        let reply: Value = serde_json::from_str(&client.request_reply(subject, "")).unwrap();
        assert_eq!(reply["name"], "forge", "{subject}: {reply}");
    }
    assert_eq!(client.send("SUB forge.v1.ended.* 2"), no_errors);
    let envelope = insurance_envelope("noticed", 1);
    let acknowledgement = client.request_reply("forge.v1.jobs.submit", &envelope.to_string());
    assert!(acknowledgement.contains("\"stream\":\"FORGE_JOBS\""), "{acknowledgement}");
    let record = cluster.assert_completes(&envelope);
    assert_eq!(client.next().trim_end(), record["uid"]);
}

#[test]
fn client_cannot_suppress_the_submission_of_another() {
    let no_errors = Vec::<String>::new();
    let cluster = start_cluster();
    // The digest of an envelope does not depend on its job id, and records show it.
    let known = insurance_envelope("known", 1);
    cluster.submit(&known);
    let digest = cluster.assert_completes(&known)["request"].as_str().unwrap().to_owned();
    let mut attacker = connect_as(&cluster, "client");
    assert_eq!(attacker.send("SUB _INBOX_client.mine.* 1"), no_errors);
    let headers = format!("Nats-Msg-Id: submit.victim.{digest}\r\n");
    let reply = "_INBOX_client.mine.reply";
    assert_eq!(attacker.request("forge.v1.jobs.submit", reply, &headers, "no envelope"), no_errors);
    assert!(attacker.next().contains("FORGE_JOBS"));
    let victim = insurance_envelope("victim", 1);
    let path = cluster.directory.path().join("victim.json").display().to_string();
    fs::write(&path, victim.to_string()).unwrap();
    let output = cluster.run(&["submit", &path, "--wait"]);
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), cluster.logs());
}

#[test]
fn planner_refuses_oversized_requests_and_invalid_pages() {
    let no_errors = Vec::<String>::new();
    let cluster = start_services(&["planner"]);
    let mut client = connect_as(&cluster, "client");
    assert_eq!(client.send("SUB _INBOX_client.mine.* 1"), no_errors);
    for subject in ["forge.v1.api.status", "forge.v1.api.cancel", "forge.v1.api.list"] {
        let reply = client.request_reply(subject, &" ".repeat(5000));
        assert!(reply.contains("Nats-Service-Error-Code: 413"), "{subject}: {reply}");
    }
    for request in [json!({"limit": 5000}), json!({"namespace": "forge_secrets"}), json!({"colour": "red"})] {
        let reply = client.request_reply("forge.v1.api.list", &request.to_string());
        assert!(reply.contains("Nats-Service-Error-Code: 40"), "{request}: {reply}");
    }
}

#[test]
fn jobs_are_listed_in_pages() {
    let mut cluster = start_services(&["planner"]);
    let jobs: Vec<String> = (0..7).map(|number| format!("listed-{number}")).collect();
    for job in &jobs {
        cluster.submit(&insurance_envelope(job, 1));
    }
    cluster.submit(&insurance_envelope("other", 1));
    let mut client = connect_as(&cluster, "client");
    assert_eq!(client.send("SUB _INBOX_client.mine.* 1"), Vec::<String>::new());
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let request = json!({"prefix": "listed-", "limit": 3, "after": after});
        let page: Value =
            serde_json::from_str(&client.request_reply("forge.v1.api.list", &request.to_string())).unwrap();
        assert_eq!(page["schema"], "forge.jobs.v1");
        let ids =
            page["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap().to_owned());
        found.extend(ids);
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, jobs);
    use_role(&mut cluster, "client");
    let output = cluster.run(&["jobs", "--limit", "2", "--format", "json"]);
    let listed: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["job_id"].clone())
        .collect();
    assert_eq!(listed, ["other", "listed-6"]);
}

/// Writes the production configuration with a second client user, for the submitter alice only, as
/// the comments of the file describe.
fn write_configuration_with_alice(directory: &Path) -> PathBuf {
    let text = fs::read_to_string(configuration_file()).unwrap();
    let start = text.find("      {\n        user: client\n").unwrap();
    let end = start + text[start..].find("\n      }\n").unwrap() + "\n      }\n".len();
    let api =
        r#""forge.v1.api.submit.alice", "forge.v1.api.status", "forge.v1.api.list", "forge.v1.api.cancel""#;
    let alice = text[start..end]
        .replace("user: client", "user: client-alice")
        .replace("$FORGE_CLIENT_PASSWORD", &password("client-alice"))
        .replace("_INBOX_client.>", "_INBOX_client-alice.>")
        .replace("\"forge.v1.jobs.submit\"", "\"forge.v1.jobs.submit.alice\"")
        .replace("\"forge.v1.api.*\"", api);
    let path = directory.join("nats-server.conf");
    fs::write(&path, [&text[..end], &alice, &text[end..]].concat()).unwrap();
    path
}

#[test]
fn user_bound_to_a_submitter_cannot_submit_as_another() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    let file = write_configuration_with_alice(cluster.directory.path());
    cluster.nats = start_server_with(file, &cluster.directory.path().join("nats"));
    let quotas = cluster.directory.path().join("quotas.json").display().to_string();
    let text = r#"{"schema": "forge.quotas.v1", "submitters": {"alice": {"iterations_per_day": 65536}}}"#;
    fs::write(&quotas, text).unwrap();
    use_role(&mut cluster, "planner");
    cluster.spawn("planner", &["planner", "--quotas", &quotas]);
    use_role(&mut cluster, "client-alice");
    cluster.environment.push(("FORGE_SUBMITTER".to_owned(), "alice".to_owned()));
    assert_eq!(cluster.submit(&insurance_envelope("mine", 1)), "mine");
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
    let mut alice = connect_as(&cluster, "client-alice");
    assert_refused(&mut alice, &publish, &["forge.v1.api.submit.*", "_INBOX_client.>"]);
    let path = cluster.directory.path().join("mine.json").display().to_string();
    let output = cluster.run(&["submit", &path, "--as", "bobs", "--submitter", "bob"]);
    assert!(!output.status.success() && cluster.record("bobs").is_null(), "{output:?}");
    assert_refused(
        &mut connect_as(&cluster, "client"),
        &["forge.v1.jobs.submit.alice", "forge.v1.api.submit.alice"],
        &[],
    );
    // The planner has every permission that counting needs.
    assert!(!cluster.logs().contains("ermission"), "{}", cluster.logs());
}

#[test]
fn commands_report_that_no_planner_answers() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    cluster.nats = start_server(&cluster.directory.path().join("nats"));
    use_role(&mut cluster, "client");
    let started = Instant::now();
    let output = cluster.run(&["status", "any"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("no planner answers"), "{stderr}");
    assert!(started.elapsed() < WAIT_LIMIT);
}
