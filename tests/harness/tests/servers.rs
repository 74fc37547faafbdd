//! Servers start, can be killed, suspended and restarted with their data, and end with their
//! handle.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::Duration,
};

use forge_harness::{NatsConfig, NatsServer, S3Server, tools};

fn connect(url: &str) -> std::io::Result<TcpStream> {
    let (_, address) = url.split_once("://").unwrap();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    Ok(stream)
}

fn get(url: &str, path: &str) -> std::io::Result<String> {
    let mut stream = connect(url)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response).map(|_| response)
}

#[test]
fn nats_server_restarts_with_its_settings() {
    let config = NatsConfig {
        monitoring: true,
        jetstream: "sync_interval: always".to_owned(),
        extra: "authorization { user: u, password: p }".to_owned(),
        ..NatsConfig::default()
    };
    let mut server = NatsServer::start(&config);
    let url = server.url();
    for end_server in [NatsServer::kill, NatsServer::stop] {
        let mut greeting = String::new();
        BufReader::new(connect(&url).unwrap()).read_line(&mut greeting).unwrap();
        assert!(greeting.contains("\"auth_required\":true"), "{greeting}");
        assert!(greeting.contains("\"jetstream\":true"), "{greeting}");
        let varz = get(&server.monitoring_url().unwrap(), "/varz").unwrap();
        assert!(varz.contains("\"sync_always\": true"), "{varz}");
        end_server(&mut server);
        assert!(connect(&url).is_err());
        server.restart();
        assert_eq!(server.url(), url);
    }
    drop(server);
    assert!(connect(&url).is_err());
}

#[test]
fn s3_server_restarts_and_can_be_paused() {
    // The server must outlive the thread that started it.
    let mut server = thread::spawn(S3Server::start).join().unwrap();
    let endpoint = server.endpoint();
    assert!(get(&endpoint, "/").unwrap().contains("403 Forbidden"));
    server.pause();
    assert!(get(&endpoint, "/").is_err());
    server.resume();
    assert!(get(&endpoint, "/").unwrap().contains("403 Forbidden"));
    server.kill();
    assert!(connect(&endpoint).is_err());
    server.restart();
    assert!(get(&endpoint, "/").unwrap().contains("403 Forbidden"));
    drop(server);
    assert!(connect(&endpoint).is_err());
}

#[test]
fn python_imports_the_requested_packages() {
    let python = tools::python(&[tools::NATS_PY, tools::BOTO3]);
    assert!(Command::new(python).args(["-c", "import nats, boto3"]).status().unwrap().success());
}
