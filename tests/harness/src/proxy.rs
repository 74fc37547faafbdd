//! A TCP proxy between a client and a server, as a network that a test can disturb.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Bytes that are forwarded at once.
const CHUNK: usize = 16 << 10;

/// A proxy on a free loopback port. It forwards every connection to one port, until a test
/// disturbs it. Dropping it closes all connections.
#[derive(Debug)]
pub struct FaultyProxy {
    port: u16,
    network: Arc<Network>,
}

#[derive(Debug, Default)]
struct Network {
    state: Mutex<NetworkState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct NetworkState {
    delay: Duration,
    partitioned: bool,
    /// Number of further connections that are forwarded, while others wait; `None` is no limit.
    admissions_left: Option<usize>,
    halves_left: usize,
    closed: bool,
    /// Both ends of every connection that was opened since the last cut.
    streams: Vec<TcpStream>,
}

impl FaultyProxy {
    /// Starts a proxy in front of a port of this machine.
    ///
    /// # Panics
    /// If no port is free.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let network = Arc::new(Network::default());
        let accepting = Arc::clone(&network);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.lock().closed {
                    return;
                }
                let network = Arc::clone(&accepting);
                thread::spawn(move || network.forward(client, target));
            }
        });
        Self { port, network }
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Delays everything by this time, in both directions.
    pub fn set_delay(&self, delay: Duration) {
        self.network.lock().delay = delay;
    }

    /// Lets nothing through until [`Self::heal`], and closes no connection: like a network whose
    /// packets are lost.
    pub fn partition(&self) {
        self.network.lock().partitioned = true;
    }

    /// Ends a partition. What was sent meanwhile arrives.
    pub fn heal(&self) {
        self.network.lock().partitioned = false;
        self.network.changed.notify_all();
    }

    /// Closes all connections. New ones can be opened at once.
    pub fn cut(&self) {
        for stream in self.network.lock().streams.drain(..) {
            // An error means that the connection has ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Forwards this number of further connections, and lets others wait until [`Self::admit_all`].
    pub fn admit_only(&self, connections: usize) {
        self.network.lock().admissions_left = Some(connections);
    }

    /// Forwards all connections again.
    pub fn admit_all(&self) {
        self.network.lock().admissions_left = None;
        self.network.changed.notify_all();
    }

    /// Forwards half of each of the next chunks of bytes, and then closes their connections.
    pub fn cut_in_half(&self, chunks: usize) {
        self.network.lock().halves_left = chunks;
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.network.lock().closed = true;
        self.heal();
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Network {
    fn lock(&self) -> MutexGuard<'_, NetworkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a new connection may be forwarded.
    fn wait_for_admission(&self) {
        let waiting = |state: &mut NetworkState| {
            (state.partitioned || state.admissions_left == Some(0)) && !state.closed
        };
        let state = self.changed.wait_while(self.lock(), waiting);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.admissions_left = state.admissions_left.map(|left| left.saturating_sub(1));
    }

    fn wait_while_partitioned(&self) -> MutexGuard<'_, NetworkState> {
        let waiting = |state: &mut NetworkState| state.partitioned && !state.closed;
        self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner)
    }

    /// Forwards one connection in both directions.
    fn forward(self: Arc<Self>, client: TcpStream, target: u16) {
        self.wait_for_admission();
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
        let clone = |stream: &TcpStream| stream.try_clone().expect("duplicating a socket's handle");
        let ends = [clone(&client), clone(&server)];
        self.lock().streams.extend(ends);
        let (answers_from, answers_to) = (clone(&server), clone(&client));
        let answering = Arc::clone(&self);
        thread::spawn(move || answering.forward_bytes(answers_from, answers_to));
        self.forward_bytes(client, server);
    }

    /// Forwards what one end sends. When either end closes, both are closed.
    fn forward_bytes(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if self.deliver(&bytes[..length], &mut to).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn deliver(&self, bytes: &[u8], to: &mut TcpStream) -> io::Result<()> {
        let delay = self.lock().delay;
        thread::sleep(delay);
        let mut state = self.wait_while_partitioned();
        let halved = state.halves_left > 0;
        state.halves_left = state.halves_left.saturating_sub(1);
        drop(state);
        if halved {
            to.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        to.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    /// A server that sends back what it receives.
    fn echo_server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        port
    }

    fn connect(proxy: &FaultyProxy) -> TcpStream {
        TcpStream::connect(("127.0.0.1", proxy.port())).unwrap()
    }

    fn echo(stream: &mut TcpStream, sent: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(sent)?;
        let mut received = vec![0; sent.len()];
        stream.read_exact(&mut received)?;
        Ok(received)
    }

    #[test]
    fn bytes_arrive_and_a_delay_holds_in_both_directions() {
        let proxy = FaultyProxy::start(echo_server());
        let mut stream = connect(&proxy);
        assert_eq!(echo(&mut stream, b"hello").unwrap(), b"hello");
        proxy.set_delay(Duration::from_millis(20));
        let started = Instant::now();
        assert_eq!(echo(&mut stream, b"slow").unwrap(), b"slow");
        assert!(started.elapsed() >= Duration::from_millis(40));
    }

    #[test]
    fn connections_beyond_the_admitted_number_wait() {
        let proxy = FaultyProxy::start(echo_server());
        proxy.admit_only(1);
        assert_eq!(echo(&mut connect(&proxy), b"admitted").unwrap(), b"admitted");
        let mut waiting = connect(&proxy);
        waiting.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(echo(&mut waiting, b"waiting").is_err());
        waiting.set_read_timeout(None).unwrap();
        proxy.admit_all();
        let mut received = [0; 7];
        waiting.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"waiting");
    }

    #[test]
    fn a_partition_holds_bytes_back_until_it_heals() {
        let proxy = FaultyProxy::start(echo_server());
        let mut stream = connect(&proxy);
        assert_eq!(echo(&mut stream, b"before").unwrap(), b"before");
        proxy.partition();
        let (sender, answer) = mpsc::channel();
        thread::spawn(move || sender.send(echo(&mut stream, b"during").unwrap()));
        assert_eq!(answer.recv_timeout(Duration::from_millis(100)), Err(mpsc::RecvTimeoutError::Timeout));
        proxy.heal();
        assert_eq!(answer.recv().unwrap(), b"during");
    }

    #[test]
    fn connections_that_are_cut_end_and_new_ones_work() {
        let proxy = FaultyProxy::start(echo_server());
        let mut stream = connect(&proxy);
        echo(&mut stream, b"before").unwrap();
        proxy.cut();
        assert!(echo(&mut stream, b"after").is_err());
        let mut stream = connect(&proxy);
        proxy.cut_in_half(1);
        stream.write_all(b"1234").unwrap();
        let mut received = Vec::new();
        // The end of the connection may be a reset.
        let _ = stream.read_to_end(&mut received);
        assert!(received.len() <= 2, "{received:?}");
        assert_eq!(echo(&mut connect(&proxy), b"again").unwrap(), b"again");
    }
}
