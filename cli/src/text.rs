//! Text output for people: tables, plots and the summary of a run. It knows no profile by name:
//! nouns and units come from [`Vocabulary`](forge_kernel::workload::Vocabulary).

pub mod bar_chart;
pub mod data_table;
pub mod exceedance_plot;
pub mod summary;
pub mod table;

use forge_documents::number_format::format_count;

/// A count with its noun: `1 shard`, `5 shards`. The plural is formed with an s.
pub fn count_of(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", format_count(count), if count == 1 { "" } else { "s" })
}
