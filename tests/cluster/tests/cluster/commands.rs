//! The `forge` commands that talk to services, and `forge up`: exit codes, output formats, settings
//! and signals.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use forge_bus::{
    Bus,
    jetstream::{JetStreamBus, JetStreamOptions},
};
use forge_harness::{S3Server, tools};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};

use crate::support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope, local_result_hash, with_field};

/// Exit code, standard output and standard error of a command.
fn split_output(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Asserts the exit code and that the output contains each part. Returns standard output.
#[track_caller]
fn assert_output(output: &Output, code: i32, parts: &[&str]) -> String {
    let (exit_code, stdout, stderr) = split_output(output);
    assert_eq!(exit_code, Some(code), "{stdout}{stderr}");
    let text = format!("{stdout}{stderr}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    stdout
}

fn write_json(cluster: &Cluster, name: &str, content: &Value) -> String {
    let path = cluster.directory.path().join(name);
    fs::write(&path, content.to_string()).unwrap();
    path.display().to_string()
}

/// A `forge up` with a nats-server of its own.
struct LocalUp {
    process: Child,
    url: String,
    /// Reads the rest of the log.
    log: thread::JoinHandle<Vec<String>>,
}

/// The command `forge up` on the data directory `data`.
fn forge_up(cluster: &Cluster, data: &Path) -> Command {
    let mut command = cluster.forge();
    command.env_remove("FORGE_NATS_URL").env("FORGE_NATS_SERVER", tools::nats_server());
    command.args(["up", "--store"]).arg(cluster.directory.path().join("out")).arg("--data").arg(data);
    command
}

impl LocalUp {
    fn start(cluster: &Cluster, data: &Path) -> Self {
        Self::spawn(forge_up(cluster, data))
    }

    fn spawn(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("forge up logs the URL of its server").unwrap();
            if let Some((_, url)) = line.split_once("FORGE_NATS_URL=") {
                break url.trim().to_owned();
            }
        };
        let log = thread::spawn(move || lines.map_while(Result::ok).collect());
        Self { process, url, log }
    }

    /// Runs a command against this server until it succeeds, and returns its JSON output.
    fn run(&self, cluster: &Cluster, arguments: &[&str]) -> Value {
        let started = Instant::now();
        loop {
            let command = [arguments, &["--format", "json", "--nats-url", &self.url]].concat();
            let (code, stdout, stderr) = split_output(&cluster.run(&command));
            if code == Some(0) {
                return serde_json::from_str(&stdout).unwrap();
            }
            assert!(started.elapsed() < WAIT_LIMIT, "{stderr}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for the end of the process. Returns its status and the rest of its log.
    fn wait(mut self) -> (ExitStatus, Vec<String>) {
        (self.process.wait().unwrap(), self.log.join().unwrap())
    }

    /// Sends a signal and waits for the end of the process.
    fn end(self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait().0
    }
}

#[test]
fn commands_wait_for_a_planner_that_starts() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    let mut command = cluster.forge().args(["status", "absent"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(command.stderr.take().unwrap()).lines();
    assert_eq!(stderr.next().unwrap().unwrap(), "waiting up to 10 s for a planner");
    cluster.spawn("planner", &["planner"]);
    let error = stderr.next().unwrap().unwrap();
    assert!(error.contains("job absent does not exist"), "{error}");
    assert_eq!(command.wait().unwrap().code(), Some(2));
}

#[test]
fn forge_up_starts_its_own_nats_server_and_stops_it_on_exit() {
    // The cluster only provides the path of the binary and the variables not to inherit.
    let cluster = Cluster::empty(TestStore::Directory);
    let data = cluster.directory.path().join("data");
    let up = LocalUp::start(&cluster, &data);
    let envelope = insurance_envelope("up", 3);
    let path = write_json(&cluster, "up.json", &envelope);
    let record = up.run(&cluster, &["submit", &path, "--wait"]);
    assert_eq!(record["result"], local_result_hash(&envelope));

    let stopping = Instant::now();
    let status = up.end(Signal::TERM);
    assert!(
        status.success() && stopping.elapsed() < Duration::from_secs(10),
        "{status} {:?}",
        stopping.elapsed()
    );
    assert!(processes_naming(&data).is_empty(), "{:?}", processes_naming(&data));
}

#[test]
fn forge_up_refuses_a_directory_that_another_one_uses() {
    let cluster = Cluster::empty(TestStore::Directory);
    let data = cluster.directory.path().join("data");
    let up = LocalUp::start(&cluster, &data);
    let second = forge_up(&cluster, &data).output().unwrap();
    assert_output(&second, 2, &["another forge up uses", "--data"]);
    let envelope = insurance_envelope("first", 3);
    let path = write_json(&cluster, "first.json", &envelope);
    let record = up.run(&cluster, &["submit", &path, "--wait"]);
    assert_eq!(record["result"], local_result_hash(&envelope));
    assert!(up.end(Signal::TERM).success());
}

#[test]
fn forge_up_ends_an_abandoned_nats_server_and_keeps_its_records() {
    let cluster = Cluster::empty(TestStore::Directory);
    let data = cluster.directory.path().join("data");
    let up = LocalUp::start(&cluster, &data);
    let envelope = insurance_envelope("kept", 3);
    let path = write_json(&cluster, "kept.json", &envelope);
    up.run(&cluster, &["submit", &path, "--wait"]);
    up.end(Signal::KILL);
    wait_until_none_names(&data);

    // Where the system does not end the server with its parent, it holds its lock and goes on.
    let lock = fs::File::options().write(true).open(data.join("nats-server.lock")).unwrap();
    lock.try_lock().unwrap();
    let mut abandoned = Command::new(tools::nats_server())
        .args(["-a", "127.0.0.1", "-js", "-p", "-1", "-sd"])
        .arg(&data)
        .arg("-P")
        .arg(data.join("nats-server.pid"))
        .stdin(lock)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let pid = abandoned.id().to_string();
    while fs::read_to_string(data.join("nats-server.pid")).ok().as_deref().map(str::trim) != Some(&pid) {
        assert!(started.elapsed() < WAIT_LIMIT, "nats-server writes no process id");
        thread::sleep(Duration::from_millis(20));
    }

    let up = LocalUp::start(&cluster, &data);
    abandoned.wait().unwrap();
    let record = up.run(&cluster, &["status", "kept"]);
    assert_eq!(record["result"], local_result_hash(&envelope));
    let running = processes_naming(&data);
    assert_eq!(running.len(), 2, "forge up and one server: {running:?}");
    assert!(up.end(Signal::TERM).success());
    assert!(processes_naming(&data).is_empty(), "{:?}", processes_naming(&data));
}

#[cfg(target_os = "linux")]
#[test]
fn the_nats_server_ends_with_forge_up_however_that_ends() {
    let cluster = Cluster::empty(TestStore::Directory);
    let data = cluster.directory.path().join("data");
    let long = write_json(&cluster, "long.json", &insurance_envelope("long", 2_000_000));
    for signals in [&[Signal::HUP][..], &[Signal::TERM, Signal::TERM], &[Signal::KILL]] {
        let up = LocalUp::start(&cluster, &data);
        up.run(&cluster, &["submit", &long]);
        for &signal in signals {
            up.signal(signal);
            thread::sleep(Duration::from_millis(200));
        }
        up.wait();
        wait_until_none_names(&data);
    }
}

#[test]
fn forge_up_starts_a_nats_server_again_that_has_ended() {
    let cluster = Cluster::empty(TestStore::Directory);
    let data = cluster.directory.path().join("data");
    // While the server is down, another process could take the preferred port, so it gets another.
    let preferred = std::net::TcpListener::bind(("127.0.0.1", 4222));
    let up = LocalUp::start(&cluster, &data);
    drop(preferred);
    let complete = |job: &str| {
        let envelope = insurance_envelope(job, 3);
        let path = write_json(&cluster, &format!("{job}.json"), &envelope);
        let record = up.run(&cluster, &["submit", &path, "--wait"]);
        assert_eq!(record["result"], local_result_hash(&envelope));
    };
    complete("before");
    for (job, signal) in [("killed", Signal::KILL), ("terminated", Signal::TERM)] {
        let pid = fs::read_to_string(data.join("nats-server.pid")).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        wait_until_another_server_runs(&data, pid);
        complete(job);
    }
    assert_eq!(up.run(&cluster, &["status", "before"])["state"], "completed");
    up.signal(Signal::TERM);
    let (status, log) = up.wait();
    assert!(status.success(), "{status} {log:#?}");
    assert!(log.iter().filter(|line| line.contains("nats-server has ended")).count() >= 2, "{log:#?}");
    assert!(processes_naming(&data).is_empty(), "{:?}", processes_naming(&data));
}

fn wait_until_another_server_runs(data: &Path, ended: i32) {
    let started = Instant::now();
    let running = || fs::read_to_string(data.join("nats-server.pid")).unwrap_or_default().trim().parse();
    while running().is_ok_and(|pid: i32| pid == ended) || running().is_err() {
        assert!(started.elapsed() < WAIT_LIMIT, "no nats-server was started");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn forge_up_starts_no_server_if_its_http_address_is_taken() {
    let cluster = Cluster::empty(TestStore::Directory);
    let data = cluster.directory.path().join("data");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = forge_up(&cluster, &data).args(["--http", &address]).output().unwrap();
    assert_output(&output, 2, &["--http", &address]);
    assert!(!data.exists(), "a server was started");
}

#[test]
fn ctrl_c_ends_the_services_before_their_nats_server() {
    use std::os::unix::process::CommandExt;

    let cluster = Cluster::empty(TestStore::Directory);
    let data = cluster.directory.path().join("data");
    let long = write_json(&cluster, "long.json", &insurance_envelope("long", 2_000_000));
    let mut command = forge_up(&cluster, &data);
    command.process_group(0);
    let up = LocalUp::spawn(command);
    up.run(&cluster, &["submit", &long]);
    // A terminal sends the signal to the whole group.
    kill_process_group(Pid::from_child(&up.process), Signal::INT).unwrap();
    let (status, log) = up.wait();
    assert!(status.success(), "{status} {log:#?}");
    let lost: Vec<_> = log.iter().filter(|line| line.contains("disconnected")).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(processes_naming(&data).is_empty(), "{:?}", processes_naming(&data));
}

fn wait_until_none_names(path: &Path) {
    let started = Instant::now();
    while !processes_naming(path).is_empty() {
        assert!(started.elapsed() < WAIT_LIMIT, "{:?}", processes_naming(path));
        thread::sleep(Duration::from_millis(50));
    }
}

/// Command lines of the running processes that mention a path.
fn processes_naming(path: &Path) -> Vec<String> {
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(path.to_str()?).then_some(line)
    });
    lines.collect()
}

#[test]
fn submit_watch_status_jobs_and_cancel_report_state_and_exit_code() {
    let cluster = Cluster::start();
    cluster.complete_warm_up();
    let envelope = insurance_envelope("shown", 4);
    let path = write_json(&cluster, "shown.json", &envelope);
    let result = local_result_hash(&envelope);
    let text = assert_output(
        &cluster.run(&["submit", &path, "--wait"]),
        0,
        &["Job shown", "completed", "Mean ", &result],
    );
    assert!(!text.contains('\u{1b}'), "no colours when standard output is not a terminal");
    let resubmitted = assert_output(&cluster.run(&["submit", &path, "--wait", "--format", "json"]), 0, &[]);
    assert_eq!(serde_json::from_str::<Value>(&resubmitted).unwrap()["result"], result);

    let invalid = with_field(
        with_field(envelope.clone(), "/args/claim_freq", json!(-1)),
        "/policy/verify",
        json!("maybe"),
    );
    let invalid = write_json(&cluster, "invalid.json", &with_field(invalid, "/ctx/job_id", json!("bad")));
    assert_output(&cluster.run(&["submit", &invalid]), 2, &["/args/claim_freq", "/policy/verify"]);
    let other = write_json(&cluster, "other.json", &insurance_envelope("shown", 5));
    assert_output(&cluster.run(&["submit", &other]), 2, &["another envelope"]);
    let late = with_field(insurance_envelope("late", 2_000_000), "/policy/timeout_ms", json!(200));
    let late = write_json(&cluster, "late.json", &late);
    assert_output(&cluster.run(&["submit", &late, "--wait"]), 3, &["timeout"]);

    let lines = assert_output(&cluster.run(&["watch", "shown", "--format", "json"]), 0, &[]);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["schema"]), (&json!("completed"), &json!("forge.job.v1")));
    assert_output(&cluster.run(&["watch", "late"]), 3, &["timeout"]);
    assert_output(&cluster.run(&["watch", "missing"]), 2, &["job missing does not exist"]);
    assert_output(&cluster.run(&["status", "missing"]), 2, &["job missing does not exist"]);
    assert_output(&cluster.run(&["status", "shown"]), 0, &["completed", &result]);
    assert_output(&cluster.run(&["status", "no/id"]), 2, &[]);

    let all = assert_output(&cluster.run(&["jobs"]), 0, &["shown", "late", "failed (timeout)"]);
    assert_eq!(all.lines().count(), 1 + 3, "a header and three jobs: {all}");
    let failed = assert_output(&cluster.run(&["jobs", "--state", "failed", "--format", "json"]), 0, &[]);
    let failed: Value = serde_json::from_str(&failed).unwrap();
    assert_eq!(failed["job_id"], "late");
    assert_output(&cluster.run(&["jobs", "--state", "fialed"]), 2, &["--state"]);

    let long = write_json(&cluster, "long.json", &insurance_envelope("long", 2_000_000));
    assert_output(&cluster.run(&["submit", &long]), 0, &["long"]);
    assert_output(&cluster.run(&["cancel", "long"]), 0, &["cancelled"]);
    assert_output(&cluster.run(&["submit", &long, "--wait"]), 3, &["cancelled"]);
    assert_output(&cluster.run(&["cancel", "shown"]), 2, &["it is completed"]);
    assert_output(&cluster.run(&["cancel", "missing"]), 2, &["job missing does not exist"]);
}

#[test]
fn submit_waits_for_a_job_in_the_bucket_that_its_envelope_names() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    cluster.environment.push(("FORGE_KV_NAMESPACES".to_owned(), "jobs,desk".to_owned()));
    for service in ["planner", "worker", "verifier", "aggregator"] {
        cluster.spawn(service, &[service]);
    }
    cluster.complete_warm_up();
    let envelope =
        with_field(insurance_envelope("elsewhere", 1), "/artifacts", json!({"kv_namespace": "desk"}));
    let path = write_json(&cluster, "elsewhere.json", &envelope);
    assert_output(&cluster.run(&["submit", &path, "--wait"]), 0, &["elsewhere", "completed"]);
    assert_output(&cluster.run(&["jobs", "--namespace", "desk"]), 0, &["elsewhere"]);
    assert_output(&cluster.run(&["watch", "elsewhere"]), 0, &["completed"]);
    assert_output(&cluster.run(&["status", "elsewhere"]), 0, &["completed"]);
}

#[test]
fn artifacts_are_listed_and_fetched_and_corruption_is_detected() {
    for cluster in [Cluster::start(), Cluster::start_on_s3()] {
        let envelope = insurance_envelope("kept", 1);
        cluster.submit(&envelope);
        cluster.assert_completes(&envelope);
        let result = local_result_hash(&envelope);
        assert_output(&cluster.run(&["artifacts", "ls", "kept"]), 0, &["result.json", &result]);
        let fetched = cluster.run(&["artifacts", "get", "kept", "result.json"]);
        assert_eq!(forge_contract::digest::Digest::hash_parts(&[&fetched.stdout]).to_hex(), result);
        let out = cluster.directory.path().join("fetched");
        let all = ["artifacts", "get", "kept", "--out", out.to_str().unwrap()];
        assert_output(&cluster.run(&all), 0, &["artifacts written to"]);
        assert_eq!(fs::read(out.join("result.json")).unwrap(), fetched.stdout);
        assert_output(&cluster.run(&["artifacts", "get", "kept", "x.json"]), 2, &["it kept"]);
        assert_output(&cluster.run(&["artifacts", "ls", "missing"]), 2, &["does not exist"]);

        let key = format!("artifacts/sha256/{result}/result.json");
        let store = cluster.store();
        if let Some(location) = store.strip_prefix("s3://") {
            let (bucket, prefix) = location.split_once('/').unwrap();
            run_python(
                "s3.put_object(Bucket=a[0], Key=a[1], Body=b'{}')",
                &[bucket, &format!("{prefix}/{key}")],
            );
        } else {
            fs::write(Path::new(&store).join(&key), "{}").unwrap();
        }
        assert_output(&cluster.run(&["artifacts", "get", "kept", "result.json"]), 4, &["result.json"]);
        assert_output(&cluster.run(&all), 4, &["result.json"]);
    }
}

/// Runs a line of Python in which `s3` is a client of the shared S3 server and `a` the arguments.
fn run_python(line: &str, arguments: &[&str]) -> String {
    let script = format!("import boto3, sys\ns3 = boto3.client('s3')\na = sys.argv[1:]\n{line}");
    let mut command = Command::new(tools::python(&[tools::NATS_PY, tools::BOTO3]));
    let output =
        command.args(["-c", &script]).args(arguments).envs(S3Server::shared().env()).output().unwrap();
    assert_output(&output, 0, &[])
}

#[test]
fn artifacts_are_retained_under_object_lock_when_configured() {
    let mut cluster = Cluster::empty(crate::support::TestStore::S3(S3Server::shared()));
    let bucket = format!("locked{}", std::process::id());
    cluster.environment.push(("FORGE_STORE".to_owned(), format!("s3://{bucket}")));
    for service in ["planner", "worker"] {
        cluster.spawn(service, &[service]);
    }
    cluster.spawn("aggregator", &["aggregator", "--object-lock", "governance:1"]);
    let envelope = insurance_envelope("locked", 1);
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    assert!(record["manifest"].as_str().unwrap().starts_with(&format!("s3://{bucket}/")), "{record:#}");
    let key = format!("artifacts/sha256/{}/result.json", local_result_hash(&envelope));
    let line = "print(s3.get_object_retention(Bucket=a[0], Key=a[1])['Retention']['Mode'])";
    assert_eq!(run_python(line, &[&bucket, &key]).trim(), "GOVERNANCE");
    let line = "print(s3.get_object_lock_configuration(Bucket=a[0])['ObjectLockConfiguration']['ObjectLockEnabled'])";
    assert_eq!(run_python(line, &[&bucket]).trim(), "Enabled");
}

#[test]
fn submit_retries_while_the_planner_answers_503() {
    let cluster = Cluster::empty(TestStore::Directory);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (bus, mut calls) = runtime.block_on(async {
        let bus = JetStreamBus::connect(JetStreamOptions::new(cluster.nats.url())).await.unwrap();
        bus.prepare().await.unwrap();
        let calls = bus.serve().await.unwrap();
        (bus, calls)
    });
    // A planner that cannot reach JetStream answers 503; this one recovers at the third call.
    let planner = runtime.spawn(async move {
        for _ in 0..2 {
            let call = calls.next().await.unwrap();
            call.responder.reply_error(503, "JetStream is electing a leader".to_owned()).await;
        }
        let call = calls.next().await.unwrap();
        let progress = json!({
            "iterations": 1, "iterations_done": 0, "shards": 1, "shards_done": 0, "shards_verified": 0,
        });
        let record = json!({
            "schema": "forge.job.v1", "job_id": "late", "uid": "0".repeat(32), "state": "planned", "persist": false,
            "submission": 1, "submitted_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "progress": progress,
        });
        call.responder.reply(record.to_string().into()).await;
        (bus, calls)
    });
    let path = write_json(&cluster, "late.json", &insurance_envelope("late", 1));
    let output = cluster.run(&["submit", &path, "--format", "json"]);
    assert!(assert_output(&output, 0, &[]).contains("\"late\""));
    drop(runtime.block_on(planner).unwrap());
}
