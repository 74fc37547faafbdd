//! What ends a run from outside: a signal, or the time that its envelope allows. Also counts how far it has come.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use forge_contract::{artifact::Phase, error::FailureCode};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::failure::JobFailure;

/// Asked by every thread after every leaf.
#[derive(Debug)]
pub struct Stop {
    cancelled: Arc<AtomicBool>,
    timeout: Option<(Instant, u64)>,
    done: AtomicU64,
}

impl Stop {
    /// Stops at nothing but `timeout_ms` after `start`; 0 is no timeout.
    pub fn new(start: Instant, timeout_ms: u64) -> Self {
        let timeout = (timeout_ms > 0).then(|| (start + Duration::from_millis(timeout_ms), timeout_ms));
        Self { cancelled: Arc::default(), timeout, done: AtomicU64::new(0) }
    }

    /// Makes the first SIGINT or SIGTERM stop the run in good order, and the second one end the process at once.
    ///
    /// # Errors
    /// The system takes no signal handler.
    pub fn on_signals(&self) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag not set yet.
            flag::register_conditional_default(signal, Arc::clone(&self.cancelled))?;
            flag::register(signal, Arc::clone(&self.cancelled))?;
        }
        Ok(())
    }

    /// Counts iterations that have been executed.
    pub fn advance(&self, iterations: u64) {
        self.done.fetch_add(iterations, Ordering::Relaxed);
    }

    /// Iterations executed so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Why to stop now, if there is a reason.
    pub fn reason(&self, phase: Phase) -> Option<JobFailure> {
        if self.cancelled.load(Ordering::Relaxed) {
            let message = format!("stopped on request after {} iterations", self.done());
            return Some(JobFailure::new(FailureCode::Cancelled, phase, message));
        }
        let (_, allowed) = self.timeout.filter(|(deadline, _)| Instant::now() >= *deadline)?;
        let message = format!(
            "the job did not end within policy.timeout_ms, {allowed} ms; {} iterations were executed",
            self.done()
        );
        Some(JobFailure::new(FailureCode::Timeout, phase, message))
    }
}
