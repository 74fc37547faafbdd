//! `report.html`: the result as a self-contained page without scripts or external resources.
//! Depends on the request and its result alone, so that an audit can render it again and compare
//! the bytes.

mod allocation_bars;
mod exceedance_chart;
mod portfolio_model;
mod text_size;
mod tower_picture;

pub use self::{
    exceedance_chart::stored_exceedance_chart,
    text_size::{CHART_TEXT_HEIGHT, NARROW_CHART_TEXT_HEIGHT},
};

use std::collections::BTreeMap;

use forge_contract::envelope::About;
use forge_kernel::{KERNEL, request::Request, verification, workload::arg_meanings};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Map, Value};

use crate::{
    histogram::{self, HistogramRow},
    job::job_id,
    job_result::JobResult,
    number_format::{format_amount, format_count, format_percent},
    portfolio_tables::{PortfolioPart, portfolio_tables},
    result_tables::{self, INTERVAL_LEGEND, ResultTable, TableWidth, capitalise},
    tail_value_intervals::few_beyond_notes,
};

/// Renders the page.
pub fn report_page(request: &Request, job_result: &JobResult) -> String {
    let words = request.profile().vocabulary;
    let model = format!("{}: {}", capitalise(words.quantity), result_tables::profile_label(request));
    let title = result_tables::title(request).unwrap_or(&model);
    let warnings = result_tables::result_warnings(request, job_result);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(text_size::style())) }
            }
            body { main {
                h1 dir="auto" { (title) }
                @if let Some(description) = about(request, |about| about.description.as_deref()) {
                    p class="description" dir="auto" { (description) }
                }
                (request_section(request, job_result))
                p class="unit" { (unit_sentence(request)) }
                @if !warnings.is_empty() {
                    p class="warning" { (warnings.join(" ")) }
                }
                (statistics_sections(request, job_result))
                (model_section(request))
                (origin_section(request, job_result))
            } }
        }
    };
    page.into_string()
}

/// What was asked for: the job, its model, and how it is verified.
fn request_section(request: &Request, job_result: &JobResult) -> Markup {
    let (envelope, words) = (&request.envelope, request.profile().vocabulary);
    let mut facts = Vec::new();
    let texts = [
        ("Author", about(request, |about| about.author.as_deref())),
        ("As of", about(request, |about| about.as_of.as_deref())),
    ];
    facts.extend(texts.into_iter().filter_map(|(label, text)| Some((label.to_owned(), text?.to_owned()))));
    facts.extend([
        ("Job".to_owned(), job_id(envelope).to_string()),
        ("Model".to_owned(), result_tables::profile_label(request)),
        (capitalise(words.iterations), result_tables::iterations_text(job_result, words)),
        ("Verification".to_owned(), verification_text(request, job_result)),
    ]);
    let labels = [("Run", &envelope.ctx.run_id), ("Stage", &envelope.ctx.stage_id)];
    facts.extend(labels.into_iter().filter_map(|(label, text)| Some((label.to_owned(), text.clone()?))));
    html! {
        table class="facts" {
            @for (label, text) in facts { tr { th { (label) } td class="text" dir="auto" { (text) } } }
        }
    }
}

/// A text of the envelope's `about`, if it has one.
fn about<'a>(request: &'a Request, text: impl Fn(&'a About) -> Option<&'a str>) -> Option<&'a str> {
    request.envelope.about.as_ref().and_then(text)
}

fn unit_sentence(request: &Request) -> String {
    match result_tables::unit(request) {
        "" => "Amounts are in the currency of the args; the envelope does not name it.".to_owned(),
        unit => format!("Amounts are in {unit}."),
    }
}

/// How many shards are executed again, and the chance that this catches a wrong one.
fn verification_text(request: &Request, job_result: &JobResult) -> String {
    let ratio = verification::ratio(&request.envelope.policy);
    let performed = job_result.document.iterations.performed;
    let ends = request.plan.shards().map(|id| request.plan.range(id).end);
    let shards = ends.take_while(|&end| end <= performed).count() as u64;
    match verification::sample_size(ratio, shards) {
        0 => "none asked for: the result relies on the workers".to_owned(),
        drawn if drawn == shards => {
            "every shard is executed again by another agent: a wrong shard is always caught".to_owned()
        }
        drawn => format!(
            "{} of {} shards, drawn at random, are executed again by another agent: one wrong shard is caught with \
             probability {}",
            format_count(drawn),
            format_count(shards),
            format_percent(1.0 - verification::miss_probability(shards, drawn, 1))
        ),
    }
}

/// Moments and quantiles; then exceedance for profiles with return periods, and the distribution
/// for the others.
fn statistics_sections(request: &Request, job_result: &JobResult) -> Markup {
    let words = request.profile().vocabulary;
    let quantity = result_tables::quantity_with_unit(request);
    let tail_values = result_tables::tail_value_table(job_result);
    html! {
        h2 { (capitalise(&quantity)) }
        div class="scroll" tabindex="0" {
            table class="facts" {
                @for moment in result_tables::moment_values(request, job_result) {
                    tr { th { (moment.label) } td class="figure" { (moment.value) } td { (moment.remark) } }
                }
            }
        }
        h2 { "Quantiles of the " (quantity) }
        (table(&result_tables::value_at_risk_table(job_result)))
        h2 { (result_tables::tail_value_title(request)) }
        (table(&tail_values))
        (legend(&few_beyond_notes(&tail_values.rows, words)))
        @for titled in portfolio_tables(request, job_result, TableWidth::Page) {
            h2 { (titled.title) }
            @if !titled.table.rows.is_empty() { (table(&titled.table)) }
            (legend(&titled.notes))
            (portfolio_picture(titled.part, request, job_result).unwrap_or_default())
        }
        @if words.return_periods {
            @if !request.program.details {
                h2 { (result_tables::exceedance_title(request)) ", " (INTERVAL_LEGEND) }
                @for exceedance in result_tables::exceedance_interval_tables(job_result, words) {
                    (table(&exceedance))
                    (legend(&few_beyond_notes(&exceedance.rows, words)))
                }
                (exceedance_chart::exceedance_chart(request, job_result).unwrap_or_default())
            }
        } @else {
            h2 { "Distribution of the " (quantity) }
            (distribution(&histogram::histogram_rows(&job_result.merged.total, request.program.units)))
        }
    }
}

/// Sentences below a table.
fn legend(notes: &[String]) -> Markup {
    html! { @for note in notes { p class="legend" { (note) } } }
}

/// The picture that belongs to a table of a portfolio.
fn portfolio_picture(part: PortfolioPart, request: &Request, job_result: &JobResult) -> Option<Markup> {
    let output = &job_result.document.output;
    match part {
        PortfolioPart::Exceedance => exceedance_chart::exceedance_chart(request, job_result),
        PortfolioPart::Layers => tower_picture::tower_pictures(request, output["treaties"].as_array()?),
        PortfolioPart::Allocation => {
            let position = result_tables::compared_position(output);
            allocation_bars::allocation_bars(output, position, result_tables::unit(request))
        }
        _ => None,
    }
}

/// A table of figures, which scrolls where the page is narrower.
fn table(table: &ResultTable) -> Markup {
    html! {
        div class="scroll" tabindex="0" {
            table class="figures" {
                tr class="head" { @for heading in &table.header { th { (heading) } } }
                @for row in &table.rows {
                    tr {
                        @for (column, cell) in row.iter().enumerate() {
                            @if column == 0 { th { (cell) } } @else { td class="figure" { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

/// A table with one bar per row; the longest bar has the full width.
fn distribution(rows: &[HistogramRow]) -> Markup {
    let largest_share = rows.iter().map(|row| row.share).fold(0.0, f64::max);
    let width = |share: f64| if largest_share > 0.0 { 100.0 * share / largest_share } else { 0.0 };
    html! {
        div class="scroll" tabindex="0" {
            table {
                @for HistogramRow { range: (low, high), share } in rows {
                    tr {
                        th { (format_amount(*low)) " to " (format_amount(*high)) }
                        td class="figure" { (format_percent(*share)) }
                        td class="bar" { span style=(format_args!("width:{:.2}%", width(*share))) {} }
                    }
                }
            }
        }
    }
}

/// The args of the envelope. Those of a portfolio have tables of their own.
fn model_section(request: &Request) -> Markup {
    const IN_TABLES: [&str; 3] = ["groups", "indices", "treaties"];
    let args = &request.envelope.args;
    let tables = portfolio_model::model_tables(args);
    let meanings = arg_meanings(request.profile());
    let mut rows = Vec::new();
    match tables.is_empty() {
        true => push_arg_rows("", args, &meanings, &mut rows),
        false => {
            let others = args.iter().filter(|(name, _)| !IN_TABLES.contains(&name.as_str()));
            let others = others.map(|(name, value)| (name.clone(), value.clone())).collect();
            push_arg_rows("", &others, &meanings, &mut rows);
        }
    }
    let args = ResultTable { header: vec!["Arg", "Value", "Meaning"], rows };
    html! {
        h2 { "Model" }
        @for paragraph in request.profile().formula { p { (paragraph) } }
        (words_table(&args))
        @for (title, rows) in tables {
            h2 { (title) }
            (words_table(&rows))
        }
    }
}

/// A table of words, which scrolls where the page is narrower.
fn words_table(table: &ResultTable) -> Markup {
    html! {
        div class="scroll" tabindex="0" {
            table class="words" {
                tr class="head" { @for heading in &table.header { th { (heading) } } }
                @for row in &table.rows {
                    tr { @for (column, cell) in row.iter().enumerate() {
                        @if column == 0 { th { (cell) } } @else { td { (cell) } }
                    } }
                }
            }
        }
    }
}

/// Adds one row per arg: name, value and meaning, if the schema describes it. The args inside an
/// object are prefixed with its name and a dot.
fn push_arg_rows(
    prefix: &str,
    args: &Map<String, Value>,
    meanings: &BTreeMap<String, String>,
    rows: &mut Vec<Vec<String>>,
) {
    for (name, value) in args {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => push_arg_rows(&format!("{name}."), inner, meanings, rows),
            value => {
                let meaning =
                    meanings.get(&name).map_or_else(String::new, |meaning| meaning.replace('`', ""));
                rows.push(vec![name, value.to_string(), meaning]);
            }
        }
    }
}

/// The seeds, digests and versions that identify the computation.
fn origin_section(request: &Request, job_result: &JobResult) -> Markup {
    let facts = [
        (result_tables::OCCURRENCES, result_tables::occurrences_text(request, job_result)),
        ("Seed", result_tables::seed_text(request).to_owned()),
        ("Root seed", request.root_seed.to_string()),
        ("Program", request.program_digest.to_string()),
        ("Replay key", request.replay_key.to_string()),
        ("SHA-256 of result.json", job_result.hash.to_string()),
        ("Kernel version", KERNEL.to_string()),
    ];
    html! {
        h2 { "Where it comes from, and how to check it" }
        table class="facts" {
            @for (label, text) in facts {
                tr { th { (label) } td class="code" { (text) } }
            }
        }
        p {
            "The same args and seed give the same result.json on every machine. "
            code { "forge replay jobs/" (job_id(&request.envelope)) "/manifest.json" }
            " computes it again and compares the SHA-256 above; " code { "forge audit … --full" }
            " also writes this page again and compares its bytes."
        }
        p {
            "This page follows from the envelope and the result alone, so it states neither when the job ran nor who executed it. \
             The job's manifest names who signed the result, and the log of the store when. \
             executions.json and verification.json, where the job keeps them, name the agents that executed and \
             verified its shards, and the chance that a wrong result was missed."
        }
    }
}
