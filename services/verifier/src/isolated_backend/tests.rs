//! Child processes that answer, die, hang, are stopped, or write nonsense. They are shell scripts;
//! the tests of the command line have real ones.

use std::{fs, ops::ControlFlow, path::Path};

use forge_contract::{digest::Digest, shard::ShardId};
use forge_kernel::{backend::scalar::Scalar, request::Request};
use tempfile::TempDir;

use super::*;
use crate::child_executor::execute_in_child;

const HOUR: Duration = Duration::from_secs(3600);
const SHARD: Shard = Shard { id: ShardId { height: 0, index: 3 }, iterations: 10, seed: Digest([2; 32]) };

fn program() -> Arc<Program> {
    let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": 1000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}"#;
    Request::from_json(envelope).unwrap().program
}

fn reference() -> Result<Vec<Arc<dyn Backend>>, &'static str> {
    let reference: Arc<dyn Backend> = Arc::new(Scalar);
    Ok(vec![reference])
}

/// What a child that executes one request writes.
fn real_output() -> Vec<u8> {
    let (mut output, request) = (Vec::new(), build_request("scalar", Some(&program()), &[SHARD]));
    execute_in_child(reference(), request.as_slice(), &mut output).unwrap();
    output
}

fn introduction() -> Vec<u8> {
    let mut output = Vec::new();
    execute_in_child(reference(), [].as_slice(), &mut output).unwrap();
    output
}

/// Children that run a script in a folder, which has the files `introduction`, and `answer`: the
/// answer to one request.
struct Script {
    folder: TempDir,
    backend: Arc<dyn Backend>,
}

impl Script {
    fn start(script: &str, time_limit: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let introduction = introduction();
        fs::write(folder.path().join("introduction"), &introduction).unwrap();
        fs::write(folder.path().join("answer"), &real_output()[introduction.len()..]).unwrap();
        let script = format!("cd '{}'; cat introduction; {script}", folder.path().display());
        let arguments = vec!["-c".into(), script.into()];
        let command = ChildCommand { program: "/bin/sh".into(), arguments, inherited_variables: &["PATH"] };
        let backend = ChildPool::start(command, time_limit).unwrap().backends().remove(0);
        Self { folder, backend }
    }

    fn execute(&self) -> Result<Vec<ShardResult>, ExecutionError> {
        self.backend.execute(&program(), &[SHARD], &())
    }

    fn crash(&self) -> String {
        match self.execute() {
            Err(ExecutionError::Crashed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn has_file(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }
}

/// Reads the first request of a process, which has the program.
fn read_first() -> String {
    format!("head -c {} > request", build_request("scalar", Some(&program()), &[SHARD]).len())
}

/// Reads a later request.
fn read_next() -> String {
    format!("head -c {} > request", build_request("scalar", None, &[SHARD]).len())
}

fn expected() -> Vec<ShardResult> {
    Scalar.execute(&program(), &[SHARD], &()).unwrap()
}

#[test]
fn the_child_executes_what_the_parent_asks_for() {
    let mut input = build_request("scalar", Some(&program()), &[SHARD]);
    input.extend(build_request("scalar", None, &[SHARD, SHARD]));
    let mut output = Vec::new();
    execute_in_child(reference(), input.as_slice(), &mut output).unwrap();
    assert!(output.starts_with(&real_output()));
    for malformed in [build_request("scalar", None, &[SHARD]), build_request("gpu-0", Some(&program()), &[])]
    {
        let executed = execute_in_child(reference(), malformed.as_slice(), Vec::new());
        assert!(executed.is_err());
    }
}

#[test]
fn results_are_returned_and_the_process_is_kept() {
    let (first, next) = (read_first(), read_next());
    let script = format!("{first}; cat answer; {next}; cat answer; {next}; cat answer; exec sleep 1000");
    let script = Script::start(&script, HOUR);
    for _ in 0..3 {
        assert_eq!(script.execute().unwrap(), expected());
    }
}

#[test]
fn a_process_that_dies_is_a_crash_with_the_end_of_its_standard_error() {
    let first = read_first();
    let script = format!("{first}; echo 'the stack\n overflowed' >&2; kill -SEGV $$");
    let reason = Script::start(&script, HOUR).crash();
    assert!(reason.contains("signal") && reason.ends_with(": the stack overflowed"), "{reason}");
    let script = format!("{first}; head -c 100000 /dev/zero | tr '\\0' x >&2; echo ' the end' >&2; exit 3");
    let reason = Script::start(&script, HOUR).crash();
    assert!(reason.contains('3') && reason.ends_with("x the end") && reason.len() < 700, "{reason}");
}

#[test]
fn a_shard_that_kills_a_kept_process_is_tried_once_in_a_new_one() {
    // The first process answers once, and dies of the next request; so does the second, at once.
    let (first, next) = (read_first(), read_next());
    let script = format!(
        "if [ -e request ]; then {first}; else {first}; cat answer; {next}; fi; echo x >> deaths; exit 1"
    );
    let script = Script::start(&script, HOUR);
    assert_eq!(script.execute().unwrap(), expected());
    script.crash();
    assert_eq!(fs::read_to_string(script.folder.path().join("deaths")).unwrap(), "x\nx\n");
}

#[test]
fn a_kept_process_that_was_killed_is_replaced() {
    let script = Script::start(&format!("{}; cat answer; exit 1", read_first()), HOUR);
    for _ in 0..3 {
        assert_eq!(script.execute().unwrap(), expected());
    }
}

#[test]
fn nonsense_is_a_crash() {
    let reason = Script::start(&format!("{}; exec yes", read_first()), HOUR).crash();
    assert!(reason.contains("malformed"), "{reason}");
}

#[test]
fn an_execution_without_end_is_killed_and_counts_as_a_crash() {
    let limit = Duration::from_millis(100);
    let script = Script::start("echo $$ > pid; exec sleep 1000", limit);
    assert_eq!(script.crash(), "the execution took longer than 100ms, and was stopped");
    assert_dead(&script);
}

#[test]
fn a_stopped_execution_kills_its_process() {
    /// Stops the execution once its process has written its number.
    struct StopWhenStarted<'a>(&'a Script);
    impl ExecutionControl for StopWhenStarted<'_> {
        fn advance(&self, _: u64) -> ControlFlow<()> {
            if self.0.has_file("pid") { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let script = Script::start("echo $$ > pid; exec sleep 1000", HOUR);
    let executed = script.backend.execute(&program(), &[SHARD], &StopWhenStarted(&script));
    assert_eq!(executed, Err(ExecutionError::Cancelled));
    assert_dead(&script);
}

/// Asserts that the process that wrote its number is gone.
#[track_caller]
fn assert_dead(script: &Script) {
    let pid = fs::read_to_string(script.folder.path().join("pid")).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn a_process_that_cannot_start_or_is_asked_to_end_is_no_crash() {
    let command = |program: &str| ChildCommand {
        program: program.into(),
        arguments: Vec::new(),
        inherited_variables: &[],
    };
    let reason = ChildPool::start(command("/missing/forge"), HOUR).unwrap_err().to_string();
    assert!(reason.starts_with("starting /missing/forge: "), "{reason}");
    assert!(ChildPool::start(command("/bin/true"), HOUR).is_err());
    for signal in ["TERM", "INT"] {
        let script = Script::start(&format!("{}; kill -{signal} $$; sleep 1000", read_first()), HOUR);
        let failure = script.execute().unwrap_err();
        assert!(matches!(failure, ExecutionError::Device(_)), "{failure:?}");
    }
}
