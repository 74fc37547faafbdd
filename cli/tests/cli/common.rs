//! What the tests of the binary share: running it in a directory of its own, and reading what it left behind.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use forge_contract::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The binary under test, without the environment's wishes about colour.
pub fn forge() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forge"));
    command.env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// A directory with a store in it.
pub struct Place {
    directory: TempDir,
}

/// How a command ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn new(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Asserts an exit code, and shows all output if it is another one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in:\n{}", self.stderr);
        self
    }
}

impl Place {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The store's root.
    pub fn out(&self) -> PathBuf {
        self.path().join("out")
    }

    /// `forge run` of an envelope on standard input.
    pub fn run(&self, envelope: &Value, options: &[&str]) -> Ended {
        self.run_bytes(envelope.to_string().as_bytes(), options)
    }

    pub fn run_bytes(&self, envelope: &[u8], options: &[&str]) -> Ended {
        let mut command = forge();
        command.args(["run", "-", "--out"]).arg(self.out()).args(options);
        feed(command, envelope)
    }

    /// `forge COMMAND MANIFEST`
    pub fn on_manifest(&self, command: &str, job: &str, options: &[&str]) -> Ended {
        let output = forge().arg(command).arg(self.manifest_path(job)).args(options).output();
        Ended::new(&output.unwrap())
    }

    pub fn manifest_path(&self, job: &str) -> PathBuf {
        self.out().join("jobs").join(job).join("manifest.json")
    }

    pub fn manifest(&self, job: &str) -> Value {
        read_json(&self.manifest_path(job))
    }

    pub fn error(&self, job: &str) -> Value {
        read_json(&self.out().join("jobs").join(job).join("error.json"))
    }

    /// Where an artifact of a job lies.
    pub fn artifact(&self, job: &str, name: &str) -> PathBuf {
        let manifest = self.manifest(job);
        let artifacts = manifest["artifacts"].as_array().unwrap();
        let artifact = artifacts.iter().find(|artifact| artifact["name"] == name);
        let artifact = artifact.unwrap_or_else(|| panic!("{name} is not in {manifest:#}"));
        self.object(artifact["sha256"].as_str().unwrap(), name)
    }

    pub fn object(&self, hash: &str, name: &str) -> PathBuf {
        self.out().join("artifacts/sha256").join(hash).join(name)
    }

    /// All files of the store, relative to it.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(&self.out(), &self.out(), &mut files);
        files.sort();
        files
    }

    /// Asserts that every object lies under the hash of its content, and that there are so many.
    #[track_caller]
    pub fn objects_are_whole(&self, count: usize) {
        let files = self.files();
        let objects: Vec<_> = files.iter().filter(|file| file.starts_with("artifacts/")).collect();
        for object in &objects {
            let hash = Digest::hash_parts(&[&fs::read(self.out().join(object)).unwrap()]).to_hex();
            assert!(object.starts_with(&format!("artifacts/sha256/{hash}/")), "{object} has the hash {hash}");
        }
        assert_eq!(objects.len(), count, "{objects:#?}");
    }
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

pub fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// Runs a command with bytes on standard input; it may stop reading at any time.
pub fn feed(mut command: Command, input: &[u8]) -> Ended {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A reader that has had enough closes the pipe.
            let _ = stdin.write_all(input);
        });
        Ended::new(&child.wait_with_output().unwrap())
    })
}

/// A small job of 5 shards, all of whose figures are of interest.
pub fn insurance(job: &str) -> Value {
    json!({
        "ctx": {"job_id": job},
        "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {
            "iterations": 300_000, "claim_freq": 1.5, "claim_severity_mu": 6, "claim_severity_sig": 1,
            "cat_prob": 0.02, "cat_mu": 10, "cat_sig": 1.5, "policy_limit": 50_000, "aggregate_limit": 250_000
        },
        "seed": {"mode": "explicit", "value": "tests"}
    })
}

/// The job with another value at a pointer.
pub fn with(mut envelope: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    if let Some(top) = parent.strip_prefix('/')
        && envelope.get(top).is_none()
    {
        envelope[top] = json!({});
    }
    envelope.pointer_mut(parent).unwrap()[key] = value;
    envelope
}

/// A job that would take hours; it gives up after half a minute, so that a test that fails ends too.
pub fn endless(job: &str) -> Value {
    let envelope = with(insurance(job), "/args/iterations", json!(1_000_000_000_000u64));
    with(envelope, "/policy/timeout_ms", json!(30_000))
}

/// The job, keeping every document there is.
pub fn keeping_all(envelope: Value) -> Value {
    let all = [
        "result_json",
        "executions_json",
        "metrics_json",
        "verification_json",
        "plan_json",
        "ept_csv",
        "report_html",
    ];
    with(envelope, "/artifacts/include", json!(all))
}
