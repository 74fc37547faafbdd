//! The commands of `forge` that talk to services, and the services as commands: exit codes, formats, settings, signals.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use forge_bus::{
    Bus,
    jetstream::{JetStreamBus, JetStreamOptions},
};
use forge_harness::{S3Server, tools};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Cluster, PATIENCE, Place, insurance, result_of_run, with};

/// Exit code, standard output, standard error.
fn ended(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn expect(output: &Output, code: i32, says: &[&str]) -> String {
    let (found, stdout, stderr) = ended(output);
    assert_eq!(found, Some(code), "{stdout}{stderr}");
    let said = format!("{stdout}{stderr}");
    for part in says {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    stdout
}

fn written(cluster: &Cluster, name: &str, content: &Value) -> String {
    let path = cluster.directory.path().join(name);
    fs::write(&path, content.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn forge_up_brings_its_own_server_and_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    // No cluster is needed; it says where the binary is, and what must not be inherited.
    let cluster = Cluster::empty(crate::support::Place::Directory);
    let mut command = cluster.forge();
    command.env_remove("FORGE_NATS_URL").env("FORGE_NATS_SERVER", tools::nats_server());
    command.args(["up", "--store"]).arg(directory.path().join("out")).arg("--data").arg(&data);
    let mut up = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(up.stderr.take().unwrap()).lines();
    let url = loop {
        let line = lines.next().expect("it says where its server is").unwrap();
        if let Some((_, url)) = line.split_once("FORGE_NATS_URL=") {
            break url.trim().to_owned();
        }
    };
    let drained = thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    let envelope = insurance("up", 3);
    let path = written(&cluster, "up.json", &envelope);
    let started = Instant::now();
    let record = loop {
        let submit = ["submit", &path, "--wait", "--format", "json", "--nats-url", &url];
        let (code, stdout, stderr) = ended(&cluster.run(&submit));
        if code == Some(0) {
            break serde_json::from_str::<Value>(&stdout).unwrap();
        }
        assert!(started.elapsed() < PATIENCE, "{stderr}");
        thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(record["result"], result_of_run(&envelope));

    let stopping = Instant::now();
    kill_process(Pid::from_child(&up), Signal::TERM).unwrap();
    let status = up.wait().unwrap();
    assert!(
        status.success() && stopping.elapsed() < Duration::from_secs(10),
        "{status} {:?}",
        stopping.elapsed()
    );
    assert!(processes_with(&data).is_empty(), "{:?}", processes_with(&data));
    drained.join().unwrap();
}

/// The command lines of running processes that name a path.
fn processes_with(path: &Path) -> Vec<String> {
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(path.to_str()?).then_some(line)
    });
    lines.collect()
}

#[test]
fn submitting_watching_listing_and_cancelling() {
    let cluster = Cluster::start();
    cluster.completes_warm_up();
    let envelope = insurance("told", 4);
    let path = written(&cluster, "told.json", &envelope);
    let result = result_of_run(&envelope);
    let said = expect(
        &cluster.run(&["submit", &path, "--wait"]),
        0,
        &["Job told", "completed", "mean_loss", &result],
    );
    assert!(!said.contains('\u{1b}'), "no colours where nobody looks");
    let again = expect(&cluster.run(&["submit", &path, "--wait", "--format", "json"]), 0, &[]);
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["result"], result);

    let invalid =
        with(with(envelope.clone(), "/args/claim_freq", json!(-1)), "/policy/verify", json!("maybe"));
    let invalid = written(&cluster, "invalid.json", &with(invalid, "/ctx/job_id", json!("bad")));
    expect(&cluster.run(&["submit", &invalid]), 2, &["/args/claim_freq", "/policy/verify"]);
    let other = written(&cluster, "other.json", &insurance("told", 5));
    expect(&cluster.run(&["submit", &other]), 2, &["another envelope"]);
    let late = with(insurance("late", 2_000_000), "/policy/timeout_ms", json!(200));
    let late = written(&cluster, "late.json", &late);
    expect(&cluster.run(&["submit", &late, "--wait"]), 3, &["timeout"]);

    let lines = expect(&cluster.run(&["watch", "told", "--format", "json"]), 0, &[]);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["schema"]), (&json!("completed"), &json!("forge.job.v1")));
    expect(&cluster.run(&["watch", "late"]), 3, &["timeout"]);
    expect(&cluster.run(&["watch", "nobody"]), 2, &["no job nobody"]);
    expect(&cluster.run(&["status", "nobody"]), 2, &["no job nobody"]);
    expect(&cluster.run(&["status", "told"]), 0, &["completed", &result]);
    expect(&cluster.run(&["status", "no/id"]), 2, &[]);

    let all = expect(&cluster.run(&["jobs"]), 0, &["told", "late", "failed (timeout)"]);
    assert_eq!(all.lines().count(), 1 + 3, "a head and three jobs: {all}");
    let failed = expect(&cluster.run(&["jobs", "--state", "failed", "--format", "json"]), 0, &[]);
    let failed: Value = serde_json::from_str(&failed).unwrap();
    assert_eq!(failed["job_id"], "late");
    expect(&cluster.run(&["jobs", "--state", "fialed"]), 2, &["--state"]);

    let long = written(&cluster, "long.json", &insurance("long", 2_000_000));
    expect(&cluster.run(&["submit", &long]), 0, &["long"]);
    expect(&cluster.run(&["cancel", "long"]), 0, &["cancelled"]);
    expect(&cluster.run(&["submit", &long, "--wait"]), 3, &["cancelled"]);
    expect(&cluster.run(&["cancel", "told"]), 2, &["it is completed"]);
    expect(&cluster.run(&["cancel", "nobody"]), 2, &["no job nobody"]);
}

#[test]
fn artifacts_are_listed_and_fetched_and_damage_is_found() {
    for cluster in [Cluster::start(), Cluster::start_on_s3()] {
        let envelope = insurance("kept", 1);
        cluster.submit(&envelope);
        cluster.completes(&envelope);
        let result = result_of_run(&envelope);
        expect(&cluster.run(&["artifacts", "ls", "kept"]), 0, &["result.json", &result]);
        let fetched = cluster.run(&["artifacts", "get", "kept", "result.json"]);
        assert_eq!(forge_contract::digest::Digest::hash_parts(&[&fetched.stdout]).to_hex(), result);
        let out = cluster.directory.path().join("fetched");
        let all = ["artifacts", "get", "kept", "--out", out.to_str().unwrap()];
        expect(&cluster.run(&all), 0, &["artifacts written to"]);
        assert_eq!(fs::read(out.join("result.json")).unwrap(), fetched.stdout);
        expect(&cluster.run(&["artifacts", "get", "kept", "x.json"]), 2, &["it kept"]);
        expect(&cluster.run(&["artifacts", "ls", "nobody"]), 2, &["does not exist"]);

        let key = format!("artifacts/sha256/{result}/result.json");
        let store = cluster.store();
        if let Some(place) = store.strip_prefix("s3://") {
            let (bucket, prefix) = place.split_once('/').unwrap();
            python("s3.put_object(Bucket=a[0], Key=a[1], Body=b'{}')", &[bucket, &format!("{prefix}/{key}")]);
        } else {
            fs::write(Path::new(&store).join(&key), "{}").unwrap();
        }
        expect(&cluster.run(&["artifacts", "get", "kept", "result.json"]), 4, &["result.json"]);
        expect(&cluster.run(&all), 4, &["result.json"]);
    }
}

/// Runs a line of Python with `s3`, a client of the S3 server, and `a`, these arguments.
fn python(line: &str, arguments: &[&str]) -> String {
    let script = format!("import boto3, sys\ns3 = boto3.client('s3')\na = sys.argv[1:]\n{line}");
    let mut command = Command::new(tools::python(&[tools::NATS_PY, tools::BOTO3]));
    let output =
        command.args(["-c", &script]).args(arguments).envs(S3Server::shared().env()).output().unwrap();
    expect(&output, 0, &[])
}

#[test]
fn artifacts_are_locked_where_that_is_asked_for() {
    let mut cluster = Cluster::empty(crate::support::Place::S3(S3Server::shared()));
    let bucket = format!("locked{}", std::process::id());
    cluster.environment.push(("FORGE_STORE".to_owned(), format!("s3://{bucket}")));
    for service in ["planner", "worker"] {
        cluster.spawn(service, &[service]);
    }
    cluster.spawn("aggregator", &["aggregator", "--object-lock", "governance:1"]);
    let envelope = insurance("locked", 1);
    cluster.submit(&envelope);
    let record = cluster.completes(&envelope);
    assert!(record["manifest"].as_str().unwrap().starts_with(&format!("s3://{bucket}/")), "{record:#}");
    let key = format!("artifacts/sha256/{}/result.json", result_of_run(&envelope));
    let line = "print(s3.get_object_retention(Bucket=a[0], Key=a[1])['Retention']['Mode'])";
    assert_eq!(python(line, &[&bucket, &key]).trim(), "GOVERNANCE");
    let line = "print(s3.get_object_lock_configuration(Bucket=a[0])['ObjectLockConfiguration']['ObjectLockEnabled'])";
    assert_eq!(python(line, &[&bucket]).trim(), "Enabled");
}

#[test]
fn a_submission_outlasts_planners_that_are_changing_over() {
    let cluster = Cluster::empty(Place::Directory);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (bus, mut calls) = runtime.block_on(async {
        let bus = JetStreamBus::connect(JetStreamOptions::new(cluster.nats.url())).await.unwrap();
        bus.prepare().await.unwrap();
        let calls = bus.serve().await.unwrap();
        (bus, calls)
    });
    // A planner that cannot reach JetStream says 503, at first.
    let planner = runtime.spawn(async move {
        for _ in 0..2 {
            let call = calls.next().await.unwrap();
            call.responder.reply_error(503, "JetStream is changing over".to_owned()).await;
        }
        let call = calls.next().await.unwrap();
        let progress = json!({
            "iterations": 1, "iterations_done": 0, "shards": 1, "shards_done": 0, "shards_verified": 0,
        });
        let record = json!({
            "schema": "forge.job.v1", "job_id": "late", "state": "planned", "persist": false, "submission": 1,
            "submitted_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "progress": progress,
        });
        call.responder.reply(record.to_string().into()).await;
        bus
    });
    let path = written(&cluster, "late.json", &insurance("late", 1));
    let output = cluster.run(&["submit", &path, "--format", "json"]);
    assert!(expect(&output, 0, &[]).contains("\"late\""));
    drop(runtime.block_on(planner).unwrap());
}
