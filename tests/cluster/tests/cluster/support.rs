//! A cluster of processes, and how tests talk to it.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use forge_harness::{NatsConfig, NatsServer, S3Server};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The lease in tests: what is lost comes again soon.
pub const LEASE_MS: u64 = 2000;
/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Builds the binaries once, with the profile of the tests, and answers where they are.
fn binaries() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        // target/<profile>/deps/<this test>
        let test = env::current_exe().unwrap();
        let directory = test.parent().and_then(Path::parent).unwrap().to_owned();
        // `cargo test --workspace` has built them, and says so (Makefile); by itself this test builds what it needs.
        if env::var_os("FORGE_BINARIES_ARE_BUILT").is_none() {
            let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            build.args([
                "build",
                "--locked",
                "-p",
                "forge",
                "-p",
                "forge-cluster-tests",
                "--bins",
                "--examples",
            ]);
            build.arg(if directory.ends_with("release") { "--release" } else { "--all-features" });
            let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
            assert!(built.is_ok_and(|status| status.success()), "the binaries cannot be built");
        }
        directory
    })
}

/// All services.
const SERVICES: [&str; 4] = ["planner", "aggregator", "verifier", "worker"];

/// Where artifacts go.
pub enum Place {
    /// A directory of the cluster's own.
    Directory,
    /// A bucket of the S3 server that all tests share, under a prefix of the cluster's own.
    S3(std::sync::Arc<S3Server>),
}

/// NATS, a store, and processes. All of them end with it.
pub struct Cluster {
    pub nats: NatsServer,
    pub directory: TempDir,
    place: Place,
    processes: BTreeMap<String, Child>,
    /// Environment variables of every process.
    pub environment: Vec<(String, String)>,
}

impl Cluster {
    /// NATS and a store; no service yet.
    pub fn empty(place: Place) -> Self {
        let nats = NatsServer::start(&NatsConfig::default());
        let directory = tempfile::tempdir().unwrap();
        Self { nats, directory, place, processes: BTreeMap::new(), environment: Vec::new() }
    }

    /// One of each service, artifacts in a directory.
    pub fn start() -> Self {
        Self::empty(Place::Directory).with_services()
    }

    /// One of each service, artifacts in S3.
    pub fn start_on_s3() -> Self {
        Self::empty(Place::S3(S3Server::shared())).with_services()
    }

    /// All services but one, artifacts in a directory.
    #[allow(dead_code, reason = "for the benchmark, or for tests")]
    pub fn start_without(service: &str) -> Self {
        let mut cluster = Self::empty(Place::Directory);
        for other in SERVICES.into_iter().filter(|other| *other != service) {
            cluster.spawn(other, &[other]);
        }
        cluster
    }

    fn with_services(mut self) -> Self {
        for service in SERVICES {
            self.spawn(service, &[service]);
        }
        self
    }

    /// Waits until a job runs through all services.
    #[allow(dead_code, reason = "for the benchmark, or for tests")]
    pub fn completes_warm_up(&self) {
        let envelope = insurance("warm-up", 1);
        self.submit(&envelope);
        self.completes(&envelope);
    }

    /// Waits until a job has completed, whatever its result.
    #[allow(dead_code, reason = "for the benchmark, or for tests")]
    pub fn completes_trivially(&self) {
        self.submit(&insurance("warm-up", 1));
        assert_eq!(self.wait("warm-up")["state"], "completed", "{}", self.logs());
    }

    /// The process id of a process.
    #[allow(dead_code, reason = "for the benchmark, or for tests")]
    pub fn id(&self, name: &str) -> u32 {
        self.processes[name].id()
    }

    /// Where artifacts lie, as `--store` takes it.
    pub fn store(&self) -> String {
        match &self.place {
            Place::Directory => self.directory.path().join("out").display().to_string(),
            Place::S3(_) => {
                let prefix = self.directory.path().file_name().unwrap().to_string_lossy().replace('.', "x");
                format!("s3://{}/{prefix}", S3Server::BUCKET)
            }
        }
    }

    /// The `forge` command, with the cluster's environment.
    pub fn forge(&self) -> Command {
        self.command("forge")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binaries().join(name));
        command
            .env("FORGE_NATS_URL", self.nats.url())
            .env("FORGE_STORE", self.store())
            .env("FORGE_LEASE_MS", LEASE_MS.to_string())
            .env("FORGE_THREADS", "2")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if let Place::S3(server) = &self.place {
            command.envs(server.env());
        }
        command
    }

    /// Starts a process of the `forge` binary under a name.
    pub fn spawn(&mut self, name: &str, arguments: &[&str]) {
        let mut command = self.forge();
        command.args(arguments);
        self.start_process(name, command);
    }

    /// Starts a worker that misbehaves.
    pub fn spawn_faulty(&mut self, name: &str, fault: &str) {
        let mut command = self.command("examples/faulty-worker");
        command.args([&self.nats.url(), fault]);
        self.start_process(name, command);
    }

    fn start_process(&mut self, name: &str, mut command: Command) {
        let log = fs::File::options().create(true).append(true).open(self.log(name)).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        assert!(self.processes.insert(name.to_owned(), child).is_none(), "{name} is running");
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// Ends a process at once, as `kill -9` does.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.processes.remove(name).unwrap_or_else(|| panic!("{name} is not running"));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Whether a process runs.
    pub fn is_running(&mut self, name: &str) -> bool {
        self.processes.get_mut(name).is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Runs a command of `forge` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.forge().args(arguments).output().unwrap()
    }

    /// Submits an envelope and answers its job id.
    #[track_caller]
    pub fn submit(&self, envelope: &Value) -> String {
        let path =
            self.directory.path().join(format!("{}.json", envelope["ctx"]["job_id"].as_str().unwrap()));
        fs::write(&path, envelope.to_string()).unwrap();
        let started = Instant::now();
        loop {
            let output = self.run(&["submit", path.to_str().unwrap(), "--format", "json"]);
            if output.status.success() {
                let record: Value = serde_json::from_slice(&output.stdout).unwrap();
                return record["job_id"].as_str().unwrap().to_owned();
            }
            // Services that have just been started do not answer yet.
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(started.elapsed() < PATIENCE, "{error}{}", self.logs());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The record of a job; null if there is none.
    pub fn record(&self, job: &str) -> Value {
        let output = self.run(&["status", job, "--format", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Waits until something holds of a job's record.
    #[track_caller]
    pub fn wait_until(&self, job: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let record = self.record(job);
            if holds(&record) {
                return record;
            }
            assert!(started.elapsed() < PATIENCE, "{job} is not {what}: {record:#}\n{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a job has ended, and answers its record.
    #[track_caller]
    pub fn wait(&self, job: &str) -> Value {
        let terminal = ["completed", "failed", "cancelled"];
        self.wait_until(job, "at its end", |record| {
            record["state"].as_str().is_some_and(|state| terminal.contains(&state))
        })
    }

    /// Waits for a job, which has to complete with the result that `forge run` gives.
    #[track_caller]
    pub fn completes(&self, envelope: &Value) -> Value {
        let record = self.wait(envelope["ctx"]["job_id"].as_str().unwrap());
        assert_eq!(record["state"], "completed", "{record:#}\n{}", self.logs());
        assert_eq!(record["result"], result_of_run(envelope), "{record:#}");
        record
    }

    /// The last lines of all processes.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in fs::read_dir(self.directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let last: Vec<_> = text.lines().rev().take(25).collect();
                let last: Vec<_> = last.into_iter().rev().collect();
                logs += &format!("--- {}\n{}\n", path.file_name().unwrap().display(), last.join("\n"));
            }
        }
        logs
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.processes.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The hash of the result that `forge run` gives, without any server. Kept for each model.
pub fn result_of_run(envelope: &Value) -> String {
    static KNOWN: std::sync::Mutex<BTreeMap<String, String>> = std::sync::Mutex::new(BTreeMap::new());
    let pure = json!({"op": envelope["op"], "args": envelope["args"], "seed": envelope["seed"],
                      "artifacts": {"persist": false}});
    let key = pure.to_string();
    if let Some(known) = KNOWN.lock().unwrap().get(&key) {
        return known.clone();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("envelope.json");
    fs::write(&path, &key).unwrap();
    let run = Command::new(binaries().join("forge"))
        .args(["run", path.to_str().unwrap(), "--format", "json"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let hash = forge_contract::digest::Digest::hash_parts(&[&run.stdout]).to_hex();
    KNOWN.lock().unwrap().insert(key, hash.clone());
    hash
}

/// A job of so many leaves of 65,536 iterations.
pub fn insurance(job: &str, leaves: u64) -> Value {
    json!({
        "ctx": {"job_id": job},
        "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {
            "iterations": leaves * 65_536, "claim_freq": 1.5, "claim_severity_mu": 6, "claim_severity_sig": 1,
            "cat_prob": 0.02, "cat_mu": 10, "cat_sig": 1.5, "policy_limit": 50_000, "aggregate_limit": 250_000
        },
        "seed": {"mode": "explicit", "value": "tests"}
    })
}

/// The value with another one at a pointer, whose parents are made where they are missing.
pub fn with(mut value: Value, pointer: &str, new: Value) -> Value {
    let mut at = &mut value;
    for key in pointer.trim_start_matches('/').split('/') {
        at = &mut at[key];
    }
    *at = new;
    value
}
