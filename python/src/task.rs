//! Work on a thread of its own, for which a thread of Python waits without the interpreter's lock.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use pyo3::prelude::*;

use crate::errors::panicked;

/// Interval at which a waiting thread handles signals and reports progress.
const TICK: Duration = Duration::from_millis(100);

/// Running work and its result.
pub struct Task<T>(Mutex<Receiver<T>>);

impl<T: Send> Task<T> {
    /// Starts work. It goes on when the task is dropped.
    ///
    /// # Errors
    /// The operating system provides no thread.
    pub fn start(work: impl FnOnce() -> T + Send + 'static) -> PyResult<Self>
    where
        T: 'static,
    {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("forge".to_owned()).spawn(move || {
            // The receiver may have been dropped, in which case there is no use for the result.
            let _ = sender.send(work());
        })?;
        Ok(Self(Mutex::new(receiver)))
    }

    /// Waits for the result. Handles signals, and calls `on_tick`, at every [`TICK`].
    ///
    /// # Errors
    /// A signal handler or `on_tick` raised an exception; the work goes on. Or the work panicked.
    pub fn wait(&self, py: Python<'_>, mut on_tick: impl FnMut(Python<'_>) -> PyResult<()>) -> PyResult<T> {
        loop {
            match py.detach(|| self.receive(TICK)) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => {
                    py.check_signals()?;
                    on_tick(py)?;
                }
                Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
            }
        }
    }

    /// Waits until the work has ended, for at most `patience`.
    pub fn join(&self, py: Python<'_>, patience: Duration) {
        // Only the end matters: the caller has no use for the result.
        let _ = py.detach(|| self.receive(patience));
    }

    fn receive(&self, patience: Duration) -> Result<T, RecvTimeoutError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience)
    }
}
