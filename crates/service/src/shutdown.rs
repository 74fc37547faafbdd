//! The end of a process on request.

use tokio_util::sync::CancellationToken;

/// Exit code after a second signal, when the process does not wait for anything any more.
pub const INTERRUPTED_EXIT_CODE: i32 = 130;

/// A token that is cancelled when the process is asked to end (SIGTERM, SIGINT; Ctrl-C on Windows). A second such signal ends
/// the process at once with exit code [`INTERRUPTED_EXIT_CODE`]. To be called once, in a runtime.
pub fn stop_on_signals() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    let mut signals = Signals::new();
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::info!(
            signal = name,
            "asked to end: finishing what is in hand; a second signal ends at once"
        );
        token.cancel();
        let name = signals.next().await;
        tracing::warn!(signal = name, "ending at once");
        std::process::exit(INTERRUPTED_EXIT_CODE);
    });
    stop
}

#[cfg(unix)]
struct Signals(Option<tokio::signal::unix::Signal>, Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};

        let open = |kind| match signal(kind) {
            Ok(signal) => Some(signal),
            Err(error) => {
                tracing::error!(%error, "a signal cannot be caught: it ends the process at once");
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
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Self
    }

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

    const CHILD: &str = "FORGE_TEST_SIGNALS";

    /// Runs itself in a process of its own, since it is the process that ends.
    #[test]
    fn the_first_signal_asks_and_the_second_ends() {
        if env::var_os(CHILD).is_some() {
            return child();
        }
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "shutdown::tests::the_first_signal_asks_and_the_second_ends", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        for (line, signal) in [("up", "TERM"), ("asked", "INT")] {
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
            eprintln!("asked");
            std::future::pending().await
        })
    }
}
