//! What the server does for what it has acknowledged.

use std::time::Duration;

use async_nats::StatusCode;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::link::{Failure, Link};

/// Where servers tell how JetStream is configured: the system account's `$SYS.REQ.SERVER.PING.JSZ`, as the account of services
/// imports it (`deploy/nats/nats-server.conf`).
const SERVERS: &str = "forge.v1.nats.jetstream";
/// How long their answers are waited for.
const ANSWERS: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Answer {
    data: Info,
}

#[derive(Deserialize)]
struct Info {
    /// A server of a cluster that stores nothing.
    #[serde(default)]
    disabled: bool,
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    /// Left out where it is false.
    #[serde(default)]
    sync_always: bool,
}

/// Whether every server that answers syncs before it acknowledges; `None` where none answers.
pub(super) async fn syncs_always(link: &Link) -> Option<bool> {
    link.guard(SERVERS, ask(link)).await.ok().flatten()
}

async fn ask(link: &Link) -> Result<Option<bool>, Failure> {
    let passing = |error: &dyn std::fmt::Display| Failure::Passing(error.to_string());
    let inbox = link.client.new_inbox();
    let mut answers = link.client.subscribe(inbox.clone()).await.map_err(|error| passing(&error))?;
    let asked = link.client.publish_with_reply(SERVERS, inbox, "{}".into()).await;
    asked.map_err(|error| passing(&error))?;
    let (end, mut all) = (Instant::now() + ANSWERS, None);
    while let Ok(Some(answer)) = timeout_at(end, answers.next()).await {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            break;
        }
        if let Ok(Answer { data }) = serde_json::from_slice(&answer.payload)
            && !data.disabled
        {
            all = Some(all.unwrap_or(true) && data.config.sync_always);
        }
    }
    Ok(all)
}
