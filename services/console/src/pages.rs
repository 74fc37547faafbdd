//! The pages as HTML. Pure: each shows what was read for it. Text of documents, services and agents
//! is escaped by the macro, and long values are cut where they could fill a page.

pub mod agents;
pub mod job;
pub mod jobs;
pub mod layout;
pub mod stored_jobs;
mod verification;
mod work;

use hyper::StatusCode;
use maud::{Markup, html};

use crate::text;

/// What every page may need to know about the console.
#[derive(Debug, Clone, Copy)]
pub struct PageContext<'a> {
    /// Buckets of job records.
    pub namespaces: &'a [String],
    /// Location of the store.
    pub store: &'a str,
}

/// What a page shows.
#[derive(Debug)]
pub struct PageContent {
    /// Status of the answer.
    pub status: StatusCode,
    /// Title of the window.
    pub title: String,
    /// The part above the one that changes.
    pub head: Markup,
    /// The part that changes while the page is shown.
    pub live: Markup,
    /// Seconds after which the part is read again; `None` if it does not change any more.
    pub refresh_seconds: Option<u32>,
    /// The part below.
    pub rest: Markup,
}

impl PageContent {
    /// A page of this title that does not change.
    fn fixed(title: &str, live: Markup) -> Self {
        let (head, rest) = (html! { h1 { (title) } }, html! {});
        Self { status: StatusCode::OK, title: title.to_owned(), head, live, refresh_seconds: None, rest }
    }

    /// A page that says why it cannot show what was asked for. It is tried again.
    fn failed(title: &str, status: StatusCode, reason: &str) -> Self {
        let notice = html! { p class="notice bad" role="alert" { (text::cut(reason)) } };
        let is_permanent = status == StatusCode::NOT_FOUND;
        Self { status, refresh_seconds: (!is_permanent).then_some(5), ..Self::fixed(title, notice) }
    }
}
