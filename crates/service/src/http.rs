//! Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`. Nothing else, no TLS, no login: to be bound to an address
//! that only probes and scrapers reach.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use forge_bus::SharedBus;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{ConfigError, HttpArgs},
    metrics::Metrics,
};

/// How long a connection may take.
const CONNECTION: Duration = Duration::from_secs(10);
/// Media type of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the process says about its health. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Debug, Default)]
struct HealthState {
    bus: Option<SharedBus>,
    ready: bool,
    reason: Option<String>,
    ended: Option<&'static str>,
}

impl Health {
    /// Of a process that has just started: alive and not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// The process has a bus. It is ready only while that is connected.
    pub fn set_bus(&self, bus: SharedBus) {
        self.with(|state| state.bus = Some(bus));
    }

    /// The service takes work from now on.
    pub fn set_ready(&self) {
        self.with(|state| {
            state.ready = true;
            state.reason = None;
        });
    }

    /// The service takes no work, for a reason that `/readyz` tells.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.with(|state| {
            state.ready = false;
            state.reason = Some(reason);
        });
    }

    /// To be held by a loop that the process cannot live without: when it is dropped, `/healthz` fails and names the loop.
    pub fn guard_loop(&self, name: &'static str) -> LoopGuard {
        LoopGuard { health: self.clone(), name }
    }

    /// Why the process is dead, if it is.
    pub fn liveness_failure(&self) -> Option<String> {
        self.with(|state| state.ended.map(|name| format!("{name} has ended")))
    }

    /// Why the process is not ready, if it is not.
    pub fn readiness_failure(&self) -> Option<String> {
        self.with(|state| {
            if !state.ready {
                return Some(state.reason.clone().unwrap_or_else(|| "starting".to_owned()));
            }
            let connected = state.bus.as_ref().is_none_or(|bus| bus.is_connected());
            (!connected).then(|| "not connected to NATS".to_owned())
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut HealthState) -> T) -> T {
        act(&mut self.0.lock())
    }
}

/// See [`Health::guard_loop`].
#[derive(Debug)]
#[must_use = "the loop counts as ended when it is dropped"]
pub struct LoopGuard {
    health: Health,
    name: &'static str,
}

impl Drop for LoopGuard {
    fn drop(&mut self) {
        self.health.with(|state| state.ended = Some(self.name));
    }
}

/// Serves health and metrics in a task of its own until `stop` is cancelled, where the settings name an address. Answers the
/// address, whose port the system has chosen if 0 was given.
///
/// # Errors
/// [`ConfigError`] when the address cannot be bound.
pub async fn serve(
    args: &HttpArgs,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(address) = args.http else { return Ok(None) };
    let wrong = |error| ConfigError::new("--http", format!("{address} cannot be served: {error}"));
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    tracing::info!(%address, "serving /healthz, /readyz and /metrics");
    tokio::spawn(async move {
        stop.run_until_cancelled(accept(listener, health, metrics)).await;
    });
    Ok(Some(address))
}

async fn accept(listener: TcpListener, health: Health, metrics: Metrics) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(timeout(CONNECTION, serve_connection(stream, health.clone(), metrics.clone())));
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, health: Health, metrics: Metrics) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &health, &metrics);
        async { Ok::<_, Infallible>(response) }
    });
    let served =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
}

fn respond(method: &Method, path: &str, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text_response(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
    }
    match path {
        "/healthz" => probe_response(health.liveness_failure()),
        "/readyz" => probe_response(health.liveness_failure().or_else(|| health.readiness_failure())),
        "/metrics" => response(StatusCode::OK, OPEN_METRICS, metrics.encode()),
        _ => text_response(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics"),
    }
}

fn probe_response(trouble: Option<String>) -> Response<Full<Bytes>> {
    match trouble {
        None => text_response(StatusCode::OK, "ok"),
        Some(reason) => text_response(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

fn text_response(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn response(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests;
