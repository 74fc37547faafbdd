//! Agents by role and pool, and what is in quarantine.

use std::{sync::Arc, time::Duration};

use forge_bus::BusError;
use forge_documents::number_format::format_duration;
use forge_service::registry::listing::{Heartbeat, Quarantines};
use hyper::StatusCode;
use maud::{Markup, html};

use super::PageContent;
use crate::{cluster_reader::AgentSnapshot, text};

/// Seconds between two readings of the registry.
const REFRESH_SECONDS: u32 = 3;
/// Agents that are listed at most.
const MAX_ROWS: usize = 500;

/// The page of agents.
pub fn content(snapshot: Result<Arc<AgentSnapshot>, BusError>) -> PageContent {
    match snapshot {
        Ok(snapshot) => PageContent {
            refresh_seconds: Some(REFRESH_SECONDS),
            ..PageContent::fixed("Agents", live_part(&snapshot))
        },
        Err(error) => {
            let reason = format!(
                "the registry of agents cannot be read: {error}. It needs the NATS user console or operator; a \
                 client may not read it."
            );
            PageContent::failed("Agents", StatusCode::BAD_GATEWAY, &reason)
        }
    }
}

fn live_part(snapshot: &AgentSnapshot) -> Markup {
    let AgentSnapshot { heartbeats, quarantines } = snapshot;
    let live = heartbeats.iter().filter(|agent| agent.is_live());
    let slots: u64 =
        live.clone().filter(|agent| agent.role == "worker").map(|agent| u64::from(agent.record.slots)).sum();
    let workers = live.clone().filter(|agent| agent.role == "worker").count();
    html! {
        ul class="counts" {
            li { strong { (live.count()) } span { "live agents" } }
            li { strong { (workers) } span { "workers" } }
            li { strong { (slots) } span { "slots" } }
            li { strong { (quarantines.len()) } span { "in quarantine" } }
        }
        (quarantine_part(quarantines))
        @if heartbeats.is_empty() { p class="empty" { "No agent is live: " code { "forge worker" } } }
        @else {
            table class="list" {
                thead { tr {
                    th scope="col" { "Agent" } th scope="col" { "State" } th scope="col" class="wide" { "Host" }
                    th scope="col" class="wide" { "Backend" } th scope="col" class="number" { "Slots" }
                    th scope="col" class="number" { "Seen" }
                } }
                tbody { @for agent in heartbeats.iter().take(MAX_ROWS) { (row(agent, quarantines)) } }
            }
            @if heartbeats.len() > MAX_ROWS {
                p class="note" { "The first " (MAX_ROWS) " of " (heartbeats.len()) " agents. forge agents --all lists all." }
            }
        }
    }
}

fn row(agent: &Heartbeat, quarantines: &Quarantines) -> Markup {
    let record = &agent.record;
    let state = agent.state(quarantines);
    let adapter = record.adapter.as_deref().map(text::cut);
    html! {
        tr {
            td {
                (agent.role) " " code title=(record.agent_id) { (text::short_id(record.agent_id.as_str())) }
                @if record.pool.is_some() { small { "pool " (agent.pool()) } }
                small class="narrow" { (text::cut(&record.host)) " · " (text::cut(&record.backend)) }
            }
            td { span class={ "state " (state) } { (state) } }
            td class="wide" { (text::cut(&record.host)) }
            td class="wide" { (text::cut(&record.backend)) @if let Some(adapter) = adapter { small { (adapter) } } }
            td class="number" { (record.slots) }
            td class="number" { (age(agent.age)) }
        }
    }
}

/// An age in whole seconds, below which heartbeats do not differ in meaning.
fn age(age: Duration) -> String {
    if age.as_secs() < 120 { format!("{} s", age.as_secs()) } else { format_duration(age) }
}

fn quarantine_part(quarantines: &Quarantines) -> Markup {
    let rows = quarantines.rows();
    if rows.is_empty() {
        return html! {};
    }
    html! {
        section { h2 { "Quarantine" }
            table class="list" {
                thead { tr { th scope="col" { "Agent or pool" } th scope="col" class="wide" { "Pool" } th scope="col" { "Reason" } } }
                tbody { @for row in &rows { tr {
                    td { code { (text::cut(&row[0])) } } td class="wide" { (row[1]) } td { (text::cut(&row[2])) }
                } } }
            }
            p class="note" { "An operator lifts a quarantine once its cause is removed: " code { "forge quarantine lift" } }
        }
    }
}
