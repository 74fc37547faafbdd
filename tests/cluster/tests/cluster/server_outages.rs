//! Outages of NATS and of the store while jobs run, and recovery from them.

use std::{thread, time::Duration};

use forge_harness::S3Server;
use serde_json::json;

use crate::{
    bus_observer::BusObserver,
    job_mix::{
        assert_all_complete, eta_envelope, job_id, mixed_jobs, spawn_slow_services, start_slow_cluster,
        submit_all, wait_for_shards,
    },
    support::{Cluster, TestStore, insurance_envelope, with_field},
};

#[test]
fn jobs_survive_nats_kills() {
    let mut cluster = start_slow_cluster(TestStore::Directory);
    let observer = BusObserver::connect(&cluster);
    let envelopes = mixed_jobs("nats");
    submit_all(&cluster, &envelopes);
    for (shards, outage_ms) in [(20, 500), (100, 3000)] {
        wait_for_shards(&cluster, job_id(&envelopes[0]), shards);
        cluster.nats.kill();
        thread::sleep(Duration::from_millis(outage_ms));
        cluster.nats.restart();
    }
    let late = eta_envelope("nats-late", 5);
    cluster.submit(&late);
    assert_all_complete(&cluster, &observer, &envelopes);
    assert_all_complete(&cluster, &observer, &[late]);
    cluster.assert_services_run();
    observer.assert_drained_by_janitor();
}

#[test]
fn services_continue_on_a_server_that_has_lost_its_data() {
    let mut cluster = Cluster::start();
    let before = insurance_envelope("before", 2);
    cluster.submit(&before);
    cluster.assert_completes(&before);
    cluster.submit(&insurance_envelope("lost", 2_000_000));
    cluster.wait_until("lost", "running", |record| record["state"] == "running");
    cluster.nats.restart_empty();
    let after = insurance_envelope("after", 3);
    cluster.submit(&after);
    cluster.assert_completes(&after);
    assert!(cluster.record("lost").is_null());
    cluster.assert_services_run();
}

/// Starts a cluster with an S3 server that no other test uses, so that it can be stopped.
fn start_with_own_s3(environment: &[(&str, &str)]) -> (Cluster, S3Server) {
    let server = S3Server::start();
    let mut cluster = Cluster::empty(TestStore::Directory);
    let store = ("FORGE_STORE", format!("s3://{}/out", S3Server::BUCKET));
    let extra = environment.iter().map(|(name, value)| (*name, (*value).to_owned()));
    for (name, value) in server.env().into_iter().chain([store]).chain(extra) {
        cluster.environment.push((name.to_owned(), value));
    }
    spawn_slow_services(&mut cluster);
    (cluster, server)
}

/// Three jobs of a few shards each.
fn small_jobs(prefix: &str) -> [serde_json::Value; 3] {
    let converges = with_field(
        insurance_envelope(&format!("{prefix}-converges"), 400),
        "/args/convergence",
        json!({"metric": "mean", "relative_half_width": 0.02}),
    );
    [insurance_envelope(&format!("{prefix}-a"), 12), eta_envelope(&format!("{prefix}-b"), 20), converges]
}

#[test]
fn jobs_complete_once_the_store_is_reachable_again() {
    let (cluster, mut server) = start_with_own_s3(&[]);
    let observer = BusObserver::connect(&cluster);
    let before = insurance_envelope("before", 2);
    cluster.submit(&before);
    assert_all_complete(&cluster, &observer, &[before]);
    // The store first refuses connections, then accepts them without responding.
    for outage in ["refused", "hanging"] {
        match outage {
            "refused" => server.kill(),
            _ => server.pause(),
        }
        let envelopes = small_jobs(outage);
        submit_all(&cluster, &envelopes);
        let reducing =
            |job: &str| cluster.wait_until(job, "reducing", |record| record["state"] == "reducing");
        envelopes.iter().for_each(|envelope| drop(reducing(job_id(envelope))));
        // Twenty seconds of outage in total.
        thread::sleep(Duration::from_secs(10));
        envelopes.iter().for_each(|envelope| drop(reducing(job_id(envelope))));
        match outage {
            "refused" => server.restart(),
            _ => server.resume(),
        }
        assert_all_complete(&cluster, &observer, &envelopes);
    }
    observer.assert_drained_by_janitor();
}

#[test]
fn jobs_fail_when_the_store_is_unreachable_beyond_store_patience() {
    let (cluster, mut server) = start_with_own_s3(&[("FORGE_STORE_PATIENCE_MS", "3000")]);
    let observer = BusObserver::connect(&cluster);
    // An aggregator starts only when the store is reachable, so that a job completes first.
    let before = insurance_envelope("before", 2);
    cluster.submit(&before);
    assert_all_complete(&cluster, &observer, &[before]);
    for outage in ["refused", "hanging"] {
        match outage {
            "refused" => server.kill(),
            _ => server.pause(),
        }
        let envelopes = small_jobs(outage);
        let unstored = with_field(
            insurance_envelope(&format!("{outage}-unstored"), 5),
            "/artifacts/persist",
            json!(false),
        );
        submit_all(&cluster, &envelopes);
        cluster.submit(&unstored);
        assert_all_complete(&cluster, &observer, &[unstored]);
        for envelope in &envelopes {
            let record = cluster.wait_for_end(job_id(envelope));
            assert_eq!(
                (&record["state"], &record["error"]["code"]),
                (&json!("failed"), &json!("storage_failed"))
            );
            assert_eq!(record["error"]["phase"], "store");
            observer.assert_ended_once(job_id(envelope));
        }
        match outage {
            "refused" => server.restart(),
            _ => server.resume(),
        }
    }
    let after = insurance_envelope("after", 3);
    cluster.submit(&after);
    assert_all_complete(&cluster, &observer, &[after]);
    observer.assert_drained_by_janitor();
}
