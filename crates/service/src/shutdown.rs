//! Graceful shutdown on a signal.

use tokio_util::sync::CancellationToken;

/// Exit code after a second signal, which ends the process without waiting for in-flight work.
pub const INTERRUPTED_EXIT_CODE: i32 = 130;

/// Returns a token that is cancelled by SIGTERM or SIGINT (Ctrl-C on Windows). A second such signal
/// exits the process at once with [`INTERRUPTED_EXIT_CODE`]. Call it once, within a tokio runtime.
pub fn stop_on_signals() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    #[cfg(unix)]
    let mut signals = UnixSignals::new();
    #[cfg(not(unix))]
    let mut signals = CtrlC;
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::info!(
            signal = name,
            "shutting down once in-flight work is complete; a second signal exits at once"
        );
        token.cancel();
        let name = signals.next().await;
        tracing::warn!(signal = name, "second signal; exiting without waiting for in-flight work");
        std::process::exit(INTERRUPTED_EXIT_CODE);
    });
    stop
}

#[cfg(unix)]
struct UnixSignals(Option<tokio::signal::unix::Signal>, Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl UnixSignals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};

        let open = |kind| match signal(kind) {
            Ok(signal) => Some(signal),
            Err(error) => {
                tracing::error!(%error, "installing a signal handler failed; this signal will exit the process at once");
                None
            }
        };
        Self(open(SignalKind::terminate()), open(SignalKind::interrupt()))
    }

    async fn next(&mut self) -> &'static str {
        async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
            if let Some(signal) = signal
                && signal.recv().await.is_some()
            {
                return;
            }
            std::future::pending().await
        }
        tokio::select! {
            () = received(&mut self.0) => "SIGTERM",
            () = received(&mut self.1) => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
struct CtrlC;

#[cfg(not(unix))]
impl CtrlC {
    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        env,
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    const CHILD_VARIABLE: &str = "FORGE_TEST_SIGNALS";

    /// Re-runs this test in a child process, since the second signal ends the whole process.
    #[test]
    fn the_first_signal_cancels_the_token_and_the_second_exits() {
        if env::var_os(CHILD_VARIABLE).is_some() {
            return child();
        }
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "shutdown::tests::the_first_signal_cancels_the_token_and_the_second_exits",
                "--nocapture",
            ])
            .env(CHILD_VARIABLE, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        for (line, signal) in [("up", "TERM"), ("cancelled", "INT")] {
            assert!(lines.any(|found| found.unwrap() == line), "{line}");
            let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
            assert!(sent.success());
        }
        assert_eq!(child.wait().unwrap().code(), Some(super::INTERRUPTED_EXIT_CODE));
    }

    fn child() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let stop = super::stop_on_signals();
            eprintln!("up");
            stop.cancelled().await;
            eprintln!("cancelled");
            std::future::pending().await
        })
    }
}
