//! Marks rows whose 95% interval of the tail value at risk is too narrow, because few iterations
//! lie beyond their level (docs/determinism.md, section 9.3).

use forge_kernel::{summary::MIN_BEYOND_FOR_TAIL_VALUES, workload::Vocabulary};

use crate::job_result::JobResult;

/// Ends the label of a marked row.
const MARK: &str = " *";

/// The number of iterations that are expected beyond a level.
pub fn beyond_level(job_result: &JobResult, level: f64) -> u64 {
    (job_result.merged.iterations as f64 * (1.0 - level)).round() as u64
}

/// The number of iterations that are expected beyond a return period.
pub fn beyond_return_period(job_result: &JobResult, return_period: u64) -> u64 {
    job_result.merged.iterations / return_period.max(1)
}

/// The label of a row, with a mark if the row shows an interval of a tail value, and fewer
/// iterations than such an interval needs lie beyond.
pub fn mark_if_few(label: String, beyond: u64, shows_interval: bool) -> String {
    match shows_interval && beyond < MIN_BEYOND_FOR_TAIL_VALUES {
        true => label + MARK,
        false => label,
    }
}

/// What the mark means, as sentences below a table; none if no row has it.
pub fn few_beyond_notes(rows: &[Vec<String>], words: Vocabulary) -> Vec<String> {
    let noun = words.iterations;
    if !rows.iter().any(|row| row[0].ends_with(MARK)) {
        return Vec::new();
    }
    vec![
        format!(
            "* Fewer than {MIN_BEYOND_FOR_TAIL_VALUES} {noun} lie beyond: the 95% interval of TVaR may be too narrow."
        ),
        format!("It covers the true value in 92% of runs with 100 {noun} beyond, in 85% with 20."),
    ]
}

#[cfg(test)]
mod tests {
    use forge_kernel::workload::PROFILES;

    use super::{few_beyond_notes, mark_if_few};

    #[test]
    fn rows_with_few_iterations_beyond_are_marked_and_explained() {
        let labels = [(400, true), (399, true), (0, false)]
            .map(|(beyond, shows_interval)| mark_if_few("99.9%".to_owned(), beyond, shows_interval));
        assert_eq!(labels, ["99.9%", "99.9% *", "99.9%"]);
        let words = PROFILES[0].vocabulary;
        let notes = |label: &String| few_beyond_notes(&[vec![label.clone()]], words);
        assert!(notes(&labels[0]).is_empty());
        let notes = notes(&labels[1]);
        let start = format!("* Fewer than 400 {} lie beyond", words.iterations);
        assert!(notes[0].starts_with(&start), "{notes:?}");
        assert!(notes.iter().all(|note| note.len() <= 78), "{notes:?}");
    }
}
