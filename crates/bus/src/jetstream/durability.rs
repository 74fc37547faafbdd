//! Whether the servers sync messages to disk before they acknowledge them. Only reports; operators
//! change it.

use std::time::Duration;

use async_nats::StatusCode;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{attempt::AttemptFailure, connection::NatsConnection};

/// Subject on which every server reports its JetStream configuration: `$SYS.REQ.SERVER.PING.JSZ` of
/// the system account, under the name by which the account of the services imports it
/// (`deploy/nats/nats-server.conf`).
const JETSTREAM_STATUS_SUBJECT: &str = "forge.v1.nats.jetstream";
/// Period in which reports are collected. The number of servers is not known beforehand.
const COLLECTION_PERIOD: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct JetStreamReport {
    data: JetStreamStatus,
}

#[derive(Deserialize)]
struct JetStreamStatus {
    /// Set on a server of a cluster that stores nothing.
    #[serde(default)]
    disabled: bool,
    config: JetStreamConfig,
}

#[derive(Deserialize)]
struct JetStreamConfig {
    /// The server omits the field if it is false.
    #[serde(default)]
    sync_always: bool,
}

/// Whether every server that reports syncs before it acknowledges; `None` if none reports.
pub(super) async fn syncs_always(connection: &NatsConnection) -> Option<bool> {
    connection.fail_if_denied(JETSTREAM_STATUS_SUBJECT, collect_reports(connection)).await.ok().flatten()
}

async fn collect_reports(connection: &NatsConnection) -> Result<Option<bool>, AttemptFailure> {
    let client = &connection.client;
    let inbox = client.new_inbox();
    let mut reports = client.subscribe(inbox.clone()).await.map_err(AttemptFailure::transient)?;
    let request = client.publish_with_reply(JETSTREAM_STATUS_SUBJECT, inbox, "{}".into());
    request.await.map_err(AttemptFailure::transient)?;
    let (deadline, mut all_sync) = (Instant::now() + COLLECTION_PERIOD, None);
    while let Ok(Some(report)) = timeout_at(deadline, reports.next()).await {
        if report.status == Some(StatusCode::NO_RESPONDERS) {
            break;
        }
        if let Ok(JetStreamReport { data }) = serde_json::from_slice(&report.payload)
            && !data.disabled
        {
            all_sync = Some(all_sync.unwrap_or(true) && data.config.sync_always);
        }
    }
    Ok(all_sync)
}
