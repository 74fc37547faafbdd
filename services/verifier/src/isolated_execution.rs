//! Execution of a shard in a child process, and what that process does. The parent writes the task
//! and the program to the child's standard input: the length of the task (32 bits, little-endian),
//! the task as JSON, and the program's bytes. The child writes the result's bytes to its standard
//! output. It has no environment, so it inherits no credential.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use forge_contract::{digest::Digest, program::Program, shard_result::ShardResult, task::ShardTask};
use forge_kernel::backend::{Backend, scalar::Scalar};
use forge_service::executor::ShardExecution;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    sync::Semaphore,
};

/// Bytes of the length that precedes the task.
const LENGTH_BYTES: usize = 4;
/// Upper bound of the part of the child's standard error that a reason quotes: its end.
const MAX_QUOTED_BYTES: usize = 512;

/// Executes shards in child processes of a command, a bounded number at once. The command must call
/// [`execute_in_child`]. Clones share the bound.
#[derive(Debug, Clone)]
pub struct IsolatedExecutor {
    command: PathBuf,
    arguments: Vec<OsString>,
    permits: Arc<Semaphore>,
}

/// Why a child process returned no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsolatedFailure {
    /// The process died or failed: the shard is at fault.
    #[error("{0}")]
    Crashed(String),
    /// The process could not be started, or was asked to end: a later attempt may succeed.
    #[error("{0}")]
    Unavailable(String),
}

impl IsolatedExecutor {
    /// Executes up to `max_processes` shards at once, at least one.
    pub fn new(
        command: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        max_processes: usize,
    ) -> Self {
        Self {
            command: command.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            permits: Arc::new(Semaphore::new(max_processes.max(1))),
        }
    }

    /// Executes a shard with the scalar reference. Dropping the future kills the process.
    ///
    /// # Errors
    /// [`IsolatedFailure`]; a result of more than `max_result_bytes` is a crash.
    pub async fn execute(
        &self,
        program: &Program,
        task: &ShardTask,
        max_result_bytes: usize,
    ) -> Result<ShardExecution, IsolatedFailure> {
        let unavailable = |error: io::Error| {
            IsolatedFailure::Unavailable(format!("running {}: {error}", self.command.display()))
        };
        let _permit = self.permits.acquire().await;
        let started = Instant::now();
        let mut child = self.start().map_err(unavailable)?;
        let (bytes, stderr) = communicate(&mut child, build_input(program, task), max_result_bytes).await;
        let status = child.wait().await.map_err(unavailable)?;
        if bytes.len() > max_result_bytes {
            let reason = format!("the result is larger than {max_result_bytes} bytes");
            return Err(IsolatedFailure::Crashed(reason));
        }
        check_status(status, &stderr)?;
        let malformed = |error| IsolatedFailure::Crashed(format!("the result is malformed: {error}"));
        let iterations = ShardResult::decode(&bytes).map_err(malformed)?.iterations;
        let wall = started.elapsed();
        // The child has one thread that executes the shard, so its CPU time is about its wall time.
        Ok(ShardExecution {
            hash: Digest::hash_parts(&[&bytes]),
            bytes: Bytes::from(bytes),
            iterations,
            wall,
            cpu: wall,
        })
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.command);
        command
            .args(&self.arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // A terminal sends its signals to the whole process group of the verifier.
        #[cfg(unix)]
        command.process_group(0);
        command.spawn()
    }
}

/// Writes the input of a child and reads its output: standard output up to a little more than
/// `max_output`, and the end of standard error. Failures show in the exit status.
async fn communicate(child: &mut Child, input: Vec<u8>, max_output: usize) -> (Vec<u8>, Vec<u8>) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&input).await;
        }
    };
    let read_output = async {
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(max_output as u64 + 1).read_to_end(&mut output).await;
        }
        output
    };
    let read_errors = async {
        match stderr {
            Some(stderr) => read_end(stderr).await,
            None => Vec::new(),
        }
    };
    let ((), output, errors) = tokio::join!(write, read_output, read_errors);
    (output, errors)
}

/// Reads to the end and returns the last [`MAX_QUOTED_BYTES`].
async fn read_end(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut end, mut chunk) = (Vec::new(), [0; MAX_QUOTED_BYTES]);
    while let Ok(count @ 1..) = reader.read(&mut chunk).await {
        end.extend_from_slice(&chunk[..count]);
        end.drain(..end.len().saturating_sub(MAX_QUOTED_BYTES));
    }
    end
}

fn check_status(status: ExitStatus, stderr: &[u8]) -> Result<(), IsolatedFailure> {
    if status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(stderr);
    let words: Vec<_> = words.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let quoted = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let reason = format!("the process that executed the shard ended with {status}: {quoted}");
    if is_stop_request(status) {
        return Err(IsolatedFailure::Unavailable(reason));
    }
    Err(IsolatedFailure::Crashed(reason))
}

/// Whether the process was ended by a signal with which operators and service managers stop
/// processes.
fn is_stop_request(status: ExitStatus) -> bool {
    #[cfg(unix)]
    {
        const SIGHUP: i32 = 1;
        const SIGINT: i32 = 2;
        const SIGTERM: i32 = 15;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        matches!(signal, Some(SIGHUP | SIGINT | SIGTERM))
    }
    #[cfg(not(unix))]
    {
        let _ = status;
        false
    }
}

fn build_input(program: &Program, task: &ShardTask) -> Vec<u8> {
    let json = serde_json::to_vec(task).expect("a task consists of strings and numbers");
    let length = u32::try_from(json.len()).expect("a task is short");
    [&length.to_le_bytes(), json.as_slice(), &program.encode()].concat()
}

/// What the child process does: reads a task and a program, executes the shard with the scalar
/// reference, and writes the result's bytes. A panic of the execution is not caught: it is the
/// crash that the parent reports.
///
/// # Errors
/// A sentence, if the input is malformed or a stream fails.
pub fn execute_in_child(mut input: impl Read, mut output: impl Write) -> Result<(), String> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| format!("reading the task: {error}"))?;
    let (task, program) = parse_input(&bytes)?;
    let results = Scalar.execute(&program, &[task.shard()], &()).map_err(|error| error.to_string())?;
    let result = results.first().ok_or("the execution returned no result")?;
    let written = output.write_all(&result.encode()).and_then(|()| output.flush());
    written.map_err(|error| format!("writing the result: {error}"))
}

fn parse_input(bytes: &[u8]) -> Result<(ShardTask, Program), String> {
    let too_short = "the input is too short";
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>().ok_or(too_short)?;
    let (json, program) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(too_short)?;
    let task: ShardTask = serde_json::from_slice(json).map_err(|error| format!("the task: {error}"))?;
    let program = Program::decode(program).map_err(|error| format!("the program: {error}"))?;
    program.validate().map_err(|rule| format!("the program: {rule}"))?;
    Ok((task, program))
}

#[cfg(test)]
mod tests;
