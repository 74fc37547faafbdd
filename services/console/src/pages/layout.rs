//! The frame of every page: navigation, and the parts of its content.

use maud::{DOCTYPE, Markup, html};

use super::PageContent;
use crate::route::{ConsolePage, JobFilter};

/// A whole page.
pub fn render(page: &ConsolePage, content: PageContent) -> Markup {
    let PageContent { title, head, live, refresh_seconds, rest, .. } = content;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Forge console" }
                link rel="icon" type="image/svg+xml" href="/assets/icon.svg";
                link rel="stylesheet" href="/assets/console.css";
                script src="/assets/console.js" defer {}
            }
            body {
                header {
                    a class="brand" href="/" { img src="/assets/icon.svg" alt="" width="20" height="20"; "Forge" }
                    nav aria-label="Pages" { (navigation(page)) }
                    p class="freshness" role="status" data-freshness { @if refresh_seconds.is_some() { "live" } }
                }
                main {
                    (head)
                    @match refresh_seconds {
                        Some(seconds) => {
                            div data-source={ "/live" (page.path()) } data-refresh-seconds=(seconds) { (live) }
                        }
                        None => { div { (live) } }
                    }
                    (rest)
                }
            }
        }
    }
}

fn navigation(page: &ConsolePage) -> Markup {
    let links = [
        (
            "Jobs",
            ConsolePage::Jobs(JobFilter::default()),
            matches!(page, ConsolePage::Jobs(_) | ConsolePage::Job(_)),
        ),
        ("Agents", ConsolePage::Agents, *page == ConsolePage::Agents),
        ("Store", ConsolePage::StoredJobs { after: None }, matches!(page, ConsolePage::StoredJobs { .. })),
    ];
    html! {
        @for (label, target, is_current) in links {
            a href=(target.path()) aria-current=[is_current.then_some("page")] { (label) }
        }
    }
}
