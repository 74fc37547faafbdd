//! The console in front of a cluster: what its pages show, what it sends, and what it refuses.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use forge_contract::digest::Digest;
use serde_json::{Value, json};

use crate::{
    permissions::operators::start_cluster_with_operators,
    support::{Cluster, WAIT_LIMIT, insurance_envelope, with_field},
};

/// A title that a page must show as text.
const TITLE: &str = "<script>alert(1)</script> Tower & Söhne";
const ESCAPED_TITLE: &str = "&lt;script&gt;alert(1)&lt;/script&gt; Tower &amp; Söhne";

/// A running console.
struct Console {
    port: u16,
}

/// An answer.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header; names in an answer are in lower case.
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

impl Console {
    /// Starts `forge console` with the environment of the cluster.
    fn start(cluster: &mut Cluster, options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        cluster.spawn("console", &[&["console", "--listen", &listen], options].concat());
        let console = Self { port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < WAIT_LIMIT && cluster.is_running("console"), "{}", cluster.logs());
            thread::sleep(Duration::from_millis(20));
        }
        console
    }

    fn send(&self, method: &str, path: &str, host: &str) -> Answer {
        self.try_send(method, path, host).expect("an answer has a head")
    }

    /// `None` if the connection ends before the head of the answer.
    fn try_send(&self, method: &str, path: &str, host: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        // A connection that the server breaks off ends with an error on some systems.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answer { status, head, body: bytes[end + 4..].to_vec() })
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "localhost")
    }

    /// The text of a page that exists.
    #[track_caller]
    fn page(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }

    /// Reads a page until it contains a text.
    #[track_caller]
    fn wait_for(&self, cluster: &Cluster, path: &str, text: &str) -> String {
        let started = Instant::now();
        loop {
            let page = self.page(path);
            if page.contains(text) {
                return page;
            }
            assert!(started.elapsed() < WAIT_LIMIT, "{text:?} is not in {page}\n{}", cluster.logs());
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[track_caller]
fn assert_contains(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part:?} is not in: {page}");
    }
}

/// A job with a title that keeps every document, and of which all shards are verified.
fn titled_envelope(job: &str) -> Value {
    let envelope = with_field(insurance_envelope(job, 6), "/about/title", json!(TITLE));
    let include = json!([
        "result_json",
        "executions_json",
        "metrics_json",
        "verification_json",
        "ept_csv",
        "report_html"
    ]);
    let envelope = with_field(envelope, "/artifacts/include", include);
    with_field(envelope, "/policy/verify", json!("full"))
}

/// The path of an artifact in the cluster's directory.
fn artifact_file(cluster: &Cluster, artifact: &Value) -> PathBuf {
    let key = format!(
        "artifacts/sha256/{}/{}",
        artifact["sha256"].as_str().unwrap(),
        artifact["name"].as_str().unwrap()
    );
    PathBuf::from(cluster.store()).join(key)
}

#[test]
fn pages_show_jobs_agents_and_artifacts_and_escape_foreign_text() {
    let mut cluster = start_cluster_with_operators();
    let envelope = titled_envelope("tower-1");
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    assert_eq!(record["title"], TITLE);
    crate::permissions::use_role(&mut cluster, "console");
    let console = Console::start(&mut cluster, &[]);

    let jobs = console.page("/");
    assert_contains(
        &jobs,
        &[ESCAPED_TITLE, "tower-1", "/jobs/tower-1", "state completed", "100%", "insurance.v1"],
    );
    assert!(!jobs.contains("<script>alert"), "{jobs}");
    for (query, is_found) in [
        ("?q=TOWER+%26", true),
        ("?q=tower-1&state=completed", true),
        ("?q=absent", false),
        ("?state=failed", false),
        ("?namespace=jobs", true),
    ] {
        assert_eq!(console.page(&format!("/{query}")).contains("/jobs/tower-1"), is_found, "{query}");
    }
    assert_eq!(console.get("/?namespace=forge_secrets").status, 400);
    assert_eq!(console.get("/?state=open").status, 400);

    let mut aggregator = crate::permissions::connect_as(&cluster, "aggregator");
    let damaged = "$KV.forge_agents.quarantined-pools.damaged";
    assert_eq!(aggregator.publish(damaged, "{}"), Vec::<String>::new());
    let agents = console.wait_for(&cluster, "/agents", "quarantined-pools.damaged");
    assert_contains(&agents, &["unreadable: missing field"]);

    let job = console.page("/jobs/tower-1");
    let hash = record["result"].as_str().unwrap();
    assert_contains(
        &job,
        &[
            ESCAPED_TITLE,
            "99.5% quantile",
            "<svg class=\"chart\"",
            "AEP",
            "OEP",
            "Work by agent",
            "Verification",
        ],
    );
    assert_contains(
        &job,
        &[hash, "P(one wrong shard ships)", "Executed again", "Signed by", "claim_severity_mu"],
    );
    assert!(!job.contains("<script>alert") && !job.contains("data-refresh-seconds"), "{job}");
    assert_contains(&console.page("/store"), &["/jobs/tower-1", hash]);
    assert_contains(
        &console.page("/agents"),
        &["worker", "verifier", "aggregator", "state live", "pool default"],
    );

    let manifest = fs::read(PathBuf::from(cluster.store()).join("jobs/tower-1/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let artifacts = manifest["artifacts"].as_array().unwrap();
    assert!(artifacts.len() >= 7, "{artifacts:?}");
    for artifact in artifacts {
        let name = artifact["name"].as_str().unwrap();
        let answer = console.get(&format!("/jobs/tower-1/artifacts/{name}"));
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.body, fs::read(artifact_file(&cluster, artifact)).unwrap(), "{name}");
        assert_eq!(Digest::hash_parts(&[&answer.body]).to_hex(), artifact["sha256"].as_str().unwrap());
        assert!(answer.header("content-security-policy").unwrap().starts_with("sandbox;"), "{}", answer.head);
    }
}

#[test]
fn requests_for_other_hosts_paths_and_methods_are_refused() {
    let mut cluster = start_cluster_with_operators();
    let envelope = titled_envelope("tower-2");
    cluster.submit(&envelope);
    cluster.assert_completes(&envelope);
    crate::permissions::use_role(&mut cluster, "console");
    let console = Console::start(&mut cluster, &["--host", "console.example"]);
    for host in ["localhost", "127.0.0.1:8225", "[::1]", "console.example:443"] {
        assert_eq!(console.send("GET", "/jobs/tower-2", host).status, 200, "{host}");
    }
    for host in ["evil.example", "console.example.evil.example", "10.0.0.1"] {
        let answer = console.send("GET", "/jobs/tower-2", host);
        assert_eq!(answer.status, 421, "{host}");
        assert!(!answer.text().contains("tower-2"), "{}", answer.text());
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        assert_eq!(console.send(method, "/jobs/tower-2", "localhost").status, 405, "{method}");
    }
    for path in [
        "/jobs/absent",
        "/jobs/tower-2/artifacts/absent.json",
        "/jobs/tower-2/artifacts/manifest.json",
        "/jobs/tower-2/artifacts/..%2f..%2f..%2fsecret",
        "/jobs/tower-2/artifacts/../../../secret",
        "/jobs/..%2fx",
        "/assets/..%2fconsole.css",
        "/metrics",
    ] {
        assert_eq!(console.get(path).status, 404, "{path}");
    }
    let page = console.get("/jobs/tower-2");
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("access-control-allow-origin"), None);
    // Without inline scripts and styles, which the policy forbids.
    assert!(!page.text().contains(" style=") && !page.text().contains("<style"), "{}", page.text());
    let head = console.send("HEAD", "/jobs/tower-2/artifacts/result.json", "localhost");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn artifacts_that_were_changed_do_not_arrive_whole() {
    let mut cluster = Cluster::start();
    let envelope = titled_envelope("changed");
    cluster.submit(&envelope);
    cluster.assert_completes(&envelope);
    let console = Console::start(&mut cluster, &[]);
    let record = cluster.record("changed");
    let artifacts = record["artifacts"].as_array().unwrap();
    let report = artifacts.iter().find(|artifact| artifact["name"] == "report.html").unwrap();
    let file = artifact_file(&cluster, report);
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, &bytes).unwrap();
    // The connection may be broken off before the head of so short an answer is sent.
    if let Some(answer) = console.try_send("GET", "/jobs/changed/artifacts/report.html", "localhost") {
        assert!(answer.body.len() < bytes.len(), "{} of {} bytes arrived", answer.body.len(), bytes.len());
        assert_eq!(answer.header("content-length"), Some(bytes.len().to_string().as_str()));
    }
    bytes.truncate(50);
    fs::write(&file, &bytes).unwrap();
    assert_eq!(console.get("/jobs/changed/artifacts/report.html").status, 502);
}

#[test]
fn a_job_unknown_to_the_cluster_is_not_missing_while_the_store_cannot_be_read() {
    let mut cluster = Cluster::start();
    cluster.complete_warm_up();
    let file = cluster.directory.path().join("no-store");
    fs::write(&file, "").unwrap();
    let console = Console::start(&mut cluster, &["--store", file.to_str().unwrap()]);
    for path in ["/jobs/absent", "/live/jobs/absent"] {
        let answer = console.get(path);
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.text().contains("it is not a directory"), "{}", answer.text());
    }
}

#[test]
fn progress_is_live_and_says_why_a_job_waits() {
    let mut cluster = Cluster::start_without("worker");
    let envelope = titled_envelope("live");
    cluster.submit(&envelope);
    let console = Console::start(&mut cluster, &[]);
    let page = console.wait_for(&cluster, "/jobs/live", "Waiting: ");
    assert_contains(
        &page,
        &["data-refresh-seconds=\"1\"", "data-source=\"/live/jobs/live\"", "state waiting"],
    );
    assert!(!page.contains("data-ended"), "{page}");
    assert_contains(&console.page("/?state=waiting"), &["/jobs/live"]);
    cluster.spawn("worker", &["worker"]);
    let part = console.wait_for(&cluster, "/live/jobs/live", "data-ended");
    assert_contains(&part, &["state completed", "100%"]);
    assert!(!part.contains("<html"), "{part}");
    assert!(!console.page("/jobs/live").contains("data-refresh-seconds"));
}

#[test]
fn an_address_beyond_loopback_needs_the_name_of_the_host() {
    let cluster = Cluster::empty(crate::support::TestStore::Directory);
    let output = cluster.run(&["console", "--listen", "0.0.0.0:0"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--listen") && error.contains("--host"), "{error}");
}
