//! A server process that cannot outlive the tests. It is signalled by its process id, and its
//! output goes to a file.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    log: PathBuf,
}

impl ServerProcess {
    /// Starts a program and appends its output to the log file.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("opening the log file");
        let errors = output.try_clone().expect("duplicating the log file's handle");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let program = PathBuf::from(command.get_program());
        match spawn(command) {
            Ok(child) => Self { child, log: log.to_owned() },
            Err(error) => panic!("starting {}: {error}", program.display()),
        }
    }

    /// Waits until the server is ready. The error, if it exits or exceeds the timeout, contains the
    /// end of its log.
    pub fn wait_until_ready(
        &mut self,
        timeout: Duration,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<(), String> {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it exited with {status}\n{}", self.log_tail()));
            }
            if is_ready() {
                return Ok(());
            }
            if start.elapsed() > timeout {
                return Err(format!("it was not ready within {timeout:?}\n{}", self.log_tail()));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends SIGKILL and waits for the exit.
    pub fn kill(&mut self) {
        // An error means that the process has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM, and SIGKILL if the process has not exited within the timeout.
    pub fn stop(&mut self, timeout: Duration) {
        self.signal(Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < timeout {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// Suspends the process, if it runs. Returns when all its threads have stopped.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let events = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = waitid(WaitId::Pid(pid), events);
        }
    }

    /// Sends a signal, if the process runs.
    pub fn signal(&mut self, signal: Signal) {
        // The process has not been reaped, so its id cannot have been reused.
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), Pid::from_raw(self.child.id().cast_signed())) {
            let _ = kill_process(pid, signal);
        }
    }

    fn log_tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4096)..]).into_owned();
        format!("the end of {}:\n{text}", self.log.display())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Distinct loopback ports on which nothing listens.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound socket has an address").port())
}

/// A command to spawn, and where to send the outcome.
type SpawnRequest = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a child that the system kills when this process ends.
///
/// Linux sends the parent-death signal when the *thread* that started the child exits. A server
/// started on a test's thread would die with that test although others still use it, so that one
/// thread, which never exits, starts all of them.
fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<SpawnRequest>> = OnceLock::new();
    kill_with_parent(&mut command);
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<SpawnRequest>();
        thread::spawn(move || {
            for (mut command, outcome) in requests {
                let _ = outcome.send(command.spawn());
            }
        });
        sender
    });
    let (sender, outcome) = mpsc::channel();
    spawner.send((command, sender)).expect("the spawner thread never exits");
    outcome.recv().expect("the spawner thread answers every request")
}

#[cfg(target_os = "linux")]
fn kill_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let hook = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have exited before the signal was set.
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: between fork and exec the hook makes two system calls, and neither allocates nor
    // locks.
    unsafe { command.pre_exec(hook) };
}

#[cfg(not(target_os = "linux"))]
fn kill_with_parent(_: &mut Command) {}
