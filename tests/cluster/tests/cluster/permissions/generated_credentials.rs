//! `forge credentials`: a server with the generated configuration accepts the generated passwords,
//! and each pool of workers and each submitter has a user of its own.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{assert_refused, start_server_with};
use crate::{
    raw_nats::RawNatsConnection,
    support::{Cluster, TestStore, insurance_envelope},
};

/// Generates credentials below the cluster's directory.
fn generate(cluster: &Cluster, arguments: &[&str]) -> PathBuf {
    let directory = cluster.directory.path().join("secrets");
    let output = cluster.run(&[&["credentials", directory.to_str().unwrap()], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory
}

/// Gives the processes started from now on the settings that were generated for a user.
fn use_settings(cluster: &mut Cluster, secrets: &Path, user: &str) {
    let settings = fs::read_to_string(secrets.join("env").join(user)).unwrap();
    let lines = settings.lines().filter(|line| !line.starts_with('#'));
    let variables = lines.map(|line| line.split_once('=').unwrap());
    cluster.environment =
        variables.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect();
}

#[test]
fn generated_users_run_jobs_and_stay_confined() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    let secrets = generate(&cluster, &["--pool", "acme", "--pool", "render:gpu", "--submitter", "alice"]);
    cluster.nats =
        start_server_with(secrets.join("nats-server.conf"), &cluster.directory.path().join("nats"));
    for (service, user) in [
        ("planner", "planner"),
        ("aggregator", "aggregator"),
        ("verifier", "verifier"),
        ("worker", "worker-acme"),
    ] {
        use_settings(&mut cluster, &secrets, user);
        cluster.spawn(service, &[service]);
    }
    use_settings(&mut cluster, &secrets, "client-alice");
    let envelope = insurance_envelope("generated", 2);
    cluster.submit(&envelope);
    assert_eq!(cluster.assert_completes(&envelope)["submitter"], "alice");
    use_settings(&mut cluster, &secrets, "operator");
    let agents = cluster.run(&["agents", "--format", "json"]);
    let listed = String::from_utf8_lossy(&agents.stdout);
    assert!(agents.status.success() && listed.contains("acme"), "{agents:?}");
    let connect = |user: &str| {
        let password = fs::read_to_string(secrets.join("passwords").join(user)).unwrap();
        RawNatsConnection::connect(&cluster.nats.url(), user, &password)
    };
    assert_refused(
        &mut connect("worker-acme"),
        &[
            "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-gpu",
            "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-gpu-long",
            "forge.v1.api.status",
        ],
        &["_INBOX_worker-render.>", "_INBOX_worker.>"],
    );
    assert_refused(
        &mut connect("worker-render"),
        &[
            "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-cpu",
            "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-cpu-long",
        ],
        &["_INBOX_worker-acme.>"],
    );
    assert_refused(&mut connect("client-alice"), &["forge.v1.jobs.submit", "forge.v1.api.submit.bob"], &[]);
    assert!(!cluster.logs().contains("ermission"), "{}", cluster.logs());
}

#[test]
fn passwords_are_kept_for_their_owner_and_never_overwritten() {
    let cluster = Cluster::empty(TestStore::Directory);
    let secrets = generate(&cluster, &[]);
    let path = |name: &str| secrets.join(name);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for directory in ["", "passwords", "env"] {
        assert_eq!(mode(path(directory)), 0o700, "{directory}");
    }
    for file in ["passwords/worker", "env/worker", "nats-server.conf", "accounts.conf"] {
        assert_eq!(mode(path(file)), 0o600, "{file}");
    }
    let password = fs::read_to_string(path("passwords/worker")).unwrap();
    assert!(!fs::read_to_string(path("nats-server.conf")).unwrap().contains(&password));
    generate(&cluster, &["--pool", "acme"]);
    generate(&cluster, &["--submitter", "alice"]);
    generate(&cluster, &[]);
    assert_eq!(fs::read_to_string(path("passwords/worker")).unwrap(), password);
    let users = |secrets: &Path| {
        let configuration = fs::read_to_string(secrets.join("nats-server.conf")).unwrap();
        let users = configuration.lines().filter_map(|line| line.trim().strip_prefix("user: "));
        users.map(|user| user.trim_matches('"').to_owned()).collect::<BTreeSet<_>>()
    };
    let all =
        ["aggregator", "client", "client-alice", "console", "operator", "planner", "verifier", "worker"];
    let mut expected: BTreeSet<_> = all.map(str::to_owned).into();
    expected.extend(["worker-acme", "worker-gpu"].map(str::to_owned));
    assert_eq!(users(&secrets), expected);
    fs::copy(path("env/worker-acme"), path("env/worker-acme~")).unwrap();
    generate(&cluster, &[]);
    assert_eq!(users(&secrets), expected);
    fs::write(path("env/worker-acme"), "FORGE_POOL=acme\n").unwrap();
    let output = cluster.run(&["credentials", secrets.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    fs::remove_file(path("env/worker-acme")).unwrap();
    fs::remove_file(path("env/worker-acme~")).unwrap();
    generate(&cluster, &[]);
    expected.remove("worker-acme");
    assert_eq!(users(&secrets), expected);
    let secrets = secrets.to_str().unwrap();
    let refused: [&[&str]; 4] = [
        &["--pool", "a", "--pool", "a"],
        &["--pool", "a.b"],
        &["--pool", "verifiers"],
        &["--pool", "gpu:cpu"],
    ];
    for arguments in refused {
        let output = cluster.run(&[&["credentials", secrets], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
