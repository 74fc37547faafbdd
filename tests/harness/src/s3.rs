//! An S3 store: SeaweedFS.
//!
//! What version 4.48 was found to do. `weed mini` takes requests after 1 to 1.5 s, `weed server -s3` after 3.4 s and ends
//! only 15 s after SIGTERM. Of racing writes with `If-None-Match: *` one wins and the others get 412; a wrong
//! `x-amz-checksum-sha256` is refused with 400 BadDigest and nothing is stored. Under Object Lock a version that is
//! retained answers 403 AccessDenied to its deletion. An upload into a bucket that does not exist creates it, unless that
//! is switched off, as it is here: AWS answers 404. Keys
//! are listed in the order of a directory tree, `p/x` before `p-1/x`, which is not S3's order, and `start-after` goes by
//! it. The first write of a fresh store may take seconds. `mini` reports usage statistics unless told not to, and its admin part
//! expects its own gRPC port at 10000 above its HTTP port, whatever the flag for it says.

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
    process::{Process, free_ports},
    tls::Certificates,
    tools,
};

const START_LIMIT: Duration = Duration::from_secs(40);
/// Another process may take a port between its choice and its use.
const START_ATTEMPTS: usize = 3;
const ACCESS_KEY: &str = "FORGETESTACCESSKEY";
const SECRET_KEY: &str = "forge-test-secret-key";

/// A running store. Killed when dropped, its data removed.
#[derive(Debug)]
pub struct S3Server {
    process: Option<Process>,
    ports: Ports,
    directory: TempDir,
    tls: Option<Certificates>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    /// Master, volume server, filer and S3, for HTTP.
    http: [u16; 4],
    /// The same for gRPC.
    grpc: [u16; 4],
    /// The admin part's, for HTTP. gRPC is 10000 above.
    admin: u16,
    /// S3's with TLS, where it has a certificate.
    https: u16,
}

impl Ports {
    const ADMIN_OFFSET: u16 = 10_000;

    fn free() -> Self {
        loop {
            let [a, b, c, d, e, f, g, h, admin, https] = free_ports();
            let (http, grpc) = ([a, b, c, d], [e, f, g, h]);
            let Some(above) = admin.checked_add(Self::ADMIN_OFFSET) else { continue };
            if http.iter().chain(&grpc).all(|port| *port != above) {
                return Self { http, grpc, admin, https };
            }
        }
    }
}

impl S3Server {
    /// A bucket that is there from the start.
    pub const BUCKET: &str = "forge";

    /// Starts a store and waits until [`S3Server::BUCKET`] is there.
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its log.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts a store that answers by TLS, with a certificate of its own authority, too.
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its log.
    pub fn start_with_tls() -> Self {
        Self::start_with(Some(Certificates::new()))
    }

    fn start_with(mut tls: Option<Certificates>) -> Self {
        let mut failures = String::new();
        for _ in 0..START_ATTEMPTS {
            let directory = tempfile::Builder::new().prefix("forge-s3-").tempdir().expect("a directory");
            let identities = format!(
                r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin"]}}]}}"#
            );
            fs::write(directory.path().join("identities.json"), identities).expect("a configuration file");
            let mut server = Self { process: None, ports: Ports::free(), directory, tls };
            match server.launch() {
                Ok(()) => return server,
                Err(reason) => failures += &format!("{reason}\n"),
            }
            tls = server.tls.take();
        }
        panic!("weed did not start in {START_ATTEMPTS} attempts: {failures}");
    }

    /// The store that those tests of a process share that run at the same time. It ends with the last of them.
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its log.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<S3Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Where it answers: `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http[3])
    }

    /// Where it answers by TLS: `https://localhost:<port>`, and the certificate of the authority that vouches for it.
    pub fn tls_endpoint(&self) -> Option<(String, PathBuf)> {
        let certificates = self.tls.as_ref()?;
        Some((format!("https://localhost:{}", self.ports.https), certificates.authority()))
    }

    /// The id of an access key that may do everything.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// The secret of that key.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// The variables by which S3 clients find it.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }

    /// Ends it at once with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it on the same ports with the same data. One that still runs is killed first.
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its log.
    pub fn restart(&mut self) {
        if let Err(reason) = self.launch() {
            panic!("weed did not start again: {reason}");
        }
    }

    /// Freezes it: connections are accepted and nothing is answered.
    pub fn pause(&mut self) {
        self.process.iter_mut().for_each(Process::freeze);
    }

    /// Ends a [`S3Server::pause`].
    pub fn resume(&mut self) {
        self.process.iter_mut().for_each(|process| process.signal(Signal::CONT));
    }

    fn launch(&mut self) -> Result<(), String> {
        self.process = None;
        let mut process = Process::start(self.command(), &self.directory.path().join("weed.log"));
        let [_, _, filer, s3] = self.ports.http;
        let bucket = format!("/buckets/{}/", Self::BUCKET);
        // The filer, which asks for no credentials, knows when the bucket is there; 403 is how S3 refuses a stranger.
        let ready = || status(filer, &bucket) == Some(200) && status(s3, "/") == Some(403);
        process.ready(START_LIMIT, ready)?;
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
        flag("admin.port.grpc", (self.ports.admin + Ports::ADMIN_OFFSET).to_string());
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
        // weed has no flag for where these lie, and leaves them behind.
        let parts = ["master", "volume", "filer", "s3"].into_iter().zip(self.ports.grpc);
        for (part, port) in parts.chain([("admin", self.ports.admin + Ports::ADMIN_OFFSET)]) {
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"));
        }
    }
}

/// The status of a GET without credentials.
fn status(port: u16, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).ok()?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line[9..]).ok()?.parse().ok()
}
