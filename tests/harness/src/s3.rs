//! An S3 store: SeaweedFS.
//!
//! Observed behaviour of version 4.48:
//!
//! - `weed mini` accepts requests after 1 to 1.5 s. `weed server -s3` takes 3.4 s, and exits only
//!   15 s after SIGTERM.
//! - Of racing writes with `If-None-Match: *` one succeeds and the others get 412.
//! - A wrong `x-amz-checksum-sha256` is refused with 400 BadDigest, and nothing is stored.
//! - Under Object Lock, deleting a retained version gets 403 AccessDenied.
//! - An upload to a missing bucket creates it unless that is disabled, as it is here. AWS answers
//!   404.
//! - Keys are listed, and `start-after` is applied, in the order of a directory tree: `p/x` before
//!   `p-1/x`. That is not S3's order.
//! - The first write of a fresh store may take seconds.
//! - Filer and S3 may answer before the volume server has registered with the master. Reads of
//!   stored objects get 500 InternalError until it has, and the master's `/dir/assign` gets 406.
//! - `mini` reports usage statistics unless disabled.
//! - The admin component expects its own gRPC port 10000 above its HTTP port, whatever its flag
//!   says.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    process::{ServerProcess, free_ports},
    tls::Certificates,
    tools,
};

const START_TIMEOUT: Duration = Duration::from_secs(40);
/// Starting is retried, because another process may take a port before the server binds it.
const START_ATTEMPTS: usize = 3;
const ACCESS_KEY: &str = "FORGETESTACCESSKEY";
const SECRET_KEY: &str = "forge-test-secret-key";

/// A running store. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub struct S3Server {
    process: Option<ServerProcess>,
    ports: S3Ports,
    directory: TempDir,
    tls: Option<Certificates>,
}

#[derive(Debug, Clone, Copy)]
struct S3Ports {
    /// HTTP ports of master, volume server, filer and S3.
    http: [u16; 4],
    /// gRPC ports of the same components.
    grpc: [u16; 4],
    /// HTTP port of the admin component. Its gRPC port is [`Self::ADMIN_GRPC_OFFSET`] above.
    admin: u16,
    /// S3 with TLS, used if the server has a certificate.
    https: u16,
}

impl S3Ports {
    const ADMIN_GRPC_OFFSET: u16 = 10_000;

    fn free() -> Self {
        loop {
            let [a, b, c, d, e, f, g, h, admin, https] = free_ports();
            let (http, grpc) = ([a, b, c, d], [e, f, g, h]);
            let Some(admin_grpc) = admin.checked_add(Self::ADMIN_GRPC_OFFSET) else { continue };
            if http.iter().chain(&grpc).all(|port| *port != admin_grpc) {
                return Self { http, grpc, admin, https };
            }
        }
    }
}

impl S3Server {
    /// The bucket that exists from the start.
    pub const BUCKET: &str = "forge";

    /// Starts a store and waits until [`S3Server::BUCKET`] exists.
    ///
    /// # Panics
    /// If the server does not start; the message contains the end of its log.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts a store that also serves TLS, with a certificate of its own authority.
    ///
    /// # Panics
    /// If the server does not start; the message contains the end of its log.
    pub fn start_with_tls() -> Self {
        Self::start_with(Some(Certificates::new()))
    }

    fn start_with(mut tls: Option<Certificates>) -> Self {
        let mut failures = String::new();
        for _ in 0..START_ATTEMPTS {
            let directory =
                tempfile::Builder::new().prefix("forge-s3-").tempdir().expect("a temporary directory");
            let identities = format!(
                r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin"]}}]}}"#
            );
            fs::write(directory.path().join("identities.json"), identities)
                .expect("writing the configuration file");
            let mut server = Self { process: None, ports: S3Ports::free(), directory, tls };
            match server.launch() {
                Ok(()) => return server,
                Err(reason) => failures += &format!("{reason}\n"),
            }
            tls = server.tls.take();
        }
        panic!("weed did not start in {START_ATTEMPTS} attempts: {failures}");
    }

    /// The store shared by the tests that run concurrently in this process. It ends when the last
    /// of them drops it.
    ///
    /// # Panics
    /// If the server does not start; the message contains the end of its log.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<S3Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Endpoint URL: `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Port of the endpoint.
    pub fn port(&self) -> u16 {
        self.ports.http[3]
    }

    /// Endpoint URL with TLS, `https://localhost:<port>`, and the path of the authority's
    /// certificate. None without TLS.
    pub fn tls_endpoint(&self) -> Option<(String, PathBuf)> {
        let certificates = self.tls.as_ref()?;
        Some((format!("https://localhost:{}", self.ports.https), certificates.authority()))
    }

    /// Id of an access key with all permissions.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// Secret of that access key.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// Environment variables that point S3 clients at this store.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }

    /// Ends the store with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the store again with the same ports and data, after killing a running process.
    ///
    /// # Panics
    /// If the server does not start; the message contains the end of its log.
    pub fn restart(&mut self) {
        if let Err(reason) = self.launch() {
            panic!("weed did not start again: {reason}");
        }
    }

    /// Suspends the process: connections are accepted and never answered.
    pub fn pause(&mut self) {
        self.process.iter_mut().for_each(ServerProcess::freeze);
    }

    /// Continues after [`S3Server::pause`].
    pub fn resume(&mut self) {
        self.process.iter_mut().for_each(|process| process.signal(Signal::CONT));
    }

    fn launch(&mut self) -> Result<(), String> {
        self.process = None;
        let mut process = ServerProcess::start(self.command(), &self.directory.path().join("weed.log"));
        let [master, _, filer, s3] = self.ports.http;
        let bucket = format!("/buckets/{}/", Self::BUCKET);
        let assignment = format!("/dir/assign?collection={}", Self::BUCKET);
        // The filer, which needs no credentials, tells whether the bucket exists. S3 is ready when
        // it refuses a request without credentials. The master assigns a file id to the bucket's
        // collection once the volume server has registered its volumes.
        let is_ready = || {
            get_status(filer, &bucket) == Some(200)
                && get_status(s3, "/") == Some(403)
                && get_status(master, &assignment) == Some(200)
        };
        process.wait_until_ready(START_TIMEOUT, is_ready)?;
        self.process = Some(process);
        Ok(())
    }

    fn command(&self) -> Command {
        let directory = self.directory.path();
        let mut command = Command::new(tools::weed());
        command.current_dir(directory).arg("mini");
        let mut flag = |name: &str, value: String| {
            command.arg(format!("-{name}={value}"));
        };
        for (index, part) in ["master", "volume", "filer", "s3"].into_iter().enumerate() {
            flag(&format!("{part}.port"), self.ports.http[index].to_string());
            flag(&format!("{part}.port.grpc"), self.ports.grpc[index].to_string());
        }
        flag("admin.port", self.ports.admin.to_string());
        flag("admin.port.grpc", (self.ports.admin + S3Ports::ADMIN_GRPC_OFFSET).to_string());
        let path = |name: &str| directory.join(name).display().to_string();
        flag("dir", path(""));
        flag("s3.config", path("identities.json"));
        flag("s3.localSocket", path("s3.sock"));
        flag("filer.localSocket", path("filer.sock"));
        flag("bucket", Self::BUCKET.to_owned());
        for address in ["ip", "ip.bind"] {
            flag(address, "127.0.0.1".to_owned());
        }
        for off in ["webdav", "admin.ui", "s3.iam", "s3.autoCreateBucket", "master.telemetry"] {
            flag(off, "false".to_owned());
        }
        if let Some(certificates) = &self.tls {
            let (certificate, key) = certificates.server();
            flag("s3.port.https", self.ports.https.to_string());
            flag("s3.cert.file", certificate.display().to_string());
            flag("s3.key.file", key.display().to_string());
        }
        for unused in ["s3.port.iceberg", "s3.port.lance"] {
            flag(unused, "0".to_owned());
        }
        command
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.process = None;
        // weed leaves these sockets behind and has no flag for their location.
        let parts = ["master", "volume", "filer", "s3"].into_iter().zip(self.ports.grpc);
        for (part, port) in parts.chain([("admin", self.ports.admin + S3Ports::ADMIN_GRPC_OFFSET)]) {
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"));
        }
    }
}

/// Status of a GET request without credentials; None if there is no response.
fn get_status(port: u16, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).ok()?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line[9..]).ok()?.parse().ok()
}
