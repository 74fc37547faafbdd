//! SIGINT and SIGTERM for commands that run a job: the first one is reported so that the command
//! can stop in an orderly way, the second one has its default effect and kills the process.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// Reports the first SIGINT or SIGTERM.
pub struct InterruptSignal {
    received: Arc<AtomicBool>,
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

impl InterruptSignal {
    /// Installs the handlers. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The operating system refuses a signal handler.
    pub fn new() -> io::Result<Self> {
        let received = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the conditional default runs first, so the first signal still
            // finds the flag unset and only the second one kills the process.
            flag::register_conditional_default(signal, Arc::clone(&received))?;
            flag::register(signal, Arc::clone(&received))?;
        }
        Ok(Self {
            received,
            #[cfg(unix)]
            signals: {
                use tokio::signal::unix::{SignalKind, signal};
                [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]
            },
        })
    }

    /// Waits for the first signal; returns at once if it has already arrived.
    pub async fn wait(&mut self) {
        if self.received.load(Ordering::Relaxed) {
            return;
        }
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
