//! NATS and the store: away, and back.

use std::{thread, time::Duration};

use forge_harness::S3Server;
use serde_json::json;

use crate::{
    mix::{Witness, all_complete, eta, id, mix, slow, start_slow, submit_all, until_shards},
    support::{Cluster, Place, insurance, with},
};

#[test]
fn nats_is_killed_twice() {
    let mut cluster = slow(Place::Directory);
    let witness = Witness::of(&cluster);
    let envelopes = mix("nats");
    submit_all(&cluster, &envelopes);
    for (shards, away) in [(20, 500), (100, 3000)] {
        until_shards(&cluster, id(&envelopes[0]), shards);
        cluster.nats.kill();
        thread::sleep(Duration::from_millis(away));
        cluster.nats.restart();
    }
    let late = eta("nats-late", 5);
    cluster.submit(&late);
    all_complete(&cluster, &witness, &envelopes);
    all_complete(&cluster, &witness, &[late]);
    for service in ["planner", "aggregator", "verifier", "worker"] {
        assert!(cluster.is_running(service), "{service} has ended: {}", cluster.logs());
    }
    witness.saw_all_cleared();
}

/// A cluster on an S3 store of its own.
fn on_own_s3(environment: &[(&str, &str)]) -> (Cluster, S3Server) {
    let server = S3Server::start();
    let mut cluster = Cluster::empty(Place::Directory);
    let place = ("FORGE_STORE", format!("s3://{}/out", S3Server::BUCKET));
    let given = environment.iter().map(|(name, value)| (*name, (*value).to_owned()));
    for (name, value) in server.env().into_iter().chain([place]).chain(given) {
        cluster.environment.push((name.to_owned(), value));
    }
    start_slow(&mut cluster);
    (cluster, server)
}

fn small(prefix: &str) -> [serde_json::Value; 3] {
    let converges = with(
        insurance(&format!("{prefix}-converges"), 400),
        "/args/convergence",
        json!({"metric": "mean", "relative_half_width": 0.02}),
    );
    [insurance(&format!("{prefix}-a"), 12), eta(&format!("{prefix}-b"), 20), converges]
}

#[test]
fn jobs_are_stored_when_the_store_is_back() {
    let (cluster, mut server) = on_own_s3(&[]);
    let witness = Witness::of(&cluster);
    let before = insurance("before", 2);
    cluster.submit(&before);
    all_complete(&cluster, &witness, &[before]);
    // First it is gone, then it hangs.
    for away in ["gone", "hangs"] {
        match away {
            "gone" => server.kill(),
            _ => server.pause(),
        }
        let envelopes = small(away);
        submit_all(&cluster, &envelopes);
        let reducing =
            |job: &str| cluster.wait_until(job, "reducing", |record| record["state"] == "reducing");
        envelopes.iter().for_each(|envelope| drop(reducing(id(envelope))));
        // Together the store is away for twenty seconds.
        thread::sleep(Duration::from_secs(10));
        envelopes.iter().for_each(|envelope| drop(reducing(id(envelope))));
        match away {
            "gone" => server.restart(),
            _ => server.resume(),
        }
        all_complete(&cluster, &witness, &envelopes);
    }
    witness.saw_all_cleared();
}

#[test]
fn jobs_fail_when_the_store_is_away_too_long() {
    let (cluster, mut server) = on_own_s3(&[("FORGE_STORE_PATIENCE_MS", "3000")]);
    let witness = Witness::of(&cluster);
    // An aggregator waits at its start until the store is there.
    let before = insurance("before", 2);
    cluster.submit(&before);
    all_complete(&cluster, &witness, &[before]);
    for away in ["gone", "hangs"] {
        match away {
            "gone" => server.kill(),
            _ => server.pause(),
        }
        let envelopes = small(away);
        let kept_nowhere = with(insurance(&format!("{away}-nowhere"), 5), "/artifacts/persist", json!(false));
        submit_all(&cluster, &envelopes);
        cluster.submit(&kept_nowhere);
        all_complete(&cluster, &witness, &[kept_nowhere]);
        for envelope in &envelopes {
            let record = cluster.wait(id(envelope));
            assert_eq!(
                (&record["state"], &record["error"]["code"]),
                (&json!("failed"), &json!("storage_failed"))
            );
            assert_eq!(record["error"]["phase"], "store");
            witness.saw_one_end(id(envelope));
        }
        match away {
            "gone" => server.restart(),
            _ => server.resume(),
        }
    }
    let after = insurance("after", 3);
    cluster.submit(&after);
    all_complete(&cluster, &witness, &[after]);
    witness.saw_all_cleared();
}
