//! The client of the services: submits jobs, follows them, and reads their artifacts.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use anyhow::anyhow;
use forge::{ClientConnection, CommandError, EnvelopeRun, StoreArgs};
use forge_contract::{
    ids::{JobId, Submitter},
    job::JobRecord,
};
use forge_service::NatsArgs;
use pyo3::prelude::*;

use crate::{
    errors::{envelope_error, forge_error, panicked, to_exception},
    run::parse_store,
    task::Task,
};

/// A connection to the services.
#[pyclass(frozen)]
pub struct NativeClient {
    connection: Arc<ClientConnection>,
    store: StoreArgs,
}

#[pymethods]
impl NativeClient {
    #[new]
    #[pyo3(signature = (nats_url, *, credentials, user, password, password_file, inbox_prefix, ca, store))]
    #[expect(clippy::too_many_arguments, reason = "Python's arguments have names")]
    fn new(
        py: Python<'_>,
        nats_url: Option<Vec<String>>,
        credentials: Option<PathBuf>,
        user: Option<String>,
        password: Option<String>,
        password_file: Option<PathBuf>,
        inbox_prefix: Option<String>,
        ca: Option<PathBuf>,
        store: &str,
    ) -> PyResult<Self> {
        let store = StoreArgs { store: parse_store(py, "store", store)? };
        let mut nats = NatsArgs::from_variables().map_err(|error| forge_error(py, &error.to_string()))?;
        nats.nats_url = nats_url.unwrap_or(nats.nats_url);
        nats.nats_ca = ca.or(nats.nats_ca);
        let is_path_given = credentials.is_some() || password_file.is_some();
        if is_path_given || user.is_some() || password.is_some() || inbox_prefix.is_some() {
            nats.nats_creds = credentials;
            nats.nats_user = user;
            nats.nats_password = password;
            nats.nats_password_file = password_file;
            nats.nats_inbox_prefix = inbox_prefix;
            nats.nats_nkey = None;
        }
        let connection = finish(py, move || ClientConnection::open(&nats))?;
        Ok(Self { connection: Arc::new(connection), store })
    }

    /// Submits an envelope. Returns the record of its job as JSON.
    #[pyo3(signature = (envelope, *, submitter))]
    fn submit(&self, py: Python<'_>, envelope: Vec<u8>, submitter: Option<&str>) -> PyResult<String> {
        let submitter = submitter.map_or_else(|| Ok(Submitter::default()), str::parse);
        let submitter = submitter.map_err(|error| forge_error(py, &format!("submitter: {error}")))?;
        let checked = py.detach(|| EnvelopeRun::new(&envelope, None).map(drop));
        checked.map_err(|errors| envelope_error(py, &errors))?;
        let connection = Arc::clone(&self.connection);
        to_json(&finish(py, move || connection.submit(envelope, &submitter))?)
    }

    /// Reads the record of a job, as JSON.
    fn status(&self, py: Python<'_>, job_id: &str) -> PyResult<String> {
        let (connection, job) = (Arc::clone(&self.connection), parse_job_id(py, job_id)?);
        to_json(&finish(py, move || connection.status(&job))?)
    }

    /// Cancels a job. Returns its record as JSON.
    fn cancel(&self, py: Python<'_>, job_id: &str) -> PyResult<String> {
        let (connection, job) = (Arc::clone(&self.connection), parse_job_id(py, job_id)?);
        to_json(&finish(py, move || connection.cancel(&job))?)
    }

    /// Follows a job until it has ended.
    fn watch(&self, py: Python<'_>, job_id: &str) -> PyResult<NativeWatch> {
        NativeWatch::start(Arc::clone(&self.connection), parse_job_id(py, job_id)?)
    }

    /// Reads an artifact of a completed job.
    fn read_artifact(&self, py: Python<'_>, job_id: &str, name: String) -> PyResult<Vec<u8>> {
        let (store, job) = (self.store.clone(), parse_job_id(py, job_id)?);
        finish(py, move || forge::read_artifact(&store, &job, &name))
    }

    /// Writes all artifacts of a completed job to a directory. Returns their names.
    fn fetch_artifacts(&self, py: Python<'_>, job_id: &str, directory: PathBuf) -> PyResult<Vec<String>> {
        let (store, job) = (self.store.clone(), parse_job_id(py, job_id)?);
        finish(py, move || forge::fetch_artifacts(&store, &job, &directory))
    }
}

type FollowedRecord = Result<JobRecord, CommandError>;

/// The records of a job that is followed. Dropping it ends that.
#[pyclass(frozen)]
pub struct NativeWatch(Mutex<Receiver<FollowedRecord>>);

impl NativeWatch {
    fn start(connection: Arc<ClientConnection>, job: JobId) -> PyResult<Self> {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("forge-watch".to_owned()).spawn(move || {
            let dropped = || CommandError::Other(anyhow!("the job is no longer followed"));
            let result = connection.status(&job).and_then(|record| {
                forge::follow_job(&connection, record, |record, has_changed| match has_changed {
                    true => sender.send(Ok(record.clone())).map_err(|_| dropped()),
                    false => Ok(()),
                })
            });
            // The receiver may have been dropped, which is then also the error.
            if let Err(error) = result {
                let _ = sender.send(Err(error));
            }
        })?;
        Ok(Self(Mutex::new(receiver)))
    }
}

#[pymethods]
impl NativeWatch {
    /// Waits up to `seconds` for the next record. Returns it as JSON; `None` if there is none yet,
    /// and an empty text once the job has ended.
    fn next(&self, py: Python<'_>, seconds: f64) -> PyResult<Option<String>> {
        let patience = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let received =
            py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience));
        match received {
            Ok(Ok(record)) => to_json(&record).map(Some),
            Ok(Err(error)) => Err(to_exception(py, &error)),
            Err(RecvTimeoutError::Timeout) => py.check_signals().map(|()| None),
            Err(RecvTimeoutError::Disconnected) => Ok(Some(String::new())),
        }
    }
}

/// Runs work on a thread of its own. A signal handler that raises an exception ends the wait; the
/// work then goes on without being waited for.
fn finish<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> PyResult<T> {
    Task::start(work)?.wait(py, |_| Ok(()))?.map_err(|error| to_exception(py, &error))
}

fn parse_job_id(py: Python<'_>, text: &str) -> PyResult<JobId> {
    text.parse().map_err(|error| forge_error(py, &format!("job_id: {error}")))
}

fn to_json(record: &JobRecord) -> PyResult<String> {
    serde_json::to_string(record).map_err(|_| panicked())
}
