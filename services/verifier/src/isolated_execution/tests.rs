//! Child processes that return a result, die, are stopped, or write too much.

use std::{fs, path::Path, time::Duration};

use forge_contract::{
    ids::{JobUid, TaskId},
    protocol::PROTOCOL,
    shard::ShardId,
};
use forge_kernel::{KERNEL, request::Request};
use tokio::time::{sleep, timeout};

use super::*;

const MAX_RESULT_BYTES: usize = 1 << 20;

fn program_and_task() -> (Arc<Program>, ShardTask) {
    let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": 1000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}"#;
    let request = Request::from_json(envelope).unwrap();
    let task = ShardTask {
        protocol: PROTOCOL,
        job_uid: JobUid([1; 16]),
        shard_id: ShardId { height: 0, index: 3 },
        iterations: 10,
        seed: Digest([2; 32]),
        program: request.program_digest,
        kernel: KERNEL,
        task_id: TaskId([3; 32]),
    };
    (request.program, task)
}

fn shell(script: &str) -> IsolatedExecutor {
    IsolatedExecutor::new("/bin/sh", ["-c", script], 1)
}

async fn run(executor: &IsolatedExecutor) -> Result<ShardExecution, IsolatedFailure> {
    let (program, task) = program_and_task();
    executor.execute(&program, &task, MAX_RESULT_BYTES).await
}

async fn crash_reason(script: &str) -> String {
    match run(&shell(script)).await {
        Err(IsolatedFailure::Crashed(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn reference_bytes() -> Vec<u8> {
    let (program, task) = program_and_task();
    Scalar.execute(&program, &[task.shard()], &()).unwrap()[0].encode()
}

#[test]
fn the_child_executes_what_the_parent_writes() {
    let (program, task) = program_and_task();
    let mut output = Vec::new();
    execute_in_child(build_input(&program, &task).as_slice(), &mut output).unwrap();
    assert_eq!(output, reference_bytes());
    let input = build_input(&program, &task);
    for end in [0, 3, 50, input.len() - 1] {
        assert!(execute_in_child(&input[..end], &mut Vec::new()).is_err(), "{end}");
    }
}

#[tokio::test]
async fn a_result_on_standard_output_is_returned() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("input"), folder.path().join("output"));
    fs::write(&output, reference_bytes()).unwrap();
    let script = format!("cat > '{}'; cat '{}'", input.display(), output.display());
    let execution = run(&shell(&script)).await.unwrap();
    assert_eq!((execution.bytes.as_ref(), execution.iterations), (reference_bytes().as_slice(), 10));
    assert_eq!(execution.hash, Digest::hash_parts(&[&reference_bytes()]));
    let (program, task) = program_and_task();
    assert_eq!(fs::read(&input).unwrap(), build_input(&program, &task));
}

#[tokio::test]
async fn a_process_that_dies_or_fails_is_a_crash_with_the_end_of_its_standard_error() {
    let signal = crash_reason("cat > /dev/null; echo 'the stack\n overflowed' >&2; kill -SEGV $$").await;
    assert!(signal.contains("signal") && signal.ends_with(": the stack overflowed"), "{signal}");
    // It fails without reading its input, and writes more than is quoted.
    let code = crash_reason("head -c 100000 /dev/zero | tr '\\0' x >&2; echo ' the end' >&2; exit 3").await;
    assert!(code.contains('3') && code.ends_with("x the end") && code.len() < 700, "{code}");
    let malformed = crash_reason("cat > /dev/null; echo no result").await;
    assert!(malformed.starts_with("the result is malformed"), "{malformed}");
}

#[tokio::test]
async fn output_without_end_is_a_crash() {
    let reason = timeout(Duration::from_secs(60), crash_reason("cat > /dev/null; exec yes")).await.unwrap();
    assert_eq!(reason, "the result is larger than 1048576 bytes");
}

#[tokio::test]
async fn a_process_that_cannot_start_or_is_asked_to_end_is_no_crash() {
    let missing = IsolatedExecutor::new("/missing/forge", ["execute-shard"], 1);
    for executor in [missing, shell("kill -TERM $$"), shell("kill -INT $$")] {
        let failure = run(&executor).await.unwrap_err();
        assert!(matches!(failure, IsolatedFailure::Unavailable(_)), "{failure:?}");
    }
}

async fn wait_until(condition: impl Fn() -> bool) {
    let polling = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), polling).await.expect("the condition holds at last");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn dropping_the_execution_kills_the_process_which_has_no_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("environment");
    let script =
        format!("cat /proc/$$/environ > '{0}'; echo $$ > '{0}.pid'; exec sleep 1000", file.display());
    let running = tokio::spawn(async move { run(&shell(&script)).await.map(drop) });
    let pid_file = format!("{}.pid", file.display());
    wait_until(|| fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))).await;
    assert_eq!(fs::read(&file).unwrap(), b"");
    let process = format!("/proc/{}", fs::read_to_string(&pid_file).unwrap().trim());
    assert!(Path::new(&process).exists());
    running.abort();
    wait_until(|| !Path::new(&process).exists()).await;
}
