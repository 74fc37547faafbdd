//! The progress bar: on standard error, only where that is a terminal, and only for runs that take a while.

use std::{
    io::{self, IsTerminal},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use forge_documents::number_format;
use forge_kernel::request::Request;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Runs shorter than this show no bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two pictures.
const STEP: Duration = Duration::from_millis(100);

/// What is shown, if anything.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Whether a bar is wanted at all.
    wanted: bool,
    /// Iterations to execute.
    iterations: u64,
    /// How they are called, as in "years".
    word: &'static str,
}

impl Progress {
    /// The progress of executing `iterations` of a request.
    pub fn new(wanted: bool, request: &Request, iterations: u64) -> Self {
        Self { wanted, iterations, word: request.profile().vocabulary.iterations }
    }

    /// Does `work` while the bar shows how many iterations are `done`.
    pub fn during<T>(&self, done: &AtomicU64, work: impl FnOnce() -> T) -> T {
        if !self.wanted || !io::stderr().is_terminal() {
            return work();
        }
        thread::scope(|scope| {
            // Dropping the sender, also when `work` panics, ends the thread that draws.
            let (end, ended) = mpsc::channel::<()>();
            scope.spawn(move || self.draw(|| done.load(Ordering::Relaxed), &ended));
            let result = work();
            drop(end);
            result
        })
    }

    fn draw(&self, done: impl Fn() -> u64, ended: &mpsc::Receiver<()>) {
        let start = Instant::now();
        if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(self.iterations), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        loop {
            let done = done().min(self.iterations);
            bar.set_message(self.message(done, start.elapsed()));
            bar.set_position(done);
            if ended.recv_timeout(STEP) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        bar.finish_and_clear();
    }

    fn message(&self, done: u64, elapsed: Duration) -> String {
        let rate = done as f64 / elapsed.as_secs_f64().max(1e-9);
        let left = Duration::try_from_secs_f64((self.iterations - done) as f64 / rate.max(1e-9));
        let left = left.map_or_else(|_| "unknown time".to_owned(), number_format::format_duration);
        format!(
            "{} {}, {}/s, {left} left",
            number_format::format_count(done),
            self.word,
            number_format::format_rate(rate)
        )
    }
}
