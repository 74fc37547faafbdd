//! Health probes and metrics over HTTP: `/healthz`, `/readyz` and `/metrics`, without TLS or
//! authentication. Bind it to an address that only probes and scrapers can reach.

use std::{future::ready, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use forge_bus::SharedBus;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{ConfigError, HttpArgs},
    http_server::{self, HttpLimits},
    metrics::Metrics,
};

/// Bounds of the server: probes are short, and come from few addresses.
const LIMITS: HttpLimits = HttpLimits { connections: 64, connection_timeout: Duration::from_secs(10) };
/// Content type of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The health of the process, as the probes report it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Debug, Default)]
struct HealthState {
    bus: Option<SharedBus>,
    ready: bool,
    not_ready_reason: Option<String>,
    /// The name of a loop that the process depends on and that has ended.
    ended_loop: Option<&'static str>,
}

impl Health {
    /// The health of a process that is starting: alive and not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bus of the process, which is ready only while the bus is connected.
    pub fn set_bus(&self, bus: SharedBus) {
        self.with(|state| state.bus = Some(bus));
    }

    /// Reports the service ready to take work.
    pub fn set_ready(&self) {
        self.with(|state| {
            state.ready = true;
            state.not_ready_reason = None;
        });
    }

    /// Reports the service not ready, for a reason that `/readyz` returns.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.with(|state| {
            state.ready = false;
            state.not_ready_reason = Some(reason);
        });
    }

    /// Returns a guard for a loop that the process depends on: once it is dropped, `/healthz` fails
    /// and names the loop.
    pub fn guard_loop(&self, name: &'static str) -> LoopGuard {
        LoopGuard { health: self.clone(), name }
    }

    /// Why the process is not alive; `None` if it is.
    fn liveness_failure(&self) -> Option<String> {
        self.with(|state| state.ended_loop.map(|name| format!("{name} has ended")))
    }

    /// Why the process is not ready; `None` if it is.
    pub(crate) fn readiness_failure(&self) -> Option<String> {
        self.with(|state| {
            if !state.ready {
                return Some(state.not_ready_reason.clone().unwrap_or_else(|| "starting".to_owned()));
            }
            let connected = state.bus.as_ref().is_none_or(|bus| bus.is_connected());
            (!connected).then(|| "not connected to NATS".to_owned())
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut HealthState) -> T) -> T {
        act(&mut self.0.lock())
    }
}

/// Guards a loop that the process depends on; see [`Health::guard_loop`].
#[derive(Debug)]
#[must_use = "the loop counts as ended once this guard is dropped"]
pub struct LoopGuard {
    health: Health,
    name: &'static str,
}

impl Drop for LoopGuard {
    fn drop(&mut self) {
        self.health.with(|state| state.ended_loop = Some(self.name));
    }
}

/// Checks that no other process listens on the configured address, before anything is started.
///
/// # Errors
/// [`ConfigError`] when one does.
pub fn check_address(args: &HttpArgs) -> Result<(), ConfigError> {
    let Some(address) = args.http else { return Ok(()) };
    match std::net::TcpListener::bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(bind_error(address, &error)),
        _ => Ok(()),
    }
}

fn bind_error(address: SocketAddr, error: &io::Error) -> ConfigError {
    ConfigError::new("--http", format!("binding {address} failed: {error}"))
}

/// Serves health and metrics in a background task until `stop` is cancelled, if an address is
/// configured. Returns the bound address, with the port that the system chose for port 0.
///
/// # Errors
/// [`ConfigError`] when binding the address fails.
pub async fn serve(
    args: &HttpArgs,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(address) = args.http else { return Ok(None) };
    let listener = http_server::bind(address).await.map_err(|error| bind_error(address, &error))?;
    let address = listener.local_addr().map_err(|error| bind_error(address, &error))?;
    tracing::info!(%address, "serving /healthz, /readyz and /metrics");
    let respond = move |request: Request<Incoming>| {
        ready(respond(request.method(), request.uri().path(), &health, &metrics))
    };
    tokio::spawn(async move {
        stop.run_until_cancelled(http_server::serve(listener, LIMITS, respond)).await;
    });
    Ok(Some(address))
}

fn respond(method: &Method, path: &str, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text_response(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed");
    }
    match path {
        "/healthz" => probe_response(health.liveness_failure()),
        "/readyz" => probe_response(health.liveness_failure().or_else(|| health.readiness_failure())),
        "/metrics" => response(StatusCode::OK, OPEN_METRICS, metrics.encode()),
        _ => text_response(
            StatusCode::NOT_FOUND,
            "not found: the endpoints are /healthz, /readyz and /metrics",
        ),
    }
}

fn probe_response(failure: Option<String>) -> Response<Full<Bytes>> {
    match failure {
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
