//! `audit`: checks what a completed job stored.

use std::{path::PathBuf, time::Duration};

use forge::{JobAuditArgs, JobControl, JobHost};
use pyo3::prelude::*;

use crate::{errors::to_exception, run::report_progress, task::Task};

/// Time that an interrupted audit has to end.
const CANCEL_PATIENCE: Duration = Duration::from_secs(30);

/// Audits the job of a manifest. Returns the report as JSON, and why something that was asked for
/// could not be done.
///
/// # Errors
/// The job cannot be read, an argument is wrong, or shards could not be executed again.
#[pyfunction]
#[pyo3(signature = (
    manifest, *, full, reexecute, seed, backend, threads, signers, allow_unsigned, on_progress
))]
#[expect(clippy::too_many_arguments, reason = "they are keyword arguments of a Python function")]
pub fn audit(
    py: Python<'_>,
    manifest: PathBuf,
    full: bool,
    reexecute: usize,
    seed: Option<String>,
    backend: String,
    threads: Option<u16>,
    signers: Option<PathBuf>,
    allow_unsigned: bool,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<(String, Option<String>)> {
    let args = JobAuditArgs { full, reexecute, seed, backend, threads, signers, allow_unsigned };
    let control = JobControl::default();
    let host = JobHost::Embedded(control.clone());
    let task = Task::start(move || forge::audit_manifest(&manifest, &args, &host))?;
    let outcome = task.wait(py, |py| report_progress(py, &control, on_progress.as_ref()));
    if outcome.is_err() {
        control.cancel();
        task.join(py, CANCEL_PATIENCE);
    }
    let report = outcome?.map_err(|error| to_exception(py, &error))?;
    Ok((report.to_json(), report.omission))
}
