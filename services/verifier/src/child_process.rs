//! One child process: started with its introduction, asked, and killed with this value. Threads
//! read and write its streams, so that its owner can stop waiting for it at any time.

#![expect(clippy::disallowed_methods, reason = "a child process takes real time, which is not tokio's")]

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use forge_contract::program::Program;
use forge_kernel::backend::ExecutionControl;
use parking_lot::Mutex;

use crate::child_protocol::{ExecutionReply, Introduction, read_required_frame};

/// Upper bound of the part of the child's standard error that a reason quotes: its end.
const MAX_QUOTED_BYTES: usize = 512;
/// Interval at which it is checked whether to stop waiting for a reply.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a child may take to introduce itself: it may compile shaders and test a device.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long a process may take to end after it closed its output.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// How to start a child process, which must call [`execute_in_child`](crate::execute_in_child).
#[derive(Debug, Clone)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables of this process that it inherits, by prefix of their names. It must inherit no
    /// credential.
    pub inherited_variables: &'static [&'static str],
}

/// Why a child process gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChildFailure {
    /// The process died, took too long, or its answer was malformed.
    #[error("{0}")]
    Crashed(String),
    /// The process could not be started, or was asked to end: a later attempt may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The caller stopped the execution.
    #[error("the execution was stopped")]
    Stopped,
}

/// An answer of a child: its reply, and the encoded results.
type Answer = (ExecutionReply, Vec<Vec<u8>>);

/// A running child process.
#[derive(Debug)]
pub struct ChildProcess {
    child: Child,
    requests: Sender<Vec<u8>>,
    introduction: Receiver<io::Result<Introduction>>,
    answers: Receiver<io::Result<Answer>>,
    /// The end of its standard error.
    errors: Arc<Mutex<Vec<u8>>>,
    /// The program that it knows.
    pub program: Option<Program>,
    /// Whether it has answered before.
    pub has_answered: bool,
}

impl ChildProcess {
    /// Starts a process, and waits for its introduction.
    ///
    /// # Errors
    /// [`ChildFailure::Unavailable`]: no shard is at fault.
    pub fn start(command: &ChildCommand) -> Result<(Self, Introduction), ChildFailure> {
        let unavailable = |reason: String| {
            ChildFailure::Unavailable(format!("starting {}: {reason}", command.program.display()))
        };
        let mut process = Self::spawn(command).map_err(|error| unavailable(error.to_string()))?;
        match process.introduction.recv_timeout(START_PATIENCE) {
            Ok(Ok(introduction)) => Ok((process, introduction)),
            Ok(Err(_)) => Err(unavailable(process.death().to_string())),
            Err(_) => Err(unavailable(format!("no answer within {START_PATIENCE:?}"))),
        }
    }

    fn spawn(command: &ChildCommand) -> io::Result<Self> {
        let inherited = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            command.inherited_variables.iter().any(|prefix| name.starts_with(prefix))
        });
        let mut spawned = Command::new(&command.program);
        spawned
            .args(&command.arguments)
            .env_clear()
            .envs(inherited)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A terminal sends its signals to the whole process group of the verifier.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut spawned, 0);
        let mut child = spawned.spawn()?;
        let ((requests, received), (introduce, introduction), (answer, answers)) =
            (channel(), channel(), channel());
        if let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) {
            thread::spawn(move || {
                let answered = converse(stdin, stdout, &received, &introduce, &answer);
                if let Err(error) = answered {
                    let _ = answer.send(Err(error));
                }
            });
        }
        let errors = Arc::<Mutex<Vec<u8>>>::default();
        if let Some(stderr) = child.stderr.take() {
            let errors = Arc::clone(&errors);
            thread::spawn(move || keep_end(stderr, &errors));
        }
        Ok(Self { child, requests, introduction, answers, errors, program: None, has_answered: false })
    }

    /// Sends a request, and waits for the answer, at most for `limit`. Unless an answer arrives,
    /// the process is of no further use.
    ///
    /// # Errors
    /// [`ChildFailure`].
    pub fn ask(
        &mut self,
        request: Vec<u8>,
        control: &dyn ExecutionControl,
        limit: Duration,
    ) -> Result<Answer, ChildFailure> {
        let asked = Instant::now();
        // If the thread is gone, so is the other end of `answers`.
        let _ = self.requests.send(request);
        loop {
            match self.answers.recv_timeout(STOP_POLL_INTERVAL) {
                Ok(Ok(answer)) => {
                    self.has_answered = true;
                    return Ok(answer);
                }
                Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Err(ChildFailure::Crashed(format!("the answer is malformed: {error}")));
                }
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(self.death()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if control.advance(0).is_break() {
                return Err(ChildFailure::Stopped);
            }
            if asked.elapsed() > limit {
                let reason = format!("the execution took longer than {limit:?}, and was stopped");
                return Err(ChildFailure::Crashed(reason));
            }
        }
    }

    /// Why the process is gone, whose output has ended.
    fn death(&mut self) -> ChildFailure {
        let ended = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if ended.elapsed() < EXIT_PATIENCE => thread::sleep(Duration::from_millis(1)),
                Ok(None) => return ChildFailure::Crashed("the process closed its output".to_owned()),
                Err(error) => return ChildFailure::Unavailable(error.to_string()),
            }
        };
        let reason = format!("the process ended with {status}: {}", self.quoted_errors());
        if is_stop_request(status) {
            return ChildFailure::Unavailable(reason);
        }
        ChildFailure::Crashed(reason)
    }

    /// The end of its standard error on one line.
    fn quoted_errors(&self) -> String {
        // The thread that reads it may be a moment behind.
        thread::sleep(STOP_POLL_INTERVAL);
        let errors = self.errors.lock();
        let text = String::from_utf8_lossy(&errors);
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the introduction, then writes each request and reads its answer, until either end closes.
fn converse(
    mut stdin: ChildStdin,
    stdout: ChildStdout,
    requests: &Receiver<Vec<u8>>,
    introduce: &Sender<io::Result<Introduction>>,
    answer: &Sender<io::Result<Answer>>,
) -> io::Result<()> {
    let mut stdout = io::BufReader::new(stdout);
    let introduction = read_required_frame(&mut stdout).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    let is_introduced = introduction.is_ok();
    if introduce.send(introduction).is_err() || !is_introduced {
        return Ok(());
    }
    while let Ok(request) = requests.recv() {
        // A process that dies while it is written to shows it at its output.
        let _ = stdin.write_all(&request).and_then(|()| stdin.flush());
        let reply: ExecutionReply = serde_json::from_slice(&read_required_frame(&mut stdout)?)?;
        let count = if let ExecutionReply::Results(count) = reply { count } else { 0 };
        let results = (0..count).map(|_| read_required_frame(&mut stdout)).collect::<io::Result<_>>()?;
        if answer.send(Ok((reply, results))).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads to the end and keeps the last [`MAX_QUOTED_BYTES`].
fn keep_end(mut stderr: ChildStderr, end: &Mutex<Vec<u8>>) {
    let mut chunk = [0; MAX_QUOTED_BYTES];
    while let Ok(count @ 1..) = stderr.read(&mut chunk) {
        let mut end = end.lock();
        end.extend_from_slice(&chunk[..count]);
        let excess = end.len().saturating_sub(MAX_QUOTED_BYTES);
        end.drain(..excess);
    }
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
