//! A NATS server with JetStream on disk.

use std::{
    fs,
    io::Read,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    process::{ServerProcess, free_ports},
    tools,
};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Configuration of a test's server.
#[derive(Debug, Clone, Default)]
pub struct NatsConfig {
    /// Port for clients; None chooses a free one.
    pub port: Option<u16>,
    /// Whether to serve the monitoring endpoints, at [`NatsServer::monitoring_url`].
    pub monitoring: bool,
    /// Configuration lines for the `jetstream` block, such as `sync_interval: always`.
    pub jetstream: String,
    /// Configuration lines for the top level, such as an `authorization` block.
    pub extra: String,
    /// A configuration file used instead of `jetstream` and `extra`. The addresses are still those
    /// of this server.
    pub file: Option<PathBuf>,
    /// Environment variables that the configuration file refers to.
    pub environment: Vec<(String, String)>,
}

/// A running server. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub struct NatsServer {
    process: Option<ServerProcess>,
    port: u16,
    monitoring: Option<u16>,
    config: PathBuf,
    environment: Vec<(String, String)>,
    directory: TempDir,
}

impl NatsServer {
    /// Starts a server and waits until it accepts clients.
    ///
    /// # Panics
    /// If the server does not start; the message contains the end of its log.
    pub fn start(config: &NatsConfig) -> Self {
        let directory =
            tempfile::Builder::new().prefix("forge-nats-").tempdir().expect("a temporary directory");
        let [port, monitoring] = free_ports();
        let port = config.port.unwrap_or(port);
        let monitoring = config.monitoring.then_some(monitoring);
        let mut text = format!("listen: \"127.0.0.1:{port}\"\n");
        if let Some(port) = monitoring {
            text += &format!("http: \"127.0.0.1:{port}\"\n");
        }
        let store = directory.path().join("store");
        text += &format!("jetstream {{\nstore_dir: \"{}\"\n{}\n}}\n", store.display(), config.jetstream);
        text += &config.extra;
        let path = directory.path().join("nats.conf");
        fs::write(&path, text).expect("writing the configuration file");
        let path = config.file.clone().unwrap_or(path);
        let environment = config.environment.clone();
        let mut server = Self { process: None, port, monitoring, config: path, environment, directory };
        server.restart();
        server
    }

    /// URL for clients: `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of the monitoring endpoints, `http://127.0.0.1:<port>`; None if not configured.
    pub fn monitoring_url(&self) -> Option<String> {
        self.monitoring.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// Ends the server with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends the server with SIGKILL, removes its data, and starts it with empty storage.
    ///
    /// # Panics
    /// If the server does not start; the message contains the end of its log.
    pub fn restart_empty(&mut self) {
        self.kill();
        let store = self.directory.path().join("store");
        fs::remove_dir_all(&store).expect("removing the data of the server");
        self.restart();
    }

    /// A copy of the server's data. The server must not be running.
    ///
    /// # Panics
    /// If it is running, or the data cannot be copied.
    pub fn copy_data(&self) -> TempDir {
        assert!(self.process.is_none(), "the data of a running server is incomplete");
        let copy = tempfile::Builder::new().prefix("forge-nats-copy-").tempdir().expect("a directory");
        copy_directory(&self.directory.path().join("store"), copy.path());
        copy
    }

    /// Ends the server with SIGKILL and starts it with data that was copied earlier, as after a
    /// power failure that took what was not synced.
    ///
    /// # Panics
    /// If the server does not start; the message contains the end of its log.
    pub fn restart_from(&mut self, copy: &TempDir) {
        self.kill();
        let store = self.directory.path().join("store");
        fs::remove_dir_all(&store).expect("removing the data of the server");
        copy_directory(copy.path(), &store);
        self.restart();
    }

    /// Ends the server with SIGTERM, as an operator would.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_TIMEOUT);
        }
    }

    /// Starts the server again with the same port and data, after killing a running process.
    ///
    /// # Panics
    /// If the server does not start; the message contains the end of its log.
    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Command::new(tools::nats_server());
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-c"]).arg(&self.config);
        if let Some(port) = self.monitoring {
            command.args(["-m", &port.to_string()]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = ServerProcess::start(command, &self.directory.path().join("nats.log"));
        let accepts_clients =
            || read_greeting(self.port).is_some_and(|greeting| greeting.starts_with(b"INFO "));
        if let Err(reason) = process.wait_until_ready(START_TIMEOUT, accepts_clients) {
            panic!("nats-server on port {} did not start: {reason}", self.port);
        }
        self.process = Some(process);
    }
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creating a directory");
    for entry in fs::read_dir(from).expect("reading a directory") {
        let entry = entry.expect("reading a directory");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("the type of a file").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copying a file");
        }
    }
}

/// The first bytes that the server sends to a client; None if it does not accept one.
fn read_greeting(port: u16) -> Option<[u8; 5]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
