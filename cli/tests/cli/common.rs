//! Shared helpers: running the binary in a directory of its own and reading the files that it
//! wrote.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use forge_contract::{digest::Digest, envelope::ArtifactKind};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The binary under test, without standard input and without `NO_COLOR` from the environment.
pub fn forge() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forge"));
    command.env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// A temporary directory with room for a store. Removed on drop.
pub struct Sandbox {
    directory: TempDir,
}

/// Exit code and output of a finished command.
pub struct CommandOutput {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    pub fn new(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Asserts the exit code; prints all output if it differs.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error contains a text.
    #[track_caller]
    pub fn expect_stderr(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in:\n{}", self.stderr);
        self
    }
}

impl Sandbox {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Root of the store. Created by the first command that writes to it.
    pub fn store_path(&self) -> PathBuf {
        self.path().join("out")
    }

    /// Runs `forge run` with the envelope on standard input.
    pub fn run(&self, envelope: &Value, options: &[&str]) -> CommandOutput {
        self.run_bytes(envelope.to_string().as_bytes(), options)
    }

    pub fn run_bytes(&self, envelope: &[u8], options: &[&str]) -> CommandOutput {
        let mut command = forge();
        command.args(["run", "-", "--out"]).arg(self.store_path()).args(options);
        run_with_stdin(command, envelope)
    }

    /// Runs `forge COMMAND MANIFEST` on a job of this store.
    pub fn run_on_job(&self, command: &str, job: &str, options: &[&str]) -> CommandOutput {
        let output = forge().arg(command).arg(self.manifest_path(job)).args(options).output();
        CommandOutput::new(&output.unwrap())
    }

    pub fn manifest_path(&self, job: &str) -> PathBuf {
        self.store_path().join("jobs").join(job).join("manifest.json")
    }

    pub fn manifest(&self, job: &str) -> Value {
        read_json(&self.manifest_path(job))
    }

    pub fn error(&self, job: &str) -> Value {
        read_json(&self.store_path().join("jobs").join(job).join("error.json"))
    }

    /// Path of a job's artifact.
    pub fn artifact(&self, job: &str, name: &str) -> PathBuf {
        let manifest = self.manifest(job);
        let artifacts = manifest["artifacts"].as_array().unwrap();
        let artifact = artifacts.iter().find(|artifact| artifact["name"] == name);
        let artifact = artifact.unwrap_or_else(|| panic!("{name} is not in {manifest:#}"));
        self.object(artifact["sha256"].as_str().unwrap(), name)
    }

    pub fn object(&self, hash: &str, name: &str) -> PathBuf {
        self.store_path().join("artifacts/sha256").join(hash).join(name)
    }

    /// Paths of all files in the store, relative to its root, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(&self.store_path(), &self.store_path(), &mut files);
        files.sort();
        files
    }

    /// Asserts that the store has `count` objects, each stored under the hash of its content.
    #[track_caller]
    pub fn assert_objects_intact(&self, count: usize) {
        let files = self.files();
        let objects: Vec<_> = files.iter().filter(|file| file.starts_with("artifacts/")).collect();
        for object in &objects {
            let hash = Digest::hash_parts(&[&fs::read(self.store_path().join(object)).unwrap()]).to_hex();
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

/// Runs a command with bytes on standard input. The command need not read all of them.
pub fn run_with_stdin(mut command: Command, input: &[u8]) -> CommandOutput {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Writing fails if the command closes the pipe early.
            let _ = stdin.write_all(input);
        });
        CommandOutput::new(&child.wait_with_output().unwrap())
    })
}

/// An envelope of 5 shards that uses every feature of the insurance profile.
pub fn insurance_envelope(job: &str) -> Value {
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

/// The envelope with another value at a JSON pointer. Creates the enclosing object if necessary.
pub fn with_value(mut envelope: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    if let Some(top) = parent.strip_prefix('/')
        && envelope.get(top).is_none()
    {
        envelope[top] = json!({});
    }
    envelope.pointer_mut(parent).unwrap()[key] = value;
    envelope
}

/// An envelope that would run for hours. It times out after 30 s, so that a failing test ends too.
pub fn endless_envelope(job: &str) -> Value {
    let envelope = with_value(insurance_envelope(job), "/args/iterations", json!(1_000_000_000_000u64));
    with_value(envelope, "/policy/timeout_ms", json!(30_000))
}

/// The envelope, with every artifact requested.
pub fn with_all_artifacts(envelope: Value) -> Value {
    with_value(envelope, "/artifacts/include", json!(ArtifactKind::ALL))
}
