//! The protocol of NATS by hand: what a stranger with a credential can send, and what the server says to it. Every call
//! waits for the server's answer to a PING that follows, so that what it says is about what was sent.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;

/// A connection.
pub struct Wire {
    stream: BufReader<TcpStream>,
    user: String,
    /// Payloads that have come to this connection's subscriptions, headers first.
    pub received: Vec<String>,
}

impl Wire {
    /// Connects as a user; panics if the server does not accept that.
    pub fn connect(url: &str, user: &str, password: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut wire = Self { stream: BufReader::new(stream), user: user.to_owned(), received: Vec::new() };
        let options = json!({"user": user, "pass": password, "verbose": false, "headers": true});
        let errors = wire.send(&format!("CONNECT {options}"));
        assert!(errors.is_empty(), "{user}: {errors:?}");
        wire
    }

    /// Sends a line, or more, and answers the errors that come back.
    pub fn send(&mut self, line: &str) -> Vec<String> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.ping()
    }

    fn ping(&mut self) -> Vec<String> {
        self.stream.get_mut().write_all(b"PING\r\n").unwrap();
        self.until_pong()
    }

    /// Publishes.
    pub fn publish(&mut self, subject: &str, payload: &str) -> Vec<String> {
        self.send(&format!("PUB {subject} {}\r\n{payload}", payload.len()))
    }

    /// Publishes with a subject for the answer, and with headers (each with its line end).
    pub fn request(&mut self, subject: &str, reply: &str, headers: &str, payload: &str) -> Vec<String> {
        let headers = format!("NATS/1.0\r\n{headers}\r\n");
        let (length, total) = (headers.len(), headers.len() + payload.len());
        self.send(&format!("HPUB {subject} {reply} {length} {total}\r\n{headers}{payload}"))
    }

    /// Asks, and waits for the answer, headers first; needs a subscription to `_INBOX_<user>.mine.*`.
    pub fn ask(&mut self, subject: &str, payload: &str) -> String {
        let reply = format!("_INBOX_{}.mine.answer", self.user);
        assert_eq!(
            self.send(&format!("PUB {subject} {reply} {}\r\n{payload}", payload.len())),
            Vec::<String>::new()
        );
        self.next().trim_end().to_owned()
    }

    /// Waits for the next message to a subscription.
    pub fn next(&mut self) -> String {
        for _ in 0..100 {
            if !self.received.is_empty() {
                return self.received.remove(0);
            }
            assert_eq!(self.ping(), Vec::<String>::new());
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nothing came");
    }

    fn until_pong(&mut self) -> Vec<String> {
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
