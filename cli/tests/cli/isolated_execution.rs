//! `forge execute-shard`, as a verifier starts it.

use std::process::Stdio;

use forge_contract::{
    digest::Digest,
    ids::{JobUid, TaskId},
    protocol::PROTOCOL,
    shard::ShardId,
    task::ShardTask,
};
use forge_kernel::{
    KERNEL,
    backend::{Backend, scalar::Scalar},
    request::Request,
};
use forge_verifier::IsolatedExecutor;

use crate::common::{CommandOutput, forge, insurance_envelope};

#[test]
fn a_child_process_returns_the_bytes_of_the_reference() {
    let request = Request::from_json(insurance_envelope("isolated").to_string().as_bytes()).unwrap();
    let task = ShardTask {
        protocol: PROTOCOL,
        job_uid: JobUid([1; 16]),
        shard_id: ShardId { height: 0, index: 3 },
        iterations: 2000,
        seed: Digest([2; 32]),
        program: request.program_digest,
        kernel: KERNEL,
        task_id: TaskId([3; 32]),
    };
    let executor = IsolatedExecutor::new(env!("CARGO_BIN_EXE_forge"), ["execute-shard"], 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let execution = runtime.block_on(executor.execute(&request.program, &task, 1 << 20)).unwrap();
    let expected = &Scalar.execute(&request.program, &[task.shard()], &()).unwrap()[0];
    assert_eq!((execution.bytes.as_ref(), execution.iterations), (expected.encode().as_slice(), 2000));
}

#[test]
fn without_a_task_the_child_process_fails() {
    let output = forge().arg("execute-shard").stdin(Stdio::null()).output().unwrap();
    let output = CommandOutput::new(&output).expect_stderr("the input is too short");
    assert!(output.code.is_some_and(|code| code != 0) && output.stdout.is_empty());
}

#[test]
fn the_command_is_hidden() {
    let output = CommandOutput::new(&forge().arg("--help").output().unwrap()).expect_code(0);
    assert!(output.stdout.contains("verifier") && !output.stdout.contains("execute-shard"));
}
