//! A cluster of service processes, and the commands by which tests use it.

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

/// Lease of a message in tests, in milliseconds. Short, so that lost messages are redelivered soon.
pub const LEASE_MS: u64 = 2000;
/// Upper bound on any single wait of a test.
pub const WAIT_LIMIT: Duration = Duration::from_secs(120);

/// Returns the directory of the binaries. Builds them first, in the tests' profile, unless the
/// caller has done so.
fn binary_directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // target/<profile>/deps/<this test>
        let test_binary = env::current_exe().unwrap();
        let directory = test_binary.parent().and_then(Path::parent).unwrap().to_owned();
        // `make unit` builds the whole workspace and sets the variable. A single `cargo test -p`
        // has not built the binaries of other packages.
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
            let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
            assert!(status.is_ok_and(|status| status.success()), "building the binaries failed");
        }
        directory
    })
}

/// The services of a complete cluster.
const SERVICES: [&str; 4] = ["planner", "aggregator", "verifier", "worker"];

/// Where a cluster stores artifacts.
pub enum TestStore {
    /// A directory inside the cluster's temporary directory.
    Directory,
    /// The bucket of a shared S3 server, under a prefix that no other cluster uses.
    S3(std::sync::Arc<S3Server>),
}

/// A NATS server, a store and service processes. Dropping it ends them all.
pub struct Cluster {
    pub nats: NatsServer,
    pub directory: TempDir,
    store: TestStore,
    processes: BTreeMap<String, Child>,
    /// Environment variables of the processes started from now on.
    pub environment: Vec<(String, String)>,
}

impl Cluster {
    /// Starts NATS without any service.
    pub fn empty(store: TestStore) -> Self {
        Self::empty_with_nats(store, &NatsConfig::default())
    }

    /// Starts NATS with a configuration, without any service.
    pub fn empty_with_nats(store: TestStore, config: &NatsConfig) -> Self {
        let nats = NatsServer::start(config);
        let directory = tempfile::tempdir().unwrap();
        Self { nats, directory, store, processes: BTreeMap::new(), environment: Vec::new() }
    }

    /// Starts one process of each service; artifacts go to a directory.
    pub fn start() -> Self {
        Self::empty(TestStore::Directory).with_services()
    }

    /// Starts one process of each service; artifacts go to S3.
    pub fn start_on_s3() -> Self {
        Self::empty(TestStore::S3(S3Server::shared())).with_services()
    }

    /// Starts every service except one; artifacts go to a directory.
    #[allow(dead_code, reason = "used by either the tests or the benchmark")]
    pub fn start_without(service: &str) -> Self {
        let mut cluster = Self::empty(TestStore::Directory);
        for started in SERVICES.into_iter().filter(|started| *started != service) {
            cluster.spawn(started, &[started]);
        }
        cluster
    }

    /// Starts one process of each service.
    pub fn with_services(mut self) -> Self {
        for service in SERVICES {
            self.spawn(service, &[service]);
        }
        self
    }

    /// Runs a small job to completion, so that every service is known to be ready.
    #[allow(dead_code, reason = "used by either the tests or the benchmark")]
    pub fn complete_warm_up(&self) {
        let envelope = insurance_envelope("warm-up", 1);
        self.submit(&envelope);
        self.assert_completes(&envelope);
    }

    /// Runs a small job to completion without checking its result, for workers that compute none.
    #[allow(dead_code, reason = "used by either the tests or the benchmark")]
    pub fn complete_trivial_warm_up(&self) {
        self.submit(&insurance_envelope("warm-up", 1));
        assert_eq!(self.wait_for_end("warm-up")["state"], "completed", "{}", self.logs());
    }

    /// The process id of a running service.
    #[allow(dead_code, reason = "used by either the tests or the benchmark")]
    pub fn process_id(&self, name: &str) -> u32 {
        self.processes[name].id()
    }

    /// URLs of the NATS servers: those of the environment, or that of [`Self::nats`].
    pub fn nats_urls(&self) -> Vec<String> {
        let urls = self.environment.iter().find(|(name, _)| name == "FORGE_NATS_URL");
        urls.map_or_else(|| vec![self.nats.url()], |(_, urls)| urls.split(',').map(str::to_owned).collect())
    }

    /// The location of artifacts, in the form of `--store`.
    pub fn store(&self) -> String {
        match &self.store {
            TestStore::Directory => self.directory.path().join("out").display().to_string(),
            TestStore::S3(_) => {
                let prefix = self.directory.path().file_name().unwrap().to_string_lossy().replace('.', "x");
                format!("s3://{}/{prefix}", S3Server::BUCKET)
            }
        }
    }

    /// A `forge` command with the environment of this cluster.
    pub fn forge(&self) -> Command {
        self.command("forge")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary_directory().join(name));
        command
            .env("FORGE_NATS_URL", self.nats.url())
            .env("FORGE_STORE", self.store())
            .env("FORGE_LEASE_MS", LEASE_MS.to_string())
            .env("FORGE_THREADS", "2")
            .stdin(Stdio::null());
        if let TestStore::S3(server) = &self.store {
            command.envs(server.env());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts `forge` with these arguments as a process named `name`.
    pub fn spawn(&mut self, name: &str, arguments: &[&str]) {
        let mut command = self.forge();
        command.args(arguments);
        self.start_process(name, command);
    }

    /// Starts the worker of examples/faulty-worker.rs with one of its faults.
    pub fn spawn_faulty(&mut self, name: &str, fault: &str) {
        let mut command = self.command("examples/faulty-worker");
        command.args([&self.nats.url(), fault]);
        self.start_process(name, command);
    }

    fn start_process(&mut self, name: &str, mut command: Command) {
        let log = fs::File::options().create(true).append(true).open(self.log(name)).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        assert!(self.processes.insert(name.to_owned(), child).is_none(), "{name} is already running");
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// Ends a process with SIGKILL.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.processes.remove(name).unwrap_or_else(|| panic!("{name} is not running"));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Whether a process was started and has not exited.
    pub fn is_running(&mut self, name: &str) -> bool {
        self.processes.get_mut(name).is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Asserts that no process of the services has ended.
    #[track_caller]
    #[allow(dead_code, reason = "used by either the tests or the benchmark")]
    pub fn assert_services_run(&mut self) {
        for service in SERVICES {
            assert!(self.is_running(service), "{service} has ended: {}", self.logs());
        }
    }

    /// Runs a `forge` command and waits for it to exit.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.forge().args(arguments).output().unwrap()
    }

    /// Submits an envelope, retrying until a planner accepts it, and returns the job id.
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
            // A planner that has just been started does not answer yet.
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(started.elapsed() < WAIT_LIMIT, "{error}{}", self.logs());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The record of a job; null if the job is unknown.
    pub fn record(&self, job: &str) -> Value {
        let output = self.run(&["status", job, "--format", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Waits until a job's record fulfils a condition; `goal` names it in the panic message.
    #[track_caller]
    pub fn wait_until(&self, job: &str, goal: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let record = self.record(job);
            if condition(&record) {
                return record;
            }
            assert!(started.elapsed() < WAIT_LIMIT, "{job} is not {goal}: {record:#}\n{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a job has ended, and returns its record.
    #[track_caller]
    pub fn wait_for_end(&self, job: &str) -> Value {
        self.wait_until(job, "terminal", |record| record["state"].as_str().is_some_and(is_terminal))
    }

    /// Waits for a job and asserts that it completed with the result of `forge run`.
    #[track_caller]
    pub fn assert_completes(&self, envelope: &Value) -> Value {
        let record = self.wait_for_end(envelope["ctx"]["job_id"].as_str().unwrap());
        assert_eq!(record["state"], "completed", "{record:#}\n{}", self.logs());
        assert_eq!(record["result"], local_result_hash(envelope), "{record:#}");
        record
    }

    /// The last log lines of every process.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in fs::read_dir(self.directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let mut last_lines: Vec<_> = text.lines().rev().take(25).collect();
                last_lines.reverse();
                logs += &format!("--- {}\n{}\n", path.file_name().unwrap().display(), last_lines.join("\n"));
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

/// Hash of the result that `forge run` computes for an envelope, without any server. Cached per
/// model and seed.
pub fn local_result_hash(envelope: &Value) -> String {
    static CACHE: std::sync::Mutex<BTreeMap<String, String>> = std::sync::Mutex::new(BTreeMap::new());
    let model = json!({"op": envelope["op"], "args": envelope["args"], "seed": envelope["seed"],
                      "artifacts": {"persist": false}});
    let key = model.to_string();
    if let Some(hash) = CACHE.lock().unwrap().get(&key) {
        return hash.clone();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("envelope.json");
    fs::write(&path, &key).unwrap();
    let run = Command::new(binary_directory().join("forge"))
        .args(["run", path.to_str().unwrap(), "--format", "json"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let hash = forge_contract::digest::Digest::hash_parts(&[&run.stdout]).to_hex();
    CACHE.lock().unwrap().insert(key, hash.clone());
    hash
}

/// Whether a job state is terminal.
pub fn is_terminal(state: &str) -> bool {
    matches!(state, "completed" | "failed" | "cancelled")
}

/// An envelope of `insurance.v1` with `leaves` leaves of 65,536 iterations.
pub fn insurance_envelope(job: &str, leaves: u64) -> Value {
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

/// Sets the field at a JSON pointer of object keys, creating missing parents.
pub fn with_field(mut value: Value, pointer: &str, new: Value) -> Value {
    let mut field = &mut value;
    for key in pointer.trim_start_matches('/').split('/') {
        field = &mut field[key];
    }
    *field = new;
    value
}
