//! Answers requests over a bounded number of connections.

use std::{sync::Arc, time::Duration};

use forge_bus::SharedBus;
use forge_service::http_server::{self, HttpLimits};
use hyper::{Request, StatusCode};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster_reader::ClusterReader,
    job_view,
    pages::{self, PageContext},
    request_policy,
    response::{self, ConsoleResponse},
    route::{ConsolePage, ConsoleRoute},
    settings::ConsoleSettings,
    store_access::StoreAccess,
};

/// A connection serves one request. The time limit is that of a large artifact on a slow line.
const LIMITS: HttpLimits = HttpLimits { connections: 128, connection_timeout: Duration::from_secs(15 * 60) };
/// Requests to NATS or the store in progress at which further ones are refused. Downloads count
/// until their first bytes are sent.
const MAX_CONCURRENT_READS: usize = 32;

/// What requests are answered from.
struct Console {
    cluster: ClusterReader,
    store: StoreAccess,
    namespaces: Vec<String>,
    hosts: Vec<String>,
    reads: Semaphore,
}

/// Serves the console until `stop` is cancelled.
pub async fn run(listener: TcpListener, bus: SharedBus, settings: ConsoleSettings, stop: CancellationToken) {
    let ConsoleSettings { namespaces, hosts, store } = settings;
    let cluster = ClusterReader::new(bus, &namespaces);
    let reads = Semaphore::new(MAX_CONCURRENT_READS);
    let console = Arc::new(Console { cluster, store, namespaces, hosts, reads });
    let respond = move |request| {
        let console = Arc::clone(&console);
        async move { console.respond(&request).await }
    };
    stop.run_until_cancelled(http_server::serve(listener, LIMITS, respond)).await;
}

impl Console {
    async fn respond<B>(&self, request: &Request<B>) -> ConsoleResponse {
        if let Err((status, reason)) = request_policy::check(request, &self.hosts) {
            return response::text(status, reason);
        }
        let uri = request.uri();
        let route = match ConsoleRoute::parse(uri.path(), uri.query().unwrap_or_default(), &self.namespaces) {
            Ok(route) => route,
            Err(reason) => return response::text(StatusCode::BAD_REQUEST, &reason),
        };
        if let ConsoleRoute::Asset(asset) = route {
            return response::asset(asset);
        }
        let Ok(_permit) = self.reads.try_acquire() else {
            let reason = format!("the console is serving {MAX_CONCURRENT_READS} requests: try again");
            return response::text(StatusCode::SERVICE_UNAVAILABLE, &reason);
        };
        match route {
            ConsoleRoute::Page(page) => self.respond_with_page(&page, false).await,
            ConsoleRoute::LivePart(page) => self.respond_with_page(&page, true).await,
            ConsoleRoute::Artifact { job, name } => {
                match job_view::open_artifact(&self.cluster, &self.store, &job, &name).await {
                    Ok((reference, reader)) => response::artifact(&reference, reader),
                    Err((status, reason)) => response::text(status, &reason),
                }
            }
            ConsoleRoute::Asset(_) | ConsoleRoute::Unknown => response::text(
                StatusCode::NOT_FOUND,
                "not found: the pages are /, /jobs/<id>, /agents and /store",
            ),
        }
    }

    /// A page, or its part that changes while it is shown.
    async fn respond_with_page(&self, page: &ConsolePage, only_live_part: bool) -> ConsoleResponse {
        let context = PageContext { namespaces: &self.namespaces, store: &self.store.location() };
        let content = match page {
            ConsolePage::Jobs(filter) => {
                let namespace = filter.namespace(&self.namespaces);
                pages::jobs::content(&context, filter, self.cluster.jobs(namespace).await)
            }
            ConsolePage::Job(id) => {
                let view = job_view::JobView::read(&self.cluster, &self.store, id, only_live_part).await;
                pages::job::content(id, view)
            }
            ConsolePage::Agents => pages::agents::content(self.cluster.agents().await),
            ConsolePage::StoredJobs { after } => {
                pages::stored_jobs::content(&context, self.store.list_jobs(after.as_ref()).await)
            }
        };
        let status = content.status;
        let markup = if only_live_part { content.live } else { pages::layout::render(page, content) };
        response::html(status, markup)
    }
}
