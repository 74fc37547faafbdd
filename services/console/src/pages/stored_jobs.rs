//! The completed jobs of the store, also those whose record the cluster has no more.

use forge_documents::number_format::{format_bytes, format_count};
use forge_store::StoreError;
use hyper::StatusCode;
use maud::{Markup, html};

use super::{PageContent, PageContext};
use crate::{
    route::{ConsolePage, job_path},
    store_access::StoredJobPage,
    text,
};

/// The page of the store.
pub fn content(context: &PageContext<'_>, page: Result<StoredJobPage, StoreError>) -> PageContent {
    let page = match page {
        Ok(page) => page,
        Err(error) => return PageContent::failed("Store", StatusCode::BAD_GATEWAY, &error.to_string()),
    };
    let head = html! { h1 { "Store" } p class="subtitle" { (context.store) } };
    PageContent { head, ..PageContent::fixed("Store", table(&page)) }
}

fn table(page: &StoredJobPage) -> Markup {
    let last = page.jobs.last().map(|(id, _)| id.clone()).filter(|_| page.has_next);
    html! {
        p class="note" { (format_count(page.total as u64)) " completed jobs, by id. " code { "forge audit --all" } " checks them." }
        table class="list" {
            thead { tr {
                th scope="col" { "Job" } th scope="col" class="wide" { "Result hash" } th scope="col" class="number" { "Shards" }
                th scope="col" class="number" { "Size" }
            } }
            tbody { @for (id, job) in &page.jobs { tr {
                td class="job" {
                    a href=(job_path(id)) { (id) }
                    @match job {
                        Ok(job) => small { code class="narrow" { (job.result) } },
                        Err(reason) => small class="reason" { (text::cut(reason)) },
                    }
                }
                @match job {
                    Ok(job) => {
                        td class="wide" { code { (job.result) } }
                        td class="number" { (format_count(job.shards)) }
                        td class="number" { (format_bytes(job.bytes)) }
                    }
                    Err(_) => { td class="wide" {} td {} td {} }
                }
            } } }
        }
        @if let Some(last) = last {
            p { a class="button" href=(ConsolePage::StoredJobs { after: Some(last) }.path()) { "Next" } }
        }
    }
}
