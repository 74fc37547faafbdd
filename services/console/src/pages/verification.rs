//! How a job was verified, and by what chance a wrong result would have passed.

use forge_contract::{
    artifact::{BackendPair, VerificationDocument},
    job::VerificationSummary,
};
use forge_documents::number_format::{format_count, format_percent};
use maud::{Markup, html};

use crate::text;

/// Refuted results that are listed.
const MAX_REFUTED: usize = 50;

/// What verification found: the summary of the record and, if the job keeps it, verification.json.
pub fn section(summary: Option<&VerificationSummary>, document: Option<&VerificationDocument>) -> Markup {
    let computed = document.map(VerificationSummary::from);
    let Some(summary) = summary.or(computed.as_ref()) else { return html! {} };
    let pools: Vec<_> = summary.suspect_pools.iter().map(ToString::to_string).collect();
    let mut rows = Vec::new();
    if let Some(document) = document {
        let (checked, shards) = (format_count(document.checked.len() as u64), format_count(document.shards));
        rows.push(("Executed again", html! { (checked) " of " (shards) " shards" }));
        rows.push(("On other hardware", html! { (format_count(document.on_other_hardware)) }));
    }
    rows.push(("P(one wrong shard ships)", html! { (format_percent(summary.escape_probability)) }));
    rows.push(("Refuted results", html! { (format_count(summary.refuted)) }));
    rows.push(("Contradictions", html! { (format_count(summary.contradictions)) }));
    if !pools.is_empty() {
        rows.push(("Suspect pools", html! { (text::cut(&pools.join(", "))) }));
    }
    html! {
        section { h2 { "Verification" }
            (text::facts(rows))
            @if let Some(document) = document {
                @if !document.pairs.is_empty() { (pairs(&document.pairs)) }
                @if !document.refuted.is_empty() { (refuted(document)) }
            } @else {
                p class="note" { "The job does not keep verification.json, which has the details." }
            }
        }
    }
}

fn pairs(pairs: &[BackendPair]) -> Markup {
    let device = |backend: &str, adapter: &Option<String>| match adapter {
        Some(adapter) => text::cut(&format!("{backend}, {adapter}")),
        None => text::cut(backend),
    };
    html! {
        table class="list" {
            thead { tr { th scope="col" { "Executed by" } th scope="col" { "Confirmed by" } th scope="col" class="number" { "Shards" } } }
            tbody { @for pair in pairs.iter().take(50) { tr {
                td { (device(&pair.primary, &pair.primary_adapter)) }
                td { (device(&pair.verifier, &pair.verifier_adapter)) }
                td class="number" { (format_count(pair.shards)) }
            } } }
        }
    }
}

fn refuted(document: &VerificationDocument) -> Markup {
    html! {
        table class="list" {
            thead { tr { th scope="col" { "Refuted" } th scope="col" { "Agent" } th scope="col" { "Reason" } } }
            tbody { @for verdict in document.refuted.iter().take(MAX_REFUTED) {
                @let statement = &verdict.statement;
                tr {
                    td { "shard " (statement.shard_id) }
                    td { code title=(statement.agent_id) { (text::short_id(statement.agent_id.as_str())) } " " (statement.pool) }
                    td { (text::cut(&statement.reason)) }
                }
            } }
        }
        @if document.refuted.len() > MAX_REFUTED {
            p class="note" { "The first " (MAX_REFUTED) " of " (format_count(document.refuted.len() as u64)) " refuted results." }
        }
    }
}
