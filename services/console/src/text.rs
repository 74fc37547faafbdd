//! Small texts that several pages show.

use std::time::Duration;

use forge_contract::job::{JobRecord, JobState};
use forge_documents::number_format::format_duration;
use forge_service::clock::Clock;
use maud::{Markup, html};

/// Characters of a text from elsewhere that are shown.
const MAX_TEXT_CHARS: usize = 2000;
/// Characters of an agent's id that are shown where there is little room.
const SHORT_ID_CHARS: usize = 9;

/// A text from elsewhere, cut if it is long.
pub fn cut(text: &str) -> String {
    shorten(text, MAX_TEXT_CHARS)
}

/// The beginning of an agent's id, in which the ids of a cluster differ.
pub fn short_id(id: &str) -> String {
    shorten(id, SHORT_ID_CHARS)
}

/// A text of at most `max_chars` characters, and an ellipsis if it has more.
pub fn shorten(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How long ago a time was, with the time itself for those who point at it.
pub fn ago(timestamp: &str) -> Markup {
    let age = Clock::default().elapsed_since(timestamp);
    let whole_seconds = Duration::from_secs(age.as_secs());
    let text = if whole_seconds.is_zero() {
        "just now".to_owned()
    } else {
        format!("{} ago", format_age(whole_seconds))
    };
    html! { time datetime=(timestamp) title=(timestamp) { (text) } }
}

/// A duration of whole seconds.
fn format_age(age: Duration) -> String {
    if age.as_secs() < 120 { format!("{} s", age.as_secs()) } else { format_duration(age) }
}

/// The state of a job in its colour, without the reason for it.
pub fn state_badge(record: &JobRecord) -> Markup {
    let word = state_word(record);
    html! { span class={ "state " (word) } { (word) } }
}

/// The state in one word: `waiting` if the job waits for something.
pub fn state_word(record: &JobRecord) -> &'static str {
    if is_waiting(record) { "waiting" } else { record.state.as_str() }
}

/// Whether a job that has not ended waits for something.
pub fn is_waiting(record: &JobRecord) -> bool {
    record.waiting.is_some() && !record.state.is_terminal()
}

/// Share of a job that is done: all of it once it has completed, though convergence may have ended
/// it early.
pub fn done_share(record: &JobRecord) -> f64 {
    if record.state == JobState::Completed { 1.0 } else { record.progress.done_share() }
}

/// A table of facts: labels and values.
pub fn facts(rows: Vec<(&str, Markup)>) -> Markup {
    html! {
        dl class="facts" {
            @for (label, value) in rows { div { dt { (label) } dd { (value) } } }
        }
    }
}

/// A value that is compared or copied, such as a hash.
pub fn code(text: impl std::fmt::Display) -> Markup {
    html! { code { (cut(&text.to_string())) } }
}
