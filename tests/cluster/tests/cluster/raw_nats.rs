//! The NATS protocol without a client library: what the holder of a credential can send, and which
//! errors the server returns. Every call sends a PING and waits for its PONG, so that the errors it
//! returns are those of the call.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;

/// A connection of one user.
pub struct RawNatsConnection {
    stream: BufReader<TcpStream>,
    user: String,
    /// Messages received by this connection's subscriptions: headers followed by the payload.
    pub received: Vec<String>,
}

impl RawNatsConnection {
    /// Connects as a user.
    ///
    /// # Panics
    /// If the server rejects the credential.
    pub fn connect(url: &str, user: &str, password: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut connection =
            Self { stream: BufReader::new(stream), user: user.to_owned(), received: Vec::new() };
        let options = json!({"user": user, "pass": password, "verbose": false, "headers": true});
        let errors = connection.send(&format!("CONNECT {options}"));
        assert!(errors.is_empty(), "{user}: {errors:?}");
        connection
    }

    /// Sends one or more protocol lines and returns the server's errors.
    pub fn send(&mut self, line: &str) -> Vec<String> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.ping()
    }

    fn ping(&mut self) -> Vec<String> {
        self.stream.get_mut().write_all(b"PING\r\n").unwrap();
        self.read_until_pong()
    }

    /// Publishes a message and returns the server's errors.
    pub fn publish(&mut self, subject: &str, payload: &str) -> Vec<String> {
        self.send(&format!("PUB {subject} {}\r\n{payload}", payload.len()))
    }

    /// Publishes a message with a reply subject and headers (each ending in CR LF), and returns the
    /// server's errors.
    pub fn request(&mut self, subject: &str, reply: &str, headers: &str, payload: &str) -> Vec<String> {
        let headers = format!("NATS/1.0\r\n{headers}\r\n");
        let (length, total) = (headers.len(), headers.len() + payload.len());
        self.send(&format!("HPUB {subject} {reply} {length} {total}\r\n{headers}{payload}"))
    }

    /// Sends a request and returns the reply, headers first. Needs a subscription to
    /// `_INBOX_<user>.mine.*`.
    pub fn request_reply(&mut self, subject: &str, payload: &str) -> String {
        let reply = format!("_INBOX_{}.mine.reply", self.user);
        assert_eq!(
            self.send(&format!("PUB {subject} {reply} {}\r\n{payload}", payload.len())),
            Vec::<String>::new()
        );
        self.next().trim_end().to_owned()
    }

    /// Waits up to two seconds for the next message of a subscription.
    pub fn next(&mut self) -> String {
        for _ in 0..100 {
            if !self.received.is_empty() {
                return self.received.remove(0);
            }
            assert_eq!(self.ping(), Vec::<String>::new());
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no message arrived");
    }

    fn read_until_pong(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        loop {
            let mut line = String::new();
            let count = self.stream.read_line(&mut line).unwrap();
            assert!(count > 0, "the server closed the connection: {errors:?}");
            let words: Vec<_> = line.split_whitespace().collect();
            match words[0] {
                "PONG" => return errors,
                "-ERR" => errors.push(line.trim().to_owned()),
                "MSG" | "HMSG" => {
                    let mut payload = vec![0; words.last().unwrap().parse::<usize>().unwrap() + 2];
                    self.stream.read_exact(&mut payload).unwrap();
                    self.received.push(String::from_utf8_lossy(&payload).into_owned());
                }
                "PING" => self.stream.get_mut().write_all(b"PONG\r\n").unwrap(),
                _ => {}
            }
        }
    }
}
