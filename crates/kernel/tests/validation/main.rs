//! Published answers against results: runs every case of `tests/validation`, and checks that
//! docs/validation.md is the report of these runs. `make validation` writes it.

mod cases;
mod check;
mod figures;
mod report;

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use cases::{ValidationCase, ValidationRun};
use check::Finding;

/// Writes the report instead of checking it.
const WRITE: &str = "FORGE_WRITE_VALIDATION";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The findings of all runs of all cases, in their order; runs are executed by several threads.
fn execute(cases: &[ValidationCase]) -> Vec<Vec<Finding>> {
    let runs: Vec<(&ValidationCase, usize, &ValidationRun)> = cases
        .iter()
        .flat_map(|case| case.runs.iter().enumerate().map(move |(number, run)| (case, number, run)))
        .collect();
    let findings = Mutex::new(vec![Vec::new(); runs.len()]);
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((case, number, run)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seed = format!("validation {} {}", case.id, number + 1);
                    let found = check::execute(run, &seed);
                    let at = runs.iter().position(|other| std::ptr::eq(other.2, *run)).unwrap();
                    findings.lock().unwrap()[at] = found;
                }
            });
        }
    });
    findings.into_inner().unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the environment says whether to write the report")]
fn results_agree_with_published_answers() {
    let directory = repository().join("tests/validation");
    let groups = cases::groups(&directory);
    let excluded = cases::not_expressible(&directory);
    let all: Vec<ValidationCase> = groups.iter().flat_map(|group| group.cases.clone()).collect();
    let findings = execute(&all);
    let report = report::report(&groups, &findings, &excluded);
    let path = repository().join("docs/validation.md");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &report).unwrap();
    }
    let failed: Vec<&str> =
        report.lines().filter(|line| line.starts_with('|') && line.ends_with("| **no** |")).collect();
    assert!(failed.is_empty(), "{} answers do not agree:\n{}", failed.len(), failed.join("\n"));
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let first = committed.lines().zip(report.lines()).find(|(old, new)| old != new);
    assert!(
        committed == report,
        "docs/validation.md is not up to date; run `make validation`. First difference: {first:#?}"
    );
}
