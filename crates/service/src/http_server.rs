//! HTTP/1.1 over a bounded number of connections, each of which serves one request. Without TLS or
//! authentication. Does not know what is served.

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

/// Time limit for receiving the head of the request.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Upper bound on the head of a request, in bytes: the smallest that hyper allows.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// Time without a further part of its response after which a connection counts as stalled. Covers a
/// part of 256 KiB on a line of 100 kbit/s.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at a time. Each takes a file handle, which the connections to NATS and the store
    /// need too. One more closes the oldest that has not sent its request or has stalled, so that
    /// idle connections cannot keep others out. If there is none, the new connection is closed, so
    /// that no response is cut.
    pub connections: usize,
    /// Time limit of a connection, which serves one request.
    pub connection_timeout: Duration,
}

/// Binds an address. The unspecified IPv6 address means all addresses of both families, and those
/// of IPv4 on a system without IPv6.
///
/// # Errors
/// The address is taken, or is none of this machine.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let failure = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    let has_no_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_err();
    if address.ip() == Ipv6Addr::UNSPECIFIED && has_no_ipv6 {
        return TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
    }
    Err(failure)
}

/// Answers requests with `respond`, until it is dropped.
pub async fn serve<B, F>(
    listener: TcpListener,
    limits: HttpLimits,
    respond: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut tasks = JoinSet::new();
    let mut oldest_first: VecDeque<OpenConnection> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while tasks.try_join_next().is_some() {}
                oldest_first.retain(|connection| !connection.task.is_finished());
                if oldest_first.len() >= limits.connections {
                    let Some(closed) = position_to_close(&oldest_first) else {
                        tracing::debug!("every connection is sending a response; closing a new one");
                        continue;
                    };
                    oldest_first.remove(closed).inspect(|connection| connection.task.abort());
                }
                let progress = ResponseProgress::default();
                let connection = serve_connection(stream, respond.clone(), progress.clone());
                let task = tasks.spawn(async move {
                    timeout(limits.connection_timeout, connection).await.ok();
                });
                oldest_first.push_back(OpenConnection { task, progress });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection failed; continuing");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A connection that is served.
struct OpenConnection {
    task: AbortHandle,
    progress: ResponseProgress,
}

/// When a part of the response was last ready to be sent; `None` until the request has arrived.
/// Clones share it.
#[derive(Debug, Clone, Default)]
struct ResponseProgress(Arc<Mutex<Option<Instant>>>);

impl ResponseProgress {
    fn record(&self) {
        *self.0.lock() = Some(Instant::now());
    }
}

/// A body that records when a part of it is ready to be sent.
struct TrackedBody<B> {
    body: Pin<Box<B>>,
    progress: ResponseProgress,
}

impl<B: Body> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = self.body.as_mut().poll_frame(context);
        if frame.is_ready() {
            self.progress.record();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connection to close for another one: the oldest without a request, or else the oldest that
/// has stalled.
fn position_to_close(oldest_first: &VecDeque<OpenConnection>) -> Option<usize> {
    let find = |is_idle: fn(Option<Instant>) -> bool| {
        oldest_first.iter().position(|connection| is_idle(*connection.progress.0.lock()))
    };
    find(|progress| progress.is_none())
        .or_else(|| find(|progress| progress.is_some_and(|at| at.elapsed() > STALL_TIMEOUT)))
}

async fn serve_connection<B, F>(
    stream: TcpStream,
    respond: impl Fn(Request<Incoming>) -> F,
    progress: ResponseProgress,
) where
    F: Future<Output = Response<B>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let service = service_fn(|request: Request<Incoming>| {
        progress.record();
        let (response, progress) = (respond(request), progress.clone());
        let tracked = |body| TrackedBody { body: Box::pin(body), progress };
        async { Ok::<_, Infallible>(response.await.map(tracked)) }
    });
    let result = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "serving a connection failed");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMITS: HttpLimits = HttpLimits { connections: 4, connection_timeout: Duration::from_secs(600) };
    /// Parts of a response, one each tenth of a second.
    const PARTS: usize = 20;

    /// A server whose responses take two seconds.
    async fn start() -> SocketAddr {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let respond = async |_: Request<Incoming>| {
            let parts = stream::iter(0..PARTS).then(async |_| {
                sleep(Duration::from_millis(100)).await;
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"part\n")))
            });
            Response::new(StreamBody::new(parts.boxed()))
        };
        let respond = move |request| respond(request);
        tokio::spawn(serve(listener, LIMITS, respond));
        address
    }

    async fn connect(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn read_to_end(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map(|_| text).unwrap_or_default()
    }

    #[tokio::test]
    async fn connections_that_send_nothing_cut_no_response() {
        let address = start().await;
        let mut download = connect(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut start = [0; 256];
        assert!(download.read(&mut start).await.unwrap() > 0);
        let mut idle = Vec::new();
        for _ in 0..20 {
            idle.push(connect(address, "GET /").await);
        }
        // The idle connections make room for one with a request.
        let other = connect(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        for stream in [download, other] {
            let text = read_to_end(stream).await;
            assert!(text.ends_with("0\r\n\r\n"), "the response arrives to its last part: {text}");
        }
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_while_all_others_send_and_replaces_one_that_stalls() {
        let open = |age: Option<Duration>| OpenConnection {
            task: tokio::spawn(std::future::pending::<()>()).abort_handle(),
            progress: ResponseProgress(Arc::new(Mutex::new(age.map(|age| Instant::now() - age)))),
        };
        let second = Duration::from_secs(1);
        let sending = || open(Some(second));
        assert_eq!(position_to_close(&[sending(), sending()].into()), None);
        assert_eq!(
            position_to_close(&[sending(), open(Some(STALL_TIMEOUT + second)), sending()].into()),
            Some(1)
        );
        assert_eq!(position_to_close(&[open(Some(STALL_TIMEOUT + second)), open(None)].into()), Some(1));

        let address = start().await;
        let mut sending = Vec::new();
        for _ in 0..LIMITS.connections {
            let mut stream = connect(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
            sending.push(stream);
        }
        let refused = connect(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(read_to_end(refused).await, "");
        for stream in sending {
            assert!(read_to_end(stream).await.ends_with("0\r\n\r\n"));
        }
    }
}
