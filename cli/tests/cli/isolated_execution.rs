//! `forge execute-shard`, as a verifier starts it.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use forge_contract::{
    digest::Digest,
    shard::{Shard, ShardId},
};
use forge_kernel::{
    backend::{Backend, scalar::Scalar},
    request::Request,
};
use forge_verifier::{ChildCommand, ChildFailure, ChildPool};

use crate::common::{CommandOutput, forge, insurance_envelope};

const TIME_LIMIT: Duration = Duration::from_secs(60);

fn start_pool(backends: &str) -> Result<Arc<ChildPool>, ChildFailure> {
    let command = ChildCommand {
        program: env!("CARGO_BIN_EXE_forge").into(),
        arguments: vec!["execute-shard".into(), backends.into()],
        inherited_variables: &[],
    };
    ChildPool::start(command, TIME_LIMIT)
}

#[test]
fn child_processes_return_the_bytes_of_the_reference_on_every_backend() {
    let request = Request::from_json(insurance_envelope("isolated").to_string().as_bytes()).unwrap();
    let shards: Vec<_> = (0..3)
        .map(|index| Shard { id: ShardId { height: 0, index }, iterations: 2000, seed: Digest([2; 32]) })
        .collect();
    let expected = Scalar.execute(&request.program, &shards, &()).unwrap();
    let pool = start_pool("cpu").unwrap();
    let backends = pool.backends();
    assert_eq!(backends.last().map(|backend| backend.name().to_owned()).as_deref(), Some("scalar"));
    assert!(backends.len() > 1);
    for backend in backends {
        let results = backend.execute(&request.program, &shards, &()).unwrap();
        assert_eq!(results, expected, "{}", backend.name());
    }
}

/// Starts a verifier's children and kills them: the executions that follow succeed.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_child_is_replaced() {
    let request = Request::from_json(insurance_envelope("isolated").to_string().as_bytes()).unwrap();
    let shard = Shard { id: ShardId { height: 0, index: 3 }, iterations: 2000, seed: Digest([2; 32]) };
    let pool = start_pool("cpu").unwrap();
    let backend = pool.backends().remove(0);
    let expected = backend.execute(&request.program, &[shard], &()).unwrap();
    for child in child_processes() {
        let killed = std::process::Command::new("kill").args(["-KILL", &child]).status().unwrap();
        assert!(killed.success());
        let ended = Instant::now();
        while is_running(&child) && ended.elapsed() < TIME_LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(backend.execute(&request.program, &[shard], &()).unwrap(), expected);
}

/// The children of this thread that execute shards.
#[cfg(target_os = "linux")]
fn child_processes() -> Vec<String> {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap();
    let is_executor = |child: &&str| {
        let command = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("execute-shard")
    };
    let children: Vec<_> = children.split_whitespace().filter(is_executor).map(str::to_owned).collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children
}

#[cfg(target_os = "linux")]
fn is_running(child: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(child).join("status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Its input stays open, as during an execution, when the child does not read it.
#[cfg(target_os = "linux")]
#[test]
fn a_child_process_ends_with_its_parent() {
    let script = r#"exec 3<&0; "$0" execute-shard cpu <&3 & echo $! >&2; wait"#;
    let mut parent = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_forge")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = String::new();
    BufReader::new(parent.stderr.take().unwrap()).read_line(&mut child).unwrap();
    let child = child.trim();
    // It introduces itself once it runs.
    parent.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
    assert!(is_running(child));
    parent.kill().unwrap();
    let killed = Instant::now();
    while is_running(child) {
        assert!(killed.elapsed() < TIME_LIMIT, "the child lives on");
        std::thread::sleep(Duration::from_millis(50));
    }
    parent.wait().unwrap();
}

#[test]
fn a_child_without_a_backend_says_why() {
    let reason = start_pool("gpu-99").unwrap_err().to_string();
    assert!(reason.contains("gpu-99") || reason.to_lowercase().contains("gpu"), "{reason}");
}

#[test]
fn a_child_process_ends_with_its_input() {
    let output = forge().args(["execute-shard", "cpu"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("scalar"));
}

#[test]
fn the_command_is_hidden() {
    let output = CommandOutput::new(&forge().arg("--help").output().unwrap()).expect_code(0);
    assert!(output.stdout.contains("verifier") && !output.stdout.contains("execute-shard"));
}
