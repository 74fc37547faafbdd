//! HTTP/1.1 over a bounded number of connections, each of which serves one request. Without TLS or
//! authentication. Does not know what is served.

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

/// Time limit for receiving the head of the request.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Upper bound on the head of a request, in bytes: the smallest that hyper allows.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at a time. Each takes a file handle, which the connections to NATS and the store
    /// need too. One more closes the oldest, so that idle connections cannot keep others out.
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
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while connections.try_join_next().is_some() {}
                oldest_first.retain(|connection| !connection.is_finished());
                if oldest_first.len() >= limits.connections
                    && let Some(oldest) = oldest_first.pop_front()
                {
                    oldest.abort();
                }
                let connection = serve_connection(stream, respond.clone());
                oldest_first.push_back(connections.spawn(async move {
                    timeout(limits.connection_timeout, connection).await.ok();
                }));
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection failed; continuing");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection<B, F>(stream: TcpStream, respond: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Response<B>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request);
        async { Ok::<_, Infallible>(response.await) }
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
