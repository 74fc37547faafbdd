//! Permissions of operators and of the console: which operations they are granted, and that every
//! other is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    FOREIGN_INBOXES, assert_refused, configuration_file, connect_as, last_sequences, password,
    spawn_services, start_server_with, use_role,
};
use crate::{
    raw_nats::RawNatsConnection,
    support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope},
};

/// The optional users of the configuration.
const OPTIONAL_USERS: [&str; 2] = ["operator", "console"];

/// Starts all services under the configuration with its optional users.
pub fn start_cluster_with_operators() -> Cluster {
    let mut cluster = Cluster::empty(TestStore::Directory);
    let file = write_configuration_with_operators(cluster.directory.path());
    cluster.nats = start_server_with(file, &cluster.directory.path().join("nats"));
    spawn_services(&mut cluster, &["planner", "aggregator", "verifier", "worker"]);
    cluster
}

/// Writes the production configuration with its optional users.
fn write_configuration_with_operators(directory: &Path) -> PathBuf {
    let mut text = fs::read_to_string(configuration_file()).unwrap();
    for user in OPTIONAL_USERS {
        let start = text.find(&format!("      # {{\n      #   user: {user}\n")).unwrap();
        let end = start + text[start..].find("\n      # }\n").unwrap() + "\n      # }\n".len();
        let uncommented = text[start..end].lines().map(|line| line.replacen("      # ", "      ", 1) + "\n");
        let block = uncommented
            .collect::<String>()
            .replace(&format!("$FORGE_{}_PASSWORD", user.to_uppercase()), &password(user));
        text.replace_range(start..end, &block);
    }
    let path = directory.join("nats-server.conf");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn operator_lists_agents_and_lifts_quarantines() {
    let mut cluster = start_cluster_with_operators();
    use_role(&mut cluster, "operator");
    let started = Instant::now();
    let agents = loop {
        let output = cluster.run(&["agents", "--format", "json"]);
        let agents: Vec<Value> =
            output.stdout.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice).collect();
        if agents.len() == 3 {
            break agents;
        }
        assert!(started.elapsed() < WAIT_LIMIT, "{output:?}{}", cluster.logs());
        thread::sleep(Duration::from_millis(100));
    };
    let roles: Vec<_> = agents.iter().map(|agent| agent["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["aggregator", "verifier", "worker"]);
    let worker = &agents[2];
    assert_eq!((&worker["pool"], &worker["quarantine"]), (&json!("default"), &Value::Null), "{worker:#}");
    assert!(worker["live"] == true && worker["last_seen_seconds"].as_f64().unwrap() < 10.0, "{worker:#}");

    let mut aggregator = connect_as(&cluster, "aggregator");
    let record = json!({"schema": "forge.pool-quarantine.v1", "pool": "default", "agents": []});
    let key = "$KV.forge_agents.quarantined-pools.default";
    assert_eq!(aggregator.publish(key, &record.to_string()), Vec::<String>::new());
    let damaged = "$KV.forge_agents.quarantined-pools.damaged";
    assert_eq!(aggregator.publish(damaged, "{}"), Vec::<String>::new());
    let text = |arguments: &[&str]| {
        let output = cluster.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let agents = text(&["agents", "--all"]);
    assert!(agents.contains("quarantined") && agents.contains("wrong results"), "{agents}");
    assert!(agents.contains(worker["host"].as_str().unwrap()), "{agents}");
    assert!(agents.contains("quarantined-pools.damaged") && agents.contains("unreadable: "), "{agents}");
    let listed = text(&["quarantine", "ls", "--format", "json"]);
    assert!(listed.contains(r#""key":"quarantined-pools.damaged""#), "{listed}");
    assert!(text(&["quarantine", "ls"]).contains("pool default"));
    for pool in ["default", "damaged"] {
        assert!(text(&["quarantine", "lift", pool]).contains("lifted"));
    }
    let listed = text(&["quarantine", "ls"]);
    assert!(!listed.contains("pool default") && !listed.contains("damaged"), "{listed}");
    assert_eq!(cluster.run(&["quarantine", "lift", "default"]).status.code(), Some(2));
    let refused = [
        "$KV.forge_agents.verifiers.UA",
        "$KV.forge_workers.default.UA",
        "$KV.jobs.j",
        "forge.v1.verdicts.j.0-0",
        "forge.v1.api.cancel",
        "$JS.API.STREAM.UPDATE.KV_forge_agents",
    ];
    let mut operator = connect_as(&cluster, "operator");
    assert_refused(&mut operator, &refused, &FOREIGN_INBOXES);
    assert_refused(&mut operator, &REFUSED_TO_BOTH, &REFUSED_SUBSCRIPTIONS);
}

/// Requests that neither user may send.
const REFUSED_TO_BOTH: [&str; 19] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.INFO.KV_jobs",
    "$JS.API.STREAM.MSG.GET.KV_forge_secrets",
    "$JS.API.STREAM.MSG.GET.KV_forge_agents",
    "$JS.API.STREAM.MSG.DELETE.KV_forge_agents",
    "$JS.API.STREAM.PURGE.KV_forge_agents",
    "$JS.API.STREAM.SNAPSHOT.KV_forge_agents",
    "$JS.API.DIRECT.GET.KV_forge_agents",
    "$JS.API.DIRECT.GET.KV_forge_secrets.$KV.forge_secrets.jobs.00",
    // A consumer delivers to any subject of the account of its stream.
    "$JS.API.CONSUMER.CREATE.KV_forge_agents",
    "$JS.API.CONSUMER.CREATE.KV_forge_agents.mine.$KV.forge_agents.>",
    "$JS.API.CONSUMER.CREATE.KV_forge_secrets.mine.$KV.forge_secrets.>",
    "$JS.API.CONSUMER.CREATE.FORGE_RESULTS.mine.forge.v1.results.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.KV_forge_agents.mine",
    "$JS.API.CONSUMER.MSG.NEXT.KV_forge_agents.mine",
    "$SYS.REQ.USER.INFO",
    "_R_.reply.1",
    "_INBOX_planner.mine.reply",
];
const REFUSED_SUBSCRIPTIONS: [&str; 6] =
    ["_R_.>", "$SYS.>", "$KV.>", "$JS.>", "forge.v1.nats.>", "_INBOX_client.>"];

#[test]
fn console_can_change_nothing() {
    let cluster = start_cluster_with_operators();
    let refused = [
        "forge.v1.api.submit",
        "forge.v1.api.cancel",
        "forge.v1.jobs.submit",
        "forge.v1.reduce.j.end",
        "$KV.jobs.j",
        "$KV.forge_agents.quarantine.UA",
        "$KV.forge_agents.quarantined-pools.default",
        "$JS.API.STREAM.UPDATE.KV_forge_agents",
    ];
    let mut console = connect_as(&cluster, "console");
    assert_refused(&mut console, &refused, &FOREIGN_INBOXES);
    assert_refused(&mut console, &REFUSED_TO_BOTH, &REFUSED_SUBSCRIPTIONS);
}

/// Subjects at which a reply would do harm: entries of buckets, messages of streams, requests to
/// JetStream, inboxes of services, and requests that the account of operators imports.
const CHOSEN_REPLIES: [&str; 15] = [
    "$KV.jobs.x",
    "$KV.forge_agents.quarantine.UA",
    "$KV.forge_agents.quarantined-pools.x",
    "$KV.forge_agents.verifiers.UA",
    "$KV.forge_workers.default.UA",
    "$KV.forge_programs.aa",
    "$KV.forge_secrets.jobs.00",
    "$KV.forge_quotas.default",
    "forge.v1.jobs.submit",
    "forge.v1.shards.any.x.0-0",
    "forge.v1.verdicts.x.0-0",
    "forge.v1.reduce.x",
    "$JS.API.STREAM.DELETE.KV_jobs",
    "$JS.API.STREAM.PURGE.KV_forge_agents",
    "_INBOX_planner.mine.chosen",
];

#[test]
fn replies_to_operators_and_console_are_never_stored_under_a_subject_they_chose() {
    let no_errors = Vec::<String>::new();
    let mut cluster = start_cluster_with_operators();
    let envelope = insurance_envelope("mine", 1);
    cluster.submit(&envelope);
    cluster.assert_completes(&envelope);
    let mut planner = connect_as(&cluster, "planner");
    assert_eq!(planner.send("SUB _INBOX_planner.mine.* 1"), no_errors);
    // Heartbeats would change the buckets of agents.
    for service in ["worker", "verifier", "aggregator"] {
        cluster.kill(service);
    }
    let mut verifier = connect_as(&cluster, "verifier");
    assert_eq!(verifier.publish("$KV.forge_agents.quarantine.UV", "{}"), no_errors);
    let before = last_sequences(&mut planner);
    let registry = [
        ("$JS.API.STREAM.INFO.KV_forge_agents", ""),
        ("$JS.API.STREAM.INFO.KV_forge_agents", "not JSON"),
        ("$JS.API.STREAM.INFO.KV_forge_workers", r#"{"subjects_filter":">"}"#),
        ("$JS.API.DIRECT.GET.KV_forge_agents.$KV.forge_agents.quarantine.UV", ""),
        ("$JS.API.DIRECT.GET.KV_forge_agents.$KV.forge_agents.absent", ""),
        ("$JS.API.DIRECT.GET.KV_forge_workers.$KV.forge_workers.default.UA", "not empty"),
    ];
    let records = [("forge.v1.api.status", "mine"), ("forge.v1.api.list", "")];
    for (user, requests) in [("operator", &registry[..]), ("console", &[&registry[..], &records].concat())] {
        let mut connection = connect_as(&cluster, user);
        assert_eq!(connection.send(&format!("SUB _INBOX_{user}.mine.* 1")), no_errors);
        for (subject, payload) in requests {
            assert!(!connection.request_reply(subject, payload).is_empty(), "{user}: {subject}");
        }
        for reply in CHOSEN_REPLIES {
            for (subject, payload) in requests {
                assert_eq!(connection.request(subject, reply, "", payload), no_errors, "{subject} {reply}");
            }
            attack_by_consumer(&mut connection, reply);
        }
        // Subjects on which the server itself awaits replies.
        let errors = connection.request("$JS.API.STREAM.INFO.KV_forge_agents", "_R_.reply.1", "", "");
        assert!(errors.iter().any(|error| error.contains("Permissions Violation")), "{errors:?}");
    }
    // By now any reply would have been stored or delivered.
    thread::sleep(Duration::from_millis(1000));
    assert_eq!(last_sequences(&mut planner), before);
    assert!(planner.received.is_empty(), "{:?}", planner.received);

    // The console may not name a subject of an operator as the destination of a trace either.
    let mut console = connect_as(&cluster, "console");
    for destination in CHOSEN_REPLIES {
        let trace = format!("Nats-Trace-Dest: {destination}\r\n");
        let errors = console.request("forge.v1.api.status", "_INBOX_console.x", &trace, "mine");
        let is_refused = errors.iter().any(|error| error.contains("Permissions Violation"));
        assert!(is_refused, "{destination}: {errors:?}");
    }
    // What an operator writes is stored once, whatever subject it names for the acknowledgement.
    let mut operator = connect_as(&cluster, "operator");
    for reply in CHOSEN_REPLIES {
        assert_eq!(operator.request("$KV.forge_agents.quarantine.UB", reply, "", "{}"), no_errors);
    }
    thread::sleep(Duration::from_millis(500));
    let mut expected = before;
    *expected.get_mut("KV_forge_agents").unwrap() += CHOSEN_REPLIES.len() as u64;
    assert_eq!(last_sequences(&mut planner), expected);
    assert!(planner.received.is_empty(), "{:?}", planner.received);
}

/// Tries to have the registry delivered to a subject by a consumer. If the server refuses the
/// request, it says so, and the errors are those of the other test.
fn attack_by_consumer(connection: &mut RawNatsConnection, destination: &str) {
    let config = json!({"name": "mine", "deliver_subject": destination, "ack_policy": "none"});
    let body = json!({"stream_name": "KV_forge_agents", "config": config, "action": "create"}).to_string();
    for subject in [
        "$JS.API.CONSUMER.CREATE.KV_forge_agents",
        "$JS.API.CONSUMER.CREATE.KV_forge_agents.mine.$KV.forge_agents.>",
    ] {
        let _refusal = connection.request(subject, destination, "", &body);
    }
}

#[test]
fn headers_of_an_operator_have_no_meaning_to_jetstream() {
    let cluster = start_cluster_with_operators();
    let mut operator = connect_as(&cluster, "operator");
    assert_eq!(operator.send("SUB _INBOX_operator.mine.* 1"), Vec::<String>::new());
    for headers in [
        "Nats-Rollup: all\r\n",
        "Nats-TTL: 1s\r\n",
        "Nats-Schedule: @every 1s\r\nNats-Schedule-Target: $KV.jobs.x\r\n",
        "Nats-Incr: 1\r\n",
        "Nats-Batch-Id: a\r\nNats-Batch-Sequence: 1\r\nNats-Batch-Commit: 1\r\n",
    ] {
        let (key, reply) = ("$KV.forge_agents.quarantine.UA", "_INBOX_operator.mine.reply");
        assert_eq!(operator.request(key, reply, headers, "{}"), Vec::<String>::new());
        let reply = operator.next();
        assert!(reply.contains("\"error\""), "{headers}: {reply}");
    }
}
