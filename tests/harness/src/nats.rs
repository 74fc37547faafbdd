//! A NATS server with JetStream on disk.

use std::{fs, io::Read, net::TcpStream, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{
    process::{Process, free_ports},
    tools,
};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a test may choose about its server.
#[derive(Debug, Clone, Default)]
pub struct NatsConfig {
    /// The clients' port; a free one if not given.
    pub port: Option<u16>,
    /// Answer HTTP on [`NatsServer::monitoring_url`].
    pub monitoring: bool,
    /// Text of the server's configuration, for its `jetstream` block: `sync_interval: always`.
    pub jetstream: String,
    /// Text of the server's configuration, for its top level: an `authorization` block, say.
    pub extra: String,
    /// A configuration file to start it with, in place of one made of the above; addresses are set all the same.
    pub file: Option<PathBuf>,
    /// Environment variables that the configuration refers to.
    pub environment: Vec<(String, String)>,
}

/// A running server. Killed when dropped, its data removed.
#[derive(Debug)]
pub struct NatsServer {
    process: Option<Process>,
    port: u16,
    monitoring: Option<u16>,
    config: PathBuf,
    environment: Vec<(String, String)>,
    directory: TempDir,
}

impl NatsServer {
    /// Starts a server and waits until it greets its clients.
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its log.
    pub fn start(config: &NatsConfig) -> Self {
        let directory = tempfile::Builder::new().prefix("forge-nats-").tempdir().expect("a directory");
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
        fs::write(&path, text).expect("a configuration file");
        let path = config.file.clone().unwrap_or(path);
        let environment = config.environment.clone();
        let mut server = Self { process: None, port, monitoring, config: path, environment, directory };
        server.restart();
        server
    }

    /// Where clients connect: `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where monitoring answers, if it was asked for: `http://127.0.0.1:<port>`.
    pub fn monitoring_url(&self) -> Option<String> {
        self.monitoring.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// Ends it at once with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it the way an operator would, with SIGTERM.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_LIMIT);
        }
    }

    /// Starts it on the same port with the same data. One that still runs is killed first.
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its log.
    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Command::new(tools::nats_server());
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-c"]).arg(&self.config);
        if let Some(port) = self.monitoring {
            command.args(["-m", &port.to_string()]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(command, &self.directory.path().join("nats.log"));
        let greets = || greeting(self.port).is_some_and(|greeting| greeting.starts_with(b"INFO "));
        if let Err(reason) = process.ready(START_LIMIT, greets) {
            panic!("nats-server on port {} did not start: {reason}", self.port);
        }
        self.process = Some(process);
    }
}

/// The first bytes that the server sends to a client.
fn greeting(port: u16) -> Option<[u8; 5]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
