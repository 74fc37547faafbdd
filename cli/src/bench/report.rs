//! The measurements of a benchmark, as JSON and as text. The field names are those of the JSON
//! output.

use serde::Serialize;

use crate::{
    output::TextStyle,
    text::{count_of, table},
};

/// All measurements.
#[derive(Serialize)]
pub(super) struct BenchReport {
    pub schema: &'static str,
    pub models: Vec<ModelMeasurement>,
    pub breakdowns: Vec<GpuTimeBreakdown>,
}

/// The contenders on one model.
#[derive(Serialize)]
pub(super) struct ModelMeasurement {
    pub title: &'static str,
    pub claims_per_year: &'static str,
    pub contenders: Vec<ContenderRate>,
}

/// One contender on one model.
#[derive(Serialize)]
pub(super) struct ContenderRate {
    pub backend: String,
    pub adapter: Option<String>,
    pub threads: usize,
    /// Median over the rounds.
    pub iterations_per_second: f64,
    /// Median of the rounds' ratios to the first contender.
    pub ratio: f64,
}

/// Where the time of a GPU goes, in nanoseconds per iteration.
#[derive(Serialize)]
pub(super) struct GpuTimeBreakdown {
    pub backend: String,
    pub title: &'static str,
    pub keystream_ns: f64,
    pub amounts_ns: f64,
    pub histograms_ns: f64,
    pub all_ns: f64,
    /// Share of a call during which the device is idle, while the host prepares commands and reads
    /// results.
    pub host_share: f64,
}

impl BenchReport {
    /// A table for each model, and one for the GPUs if there are any.
    pub(super) fn render(&self, style: TextStyle) -> String {
        let mut lines = Vec::new();
        for model in &self.models {
            lines.push(style.heading(&format!("{}: million iterations per second", model.title)));
            lines.extend(render_model(model));
            lines.push(String::new());
        }
        if !self.breakdowns.is_empty() {
            lines.push(style.heading("Where the time goes, in ns per iteration"));
            lines.extend(render_breakdowns(&self.breakdowns));
        }
        format!("{}\n", lines.join("\n").trim_end())
    }
}

fn render_model(model: &ModelMeasurement) -> Vec<String> {
    let row = |rate: &ContenderRate| {
        let contender = format!("{}, {}", rate.backend, count_of(rate.threads as u64, "thread"));
        let millions = format!("{:.2}", rate.iterations_per_second / 1e6);
        vec![contender, millions, format!("{:.2}x", rate.ratio)]
    };
    let rows: Vec<_> = model.contenders.iter().map(row).collect();
    let table = table::render_table(&["Backend", "M/s", "Ratio"], &rows);
    // The adapter column is left-aligned, so it is appended to the rendered rows.
    let adapters = model.contenders.iter().map(|rate| rate.adapter.as_deref().unwrap_or_default());
    let adapters = [""].into_iter().chain(adapters);
    let line = |(row, adapter): (&String, &str)| format!("{row}   {adapter}").trim_end().to_owned();
    table.iter().zip(adapters).map(line).collect()
}

fn render_breakdowns(breakdowns: &[GpuTimeBreakdown]) -> Vec<String> {
    let row = |breakdown: &GpuTimeBreakdown| {
        let times = [breakdown.keystream_ns, breakdown.amounts_ns, breakdown.histograms_ns, breakdown.all_ns];
        let times = times.map(|ns| if ns < 1.0 { format!("{ns:.4}") } else { format!("{ns:.2}") });
        let shares = [breakdown.keystream_ns / breakdown.all_ns, breakdown.host_share];
        let shares = shares.map(|share| format!("{:.0}%", 100.0 * share));
        let name = format!("{}: {}", breakdown.backend, breakdown.title);
        [vec![name], times.to_vec(), shares.to_vec()].concat()
    };
    let rows: Vec<_> = breakdowns.iter().map(row).collect();
    let header = ["", "Keystream", "Amounts", "Histograms", "All", "Of keystream bound", "Host only"];
    table::render_table(&header, &rows)
}
