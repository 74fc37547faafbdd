//! The page of one job.

use forge_contract::{artifact::ManifestDocument, ids::JobId, job::JobRecord};
use forge_documents::{
    number_format::{format_bytes, format_count},
    profile_figures,
};
use maud::{Markup, html};

use super::{PageContent, verification, work};
use crate::{
    job_view::{FailedRequest, JobView},
    route::artifact_path,
    text,
};

/// Seconds between two readings of a job that has not ended.
const REFRESH_SECONDS: u32 = 1;
/// Figures and artifacts that are listed. A job has fewer, unless its documents were made up.
const MAX_ROWS: usize = 500;

/// The page of a job, or why there is none.
pub fn content(id: &JobId, view: Result<JobView, FailedRequest>) -> PageContent {
    let view = match view {
        Ok(view) => view,
        Err((status, reason)) => return PageContent::failed(&format!("Job {id}"), status, &reason),
    };
    let stated = view.documents.envelope.as_ref().and_then(|envelope| envelope.title.as_deref());
    let title = view.record.as_ref().and_then(|record| record.title.as_deref()).or(stated);
    let has_ended = view.record.as_ref().is_none_or(|record| record.state.is_terminal());
    let head = html! {
        h1 dir="auto" { (text::cut(title.unwrap_or(id.as_str()))) }
        @if title.is_some() { p class="subtitle" { (id) } }
    };
    PageContent {
        head,
        refresh_seconds: (!has_ended).then_some(REFRESH_SECONDS),
        rest: rest(&view),
        ..PageContent::fixed(&format!("Job {}", title.unwrap_or(id.as_str())), live_part(&view, has_ended))
    }
}

/// State and progress. Its end tells the script that the page has more to show now.
fn live_part(view: &JobView, has_ended: bool) -> Markup {
    html! {
        @match &view.record {
            Some(record) => (state_part(record)),
            None => p class="notice" {
                "The cluster has no record of this job. What follows is from its manifest in the store."
            },
        }
        @if has_ended { span data-ended hidden {} }
    }
}

fn state_part(record: &JobRecord) -> Markup {
    let progress = &record.progress;
    let share = text::done_share(record);
    let percent = format!("{:.0}%", (100.0 * share).floor());
    html! {
        div class="status" {
            (text::state_badge(record))
            @if record.state.is_terminal() { " " (text::ago(&record.updated_at)) }
            @else { " submitted " (text::ago(&record.submitted_at)) }
        }
        @if let Some(reason) = record.waiting.as_ref().filter(|_| text::is_waiting(record)) {
            p class="notice" { strong { "Waiting: " } (text::cut(reason)) }
        }
        @if let Some(error) = &record.error {
            div class="notice bad" {
                p { strong { (error.code) } ": " (text::cut(&error.message)) }
                @if !error.details.is_empty() {
                    ul { @for detail in error.details.iter().take(50) {
                        li { code { (text::cut(&detail.pointer)) } " " (text::cut(&detail.message)) }
                    } }
                }
            }
        }
        @if progress.shards > 0 {
            progress class="bar" max="1" value=(share) aria-label={ "Done: " (percent) } {}
            ul class="counts" {
                li { strong { (percent) } span { "done" } }
                li {
                    strong { (format_count(progress.shards_done)) }
                    span { "of " (format_count(progress.shards)) " shards" }
                }
                li {
                    strong { (format_count(progress.iterations_done)) }
                    span { "of " (format_count(progress.iterations)) " iterations" }
                }
                li { strong { (format_count(progress.shards_verified)) } span { "shards verified" } }
            }
        }
    }
}

fn rest(view: &JobView) -> Markup {
    let documents = &view.documents;
    let figures = figures(view);
    html! {
        @for problem in &documents.problems { p class="notice bad" { (text::cut(problem)) } }
        @if !figures.is_empty() {
            section { h2 { "Figures" } ul class="figures" {
                @for (label, value) in figures.iter().take(MAX_ROWS) { li { span { (label) } strong { (value) } } }
            } }
        }
        @if let Some(chart) = documents.result.as_ref().and_then(|result| result.chart.as_ref()) {
            section { h2 { "Exceedance" }
                (chart)
                p class="note" { "Straight lines between the return periods that result.json states." }
            }
        }
        @if let Some(agents) = &documents.work { (work::section(agents)) }
        @else if view.record.as_ref().is_some_and(|record| !record.state.is_terminal()) {
            p class="note" { "Once the job has completed, this page shows figures, the work of each agent, verification and artifacts." }
        }
        (verification::section(view.record.as_ref().and_then(|record| record.verification.as_ref()), documents.verification.as_ref()))
        (artifacts(view))
        (identity(view))
    }
}

/// The headline figures: those of the record, or else the numbers of the result.
fn figures(view: &JobView) -> Vec<(String, String)> {
    if let Some(record) = &view.record {
        return profile_figures(record.op.as_ref().map(|op| op.profile.as_str()), &record.headline);
    }
    view.documents.result.as_ref().map(|result| result.figures.clone()).unwrap_or_default()
}

fn artifacts(view: &JobView) -> Markup {
    let job = match (&view.record, &view.manifest) {
        (Some(record), _) => &record.job_id,
        (None, Some(manifest)) => &manifest.job_id,
        (None, None) => return html! {},
    };
    if view.artifacts().is_empty() {
        return html! {};
    }
    html! {
        section { h2 { "Artifacts" }
            table class="list artifacts" {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" class="number" { "Size" } th scope="col" class="wide" { "SHA-256" }
                    th scope="col" { span class="unseen" { "Download" } }
                } }
                tbody { @for artifact in view.artifacts().iter().take(MAX_ROWS) {
                    @let path = artifact_path(job, &artifact.name);
                    tr {
                        td { a href=(path) { (artifact.name) } code class="narrow" { (artifact.sha256) } }
                        td class="number" { (format_bytes(artifact.size)) }
                        td class="wide" { code { (artifact.sha256) } }
                        td class="number" { a class="button" href=(path) download=(artifact.name) aria-label={ "Download " (artifact.name) } { "Download" } }
                    }
                } }
            }
            p class="note" { "The console checks size and hash of what it sends, and ends an answer early if they differ." }
        }
    }
}

fn identity(view: &JobView) -> Markup {
    let mut rows: Vec<(&str, Markup)> = Vec::new();
    if let Some(record) = &view.record {
        rows.extend(record_rows(record));
    }
    if let Some(manifest) = &view.manifest {
        rows.extend(manifest_rows(manifest, view.record.is_none()));
    }
    let args = view.documents.envelope.as_ref().and_then(|envelope| envelope.args.as_ref());
    html! {
        section { h2 { "Job" } (text::facts(rows)) }
        @if let Some(args) = args {
            section { details { summary { "Args" } pre tabindex="0" { (args) } } }
        }
    }
}

fn record_rows(record: &JobRecord) -> Vec<(&'static str, Markup)> {
    let time = |time: &String| html! { time datetime=(time) { (time) } };
    let optional = [
        ("Ended", record.state.is_terminal().then(|| time(&record.updated_at))),
        ("Model", record.op.as_ref().map(|op| html! { (op.name) "@" (op.version) " " (op.profile) })),
        ("Result hash", record.result.map(text::code)),
        ("Replay key", record.replay_key.map(text::code)),
        ("Manifest", record.manifest.as_ref().map(text::code)),
        ("Trace", record.trace_id.as_ref().map(text::code)),
    ];
    let always = [("Submitter", html! { (record.submitter) }), ("Submitted", time(&record.submitted_at))];
    let optional = optional.into_iter().filter_map(|(label, value)| Some((label, value?)));
    always.into_iter().chain(optional).collect()
}

fn manifest_rows(manifest: &ManifestDocument, is_alone: bool) -> Vec<(&'static str, Markup)> {
    let mut rows = vec![
        ("Kernel version", html! { (manifest.kernel) }),
        ("Shards", html! { (format_count(manifest.shards)) }),
        ("Merkle root", text::code(manifest.merkle_root)),
    ];
    if is_alone {
        rows.push(("Result hash", text::code(manifest.result)));
        rows.push(("Replay key", text::code(manifest.replay_key)));
    }
    let signer = manifest.signer.as_ref().map(|signer| match manifest.is_signature_valid() {
        Some(true) => html! { (text::code(signer)) },
        _ => html! { (text::code(signer)) " — the signature is not valid" },
    });
    rows.extend(signer.map(|signer| ("Signed by", signer)));
    rows
}
