//! The list of jobs, with filters and search.

use std::{collections::BTreeMap, sync::Arc};

use forge_bus::BusError;
use forge_contract::job::{JobRecord, JobState};
use forge_documents::number_format::format_count;
use hyper::StatusCode;
use maud::{Markup, html};

use super::{PageContent, PageContext};
use crate::{
    cluster_reader::JobSnapshot,
    route::{ConsolePage, JobFilter, StateFilter, job_path},
    text,
};

/// Jobs that are shown at most. Search and filters find the others.
const MAX_ROWS: usize = 200;
/// Seconds between two readings of the list.
const REFRESH_SECONDS: u32 = 3;

/// The page of the jobs that pass the filter.
pub fn content(
    context: &PageContext<'_>,
    filter: &JobFilter,
    snapshot: Result<Arc<JobSnapshot>, BusError>,
) -> PageContent {
    let head = html! { h1 { "Jobs" } (search_form(context, filter)) };
    let failed = |reason: &str| PageContent {
        refresh_seconds: Some(REFRESH_SECONDS),
        ..PageContent::failed("Jobs", StatusCode::BAD_GATEWAY, reason)
    };
    let content = match &snapshot {
        Ok(snapshot) => PageContent {
            refresh_seconds: Some(REFRESH_SECONDS),
            ..PageContent::fixed("Jobs", live_part(filter, snapshot))
        },
        Err(BusError::NoResponse(_)) => {
            failed("no planner answers: start one, or start all services with `forge up`")
        }
        Err(error) => failed(&error.to_string()),
    };
    PageContent { head, ..content }
}

fn search_form(context: &PageContext<'_>, filter: &JobFilter) -> Markup {
    html! {
        form class="search" action="/" role="search" {
            input type="search" name="q" value=(filter.search) placeholder="Search id or title" aria-label="Search id or title"
                maxlength="200" autocomplete="off";
            @if context.namespaces.len() > 1 {
                select name="namespace" aria-label="Namespace" {
                    @for namespace in context.namespaces {
                        option value=(namespace) selected[namespace == filter.namespace(context.namespaces)] { (namespace) }
                    }
                }
            }
            @if let Some(state) = filter.state { input type="hidden" name="state" value=(state.as_str()); }
            button { "Search" }
        }
    }
}

/// Whether a record passes search and state of the filter.
fn is_selected(record: &JobRecord, filter: &JobFilter) -> bool {
    is_found(record, &filter.search)
        && match filter.state {
            None => true,
            Some(StateFilter::Waiting) => text::is_waiting(record),
            Some(StateFilter::State(state)) => record.state == state,
        }
}

/// Whether id or title contains the text, in letters of either case.
fn is_found(record: &JobRecord, search: &str) -> bool {
    let search = search.to_lowercase();
    let contains = |text: &str| text.to_lowercase().contains(&search);
    search.is_empty() || contains(record.job_id.as_str()) || record.title.as_deref().is_some_and(contains)
}

fn live_part(filter: &JobFilter, snapshot: &JobSnapshot) -> Markup {
    let selected: Vec<_> = snapshot.records.iter().filter(|record| is_selected(record, filter)).collect();
    html! {
        (state_links(filter, &snapshot.records))
        @if snapshot.is_cut {
            p class="notice" {
                "Only the first " (format_count(snapshot.records.len() as u64)) " jobs by id are shown here. "
                "forge jobs --prefix lists the others."
            }
        }
        @if selected.is_empty() {
            p class="empty" {
                @if snapshot.records.is_empty() { "No job has been submitted yet: " code { "forge submit job.json" } }
                @else { "No job matches." }
            }
        } @else {
            table class="list" {
                thead { tr {
                    th scope="col" { "Job" } th scope="col" { "State" } th scope="col" { "Done" }
                    th scope="col" class="wide" { "Model" } th scope="col" class="wide" { "Submitter" }
                    th scope="col" class="wide number" { "Submitted" }
                } }
                tbody { @for record in selected.iter().take(MAX_ROWS) { (row(record)) } }
            }
            @if selected.len() > MAX_ROWS {
                p class="note" {
                    "The most recent " (MAX_ROWS) " of " (format_count(selected.len() as u64)) " jobs. Search finds the others."
                }
            }
        }
    }
}

/// One link for each state that a job is in, with the number of jobs.
fn state_links(filter: &JobFilter, records: &[JobRecord]) -> Markup {
    let found: Vec<_> = records.iter().filter(|record| is_found(record, &filter.search)).collect();
    let mut counts: BTreeMap<JobState, usize> = BTreeMap::new();
    found.iter().for_each(|record| *counts.entry(record.state).or_default() += 1);
    let waiting = found.iter().filter(|record| text::is_waiting(record)).count();
    let states = counts.into_iter().map(|(state, count)| (StateFilter::State(state), count));
    let mut links: Vec<_> = states.chain((waiting > 0).then_some((StateFilter::Waiting, waiting))).collect();
    // The state that is filtered by stays, even if no job is in it any more.
    if let Some(current) = filter.state.filter(|current| links.iter().all(|(state, _)| state != current)) {
        links.push((current, 0));
    }
    let link = |label: &str, state: Option<StateFilter>, count: usize| {
        let target = ConsolePage::Jobs(JobFilter { state, ..filter.clone() });
        html! {
            a href=(target.path()) aria-current=[(filter.state == state).then_some("true")] {
                (label) " " span { (format_count(count as u64)) }
            }
        }
    };
    html! {
        nav class="chips" aria-label="States" {
            (link("all", None, found.len()))
            @for (state, count) in links { (link(state.as_str(), Some(state), count)) }
        }
    }
}

fn row(record: &JobRecord) -> Markup {
    let share = text::done_share(record);
    let percent = format!("{:.0}%", (100.0 * share).floor());
    let model = record.op.as_ref().map_or("-", |op| op.profile.as_str());
    html! {
        tr {
            td class="job" {
                a href=(job_path(&record.job_id)) dir="auto" {
                    (record.title.as_deref().unwrap_or(record.job_id.as_str()))
                }
                @if record.title.is_some() { small { (record.job_id) } }
                small class="narrow" { (model) " · " (text::ago(&record.submitted_at)) }
                @if let Some(reason) = record.waiting.as_ref().filter(|_| text::is_waiting(record)) {
                    small class="reason" { (text::cut(reason)) }
                }
                @if let Some(error) = &record.error { small class="reason" { (error.code) ": " (text::cut(&error.message)) } }
            }
            td { (text::state_badge(record)) }
            td class="done" {
                progress max="1" value=(share) aria-label={ "Done: " (percent) } {}
                span { (percent) }
            }
            td class="wide" { (model) }
            td class="wide" { (record.submitter) }
            td class="wide number" { (text::ago(&record.submitted_at)) }
        }
    }
}
