//! Permissions of workers: which operations they are granted, and that every other is refused.

use std::{thread, time::Duration};

use super::{
    FOREIGN_INBOXES, assert_refused, connect_as, last_sequences, password, start_cluster, start_server,
    start_services,
};
use crate::{raw_nats::RawNatsConnection, support::insurance_envelope};

#[test]
fn worker_is_refused_every_other_operation() {
    let cluster = start_cluster();
    let envelope = insurance_envelope("victim", 2);
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    let mut worker = connect_as(&cluster, "worker");
    let publish = [
        "forge.v1.jobs.submit",
        "forge.v1.jobs.submit.alice",
        "forge.v1.api.submit",
        "forge.v1.api.submit.alice",
        "forge.v1.api.status",
        "forge.v1.api.cancel",
        "forge.v1.shards.any.victim.0-0",
        "forge.v1.duplicates.victim.0-0",
        "forge.v1.reduce.victim",
        "forge.v1.verdicts.victim.0-0",
        "forge.v1.outcomes.victim",
        // Another pool, and the pool of verifiers.
        "forge.v1.results.another.victim.0-0",
        "forge.v1.results.verifiers.victim.0-0",
        "forge.v1.results.default.victim",
        "$KV.forge_workers.another.UA",
        "forge.v1.ended.victim",
        "$KV.jobs.victim",
        "$KV.forge_agents.quarantine.UA",
        "$KV.forge_agents.verifiers.UA",
        "$KV.forge_agents.aggregators.UA",
        "$KV.forge_agents.quarantined-pools.default",
        "$KV.forge_programs.00",
        "$KV.forge_secrets.jobs.00",
        "$KV.forge_quotas.default",
        "$JS.API.DIRECT.GET.KV_forge_quotas.$KV.forge_quotas.default",
        "$JS.API.DIRECT.GET.KV_jobs.$KV.jobs.victim",
        "$JS.API.DIRECT.GET.KV_jobs",
        "$JS.API.DIRECT.GET.KV_forge_secrets.$KV.forge_secrets.jobs.00",
        "$JS.API.DIRECT.GET.KV_forge_workers.$KV.forge_workers.default.UA",
        "$JS.API.DIRECT.GET.FORGE_RESULTS",
        "$JS.API.DIRECT.GET.FORGE_SHARDS",
        "$JS.API.STREAM.MSG.GET.KV_jobs",
        "$JS.API.STREAM.MSG.GET.KV_forge_secrets",
        "$JS.API.STREAM.MSG.GET.FORGE_RESULTS",
        "$JS.API.STREAM.MSG.GET.FORGE_SHARDS",
        "$JS.API.STREAM.MSG.DELETE.FORGE_SHARDS",
        "$JS.API.STREAM.PURGE.FORGE_SHARDS",
        "$JS.API.STREAM.PURGE.KV_forge_agents",
        "$JS.API.STREAM.DELETE.FORGE_RESULTS",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.UPDATE.FORGE_RESULTS",
        "$JS.API.STREAM.SNAPSHOT.KV_forge_secrets",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$JS.API.INFO",
        "$JS.API.CONSUMER.CREATE.FORGE_RESULTS",
        "$JS.API.CONSUMER.CREATE.FORGE_RESULTS.mine",
        "$JS.API.CONSUMER.CREATE.KV_forge_secrets.mine.$KV.forge_secrets.>",
        "$JS.API.CONSUMER.DURABLE.CREATE.FORGE_SHARDS.mine",
        "$JS.API.CONSUMER.DELETE.FORGE_SHARDS.workers-cpu",
        "$JS.API.CONSUMER.PAUSE.FORGE_SHARDS.workers-cpu",
        "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-gpu",
        "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-gpu-long",
        "$JS.API.CONSUMER.MSG.NEXT.FORGE_DUPLICATES.verifiers",
        "$JS.API.CONSUMER.MSG.NEXT.FORGE_DUPLICATES.verifiers-long",
        "$JS.API.CONSUMER.MSG.NEXT.FORGE_JOBS.planners",
        "$JS.API.CONSUMER.MSG.NEXT.FORGE_REDUCE.aggregators",
        "$JS.ACK.FORGE_REDUCE.aggregators.1.1.1.1.1",
        "$SRV.INFO.forge",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.SERVER.PING.JSZ",
        "forge.v1.nats.jetstream",
        "_INBOX_planner.a.b",
        "_INBOX_aggregator.a.b",
    ];
    let subscribe = [
        "forge.v1.>",
        "forge.v1.results.>",
        "forge.v1.verdicts.>",
        "forge.v1.jobs.>",
        "forge.v1.shards.>",
        "forge.v1.duplicates.>",
        "forge.v1.reduce.>",
        "forge.v1.api.submit",
        "$KV.>",
        "$KV.jobs.>",
        "$KV.forge_secrets.>",
        "$JS.>",
        "$JS.ACK.>",
        "$JS.API.>",
        "$SRV.>",
        "$SYS.>",
        "_R_.>",
        "forge.v1.nats.>",
        "_INBOX_client.>",
    ];
    assert_refused(&mut worker, &publish, &subscribe);
    assert_refused(&mut worker, &[], &FOREIGN_INBOXES);
    assert_eq!(cluster.record("victim"), record);
}

/// Subjects that a worker needs for a queue: the consumer's information (under its name in the
/// workers' account), the next shard, and the acknowledgement in both of its forms.
fn queue_subjects(queue: &str) -> [String; 4] {
    [
        format!("forge.v1.nats.queue.{queue}"),
        format!("$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.{queue}"),
        format!("$JS.ACK.FORGE_SHARDS.{queue}.1.1.1.1.1"),
        format!("$JS.ACK.domain.account.FORGE_SHARDS.{queue}.1.1.1.1.1"),
    ]
}

#[test]
fn workers_receive_only_shards_for_their_hardware_or_any() {
    let no_errors = Vec::<String>::new();
    let cluster = start_services(&["planner"]);
    let mut planner = connect_as(&cluster, "planner");
    for (role, own_target, other_target) in [("worker", "cpu", "gpu"), ("worker-gpu", "gpu", "cpu")] {
        let mut worker = connect_as(&cluster, role);
        let inbox = format!("_INBOX_{role}.mine");
        assert_eq!(worker.send(&format!("SUB {inbox}.* 1")), no_errors);
        for target in [own_target, "any"] {
            let (queue, text) = (format!("workers-{target}"), format!("for {target}, by {role}"));
            let subject = format!("forge.v1.shards.{target}.none.0-0");
            assert_eq!(planner.publish(&subject, &text), no_errors);
            let [info, next, ack, ack_with_domain] = queue_subjects(&queue);
            for info in [info, format!("$JS.API.CONSUMER.INFO.FORGE_SHARDS.{queue}")] {
                assert_eq!(worker.request(&info, &format!("{inbox}.info"), "", ""), no_errors);
                let reply = worker.next();
                assert!(reply.contains(&format!("\"name\":\"{queue}\"")), "{reply}");
            }
            assert_eq!(worker.request(&next, &format!("{inbox}.next"), "", ""), no_errors);
            assert_eq!(worker.next().trim_end(), text);
            for ack in [ack, ack_with_domain] {
                assert_eq!(worker.publish(&ack, ""), no_errors);
            }
        }
        let queue = format!("workers-{other_target}");
        assert_refused(&mut worker, &queue_subjects(&queue).each_ref().map(String::as_str), &FOREIGN_INBOXES);
        let errors = worker.publish(&format!("$JS.API.CONSUMER.INFO.FORGE_SHARDS.{queue}"), "");
        assert!(errors.iter().any(|error| error.contains("Permissions Violation for Publish")), "{errors:?}");
    }
    assert_refused(
        &mut connect_as(&cluster, "worker"),
        &["_INBOX_worker-gpu.mine.a"],
        &["_INBOX_worker-gpu.>"],
    );
    let other_requests =
        ["forge.v1.shards.gpu.none.0-0", "forge.v1.jobs.submit", "forge.v1.verdicts.none.0-0"];
    assert_refused(
        &mut connect_as(&cluster, "worker-gpu"),
        &other_requests,
        &["_INBOX_worker.>", "forge.v1.results.>"],
    );
}

#[test]
fn worker_cannot_lift_its_quarantine() {
    let cluster = start_cluster();
    cluster.complete_warm_up();
    let mut verifier = connect_as(&cluster, "verifier");
    assert_eq!(verifier.publish("$KV.forge_agents.quarantine.UA", "{}"), Vec::<String>::new());
    let mut worker = connect_as(&cluster, "worker");
    assert_eq!(worker.send("SUB _INBOX_worker.mine.* 1"), Vec::<String>::new());
    // A rollup header on a key that it may write must not remove keys that others wrote.
    let own = "$KV.forge_workers.default.UA";
    for rollup in ["all", "sub"] {
        let headers = format!("Nats-Rollup: {rollup}\r\n");
        assert_eq!(worker.request(own, "_INBOX_worker.mine.a", &headers, "{}"), Vec::<String>::new());
        let reply = worker.next();
        assert!(reply.contains("error") && reply.contains("rollup"), "{reply}");
    }
    let key = "$JS.API.DIRECT.GET.KV_forge_agents.$KV.forge_agents.quarantine.UA";
    assert_eq!(worker.request(key, "_INBOX_worker.mine.b", "", ""), Vec::<String>::new());
    let reply = worker.next();
    assert!(reply.contains("quarantine.UA") && reply.contains("{}"), "{reply}");
}

#[test]
fn replies_to_a_worker_are_never_stored_under_a_subject_it_chose() {
    let no_errors = Vec::<String>::new();
    let cluster = start_services(&["planner"]);
    let mut planner = connect_as(&cluster, "planner");
    assert_eq!(planner.send("SUB _INBOX_planner.mine.* 1"), no_errors);
    let mut worker = connect_as(&cluster, "worker");
    assert_eq!(worker.send("SUB _INBOX_worker.mine.* 1"), no_errors);
    planner.request_reply("$KV.forge_programs.aa", "a program");
    for shard in 0..4 {
        planner.request_reply(&format!("forge.v1.shards.any.none.0-{shard}"), "a shard");
    }
    let before = last_sequences(&mut planner);
    let chosen = [
        "$KV.jobs.x",
        "$KV.forge_agents.quarantine.UA",
        "$KV.forge_programs.aa",
        "$KV.forge_secrets.jobs.00",
        "$KV.forge_quotas.default",
        "forge.v1.jobs.submit",
        "forge.v1.shards.any.x.0-0",
        "forge.v1.duplicates.x.0-0",
        "forge.v1.reduce.x",
        "forge.v1.verdicts.x.0-0",
        "forge.v1.outcomes.x",
        // Subjects exported to it, and API calls that would do harm.
        "$KV.forge_workers.default.UA",
        "forge.v1.results.default.x.0-0",
        "$JS.API.STREAM.PURGE.FORGE_SHARDS",
        "$JS.API.STREAM.DELETE.FORGE_SHARDS",
    ];
    let next = "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-any";
    let requests = [
        // A shard; the status that there is none; anything within a second, or heartbeats.
        (next, r#"{"batch":1,"no_wait":true}"#),
        ("$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-cpu", r#"{"batch":1,"no_wait":true}"#),
        (next, r#"{"batch":1,"expires":1000000000,"idle_heartbeat":200000000}"#),
        ("$JS.API.CONSUMER.INFO.FORGE_SHARDS.workers-any", ""),
        ("$JS.API.DIRECT.GET.KV_forge_programs.$KV.forge_programs.aa", ""),
        ("$JS.API.DIRECT.GET.KV_forge_agents.$KV.forge_agents.quarantine.UA", ""),
        ("$JS.ACK.FORGE_SHARDS.workers-any.1.99.99.1.0", "+NXT"),
        // A worker may store these two; the acknowledgement of storage must not be stored.
        ("$KV.forge_workers.default.UB", "{}"),
        ("forge.v1.results.default.y.0-0", "a result"),
    ];
    for reply in chosen {
        for (subject, payload) in requests {
            assert_eq!(worker.request(subject, reply, "", payload), no_errors, "{subject} {reply}");
        }
    }
    // By now the pulls have ended, and any reply would have been stored.
    thread::sleep(Duration::from_millis(1500));
    let is_writable = |stream: &str| ["KV_forge_workers", "FORGE_RESULTS"].contains(&stream);
    let expected = before.iter().map(|(stream, sequence)| {
        (stream.clone(), sequence + if is_writable(stream) { chosen.len() as u64 } else { 0 })
    });
    assert_eq!(last_sequences(&mut planner), expected.collect());
    let info = planner.request_reply("$JS.API.STREAM.INFO.FORGE_SHARDS", "");
    assert!(info.contains("\"messages\":4"), "{info}");
}

#[test]
fn workers_receive_only_notices_of_ended_jobs() {
    let no_errors = Vec::<String>::new();
    let data = tempfile::tempdir().unwrap();
    let nats = start_server(data.path());
    let connect = |role| RawNatsConnection::connect(&nats.url(), role, &password(role));
    let (mut worker, mut gpu, mut aggregator) =
        (connect("worker"), connect("worker-gpu"), connect("aggregator"));
    for worker in [&mut worker, &mut gpu] {
        assert_eq!(worker.send("SUB forge.v1.ended.* 1"), no_errors);
    }
    assert_eq!(worker.send("SUB _INBOX_worker.> 2"), no_errors);
    for subject in ["forge.v1.ended.j", "forge.v1.duplicates.j.0-0", "forge.v1.outcomes.j", "$KV.jobs.j"] {
        assert_eq!(aggregator.publish(subject, subject), no_errors);
    }
    for worker in [&mut worker, &mut gpu] {
        assert_eq!(worker.next().trim_end(), "forge.v1.ended.j");
    }
    assert_eq!(worker.send("SUB _INBOX_worker.mine.* 3"), no_errors);
    assert!(worker.received.is_empty(), "{:?}", worker.received);
    // A message in the workers' account does not reach other workers.
    assert_eq!(worker.publish("forge.v1.results.default.j.0-0", "{}"), no_errors);
    assert_eq!(gpu.send("SUB _INBOX_worker-gpu.> 3"), no_errors);
    assert!(gpu.received.is_empty(), "{:?}", gpu.received);
}
