//! What pages show of JSON documents of any shape. The parsed document takes up to a hundred times
//! its size in memory, so the parts that are shown are extracted at once.

use forge_documents::{profile_figures, record_figures, stored_exceedance_chart};
use maud::Markup;
use serde_json::Value;

use crate::text;

/// Characters of the args that are shown. envelope.json has all of them.
const MAX_ARGS_CHARS: usize = 50_000;

/// The shown parts of `result.json`.
#[derive(Debug)]
pub struct ShownResult {
    /// Labels and texts of its figures.
    pub figures: Vec<(String, String)>,
    /// Its exceedance curve, if it states one.
    pub chart: Option<Markup>,
}

impl From<Value> for ShownResult {
    fn from(result: Value) -> Self {
        let figures = profile_figures(result["op"]["profile"].as_str(), &record_figures(&result["output"]));
        Self { figures, chart: stored_exceedance_chart(&result) }
    }
}

/// The shown parts of `envelope.json`.
#[derive(Debug)]
pub struct ShownEnvelope {
    /// Title of the job.
    pub title: Option<String>,
    /// The args as indented JSON.
    pub args: Option<String>,
}

impl From<Value> for ShownEnvelope {
    fn from(envelope: Value) -> Self {
        let args = Some(&envelope["args"]).filter(|args| args.is_object());
        let args = args.and_then(|args| serde_json::to_string_pretty(args).ok());
        Self {
            title: envelope["about"]["title"].as_str().map(text::cut),
            args: args.map(|args| text::shorten(&args, MAX_ARGS_CHARS)),
        }
    }
}
