//! The progress of a job executed in this process, on standard error: a bar on a terminal, and a
//! line every ten seconds elsewhere. Short runs show none.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use forge_documents::number_format;
use forge_kernel::request::Request;
use forge_service::executor::ProgressCallback;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// Runs shorter than this show no progress bar.
const BAR_DELAY: Duration = Duration::from_millis(500);
/// Interval between two redraws.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between two lines where there is no terminal.
pub const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// The bar, and a message that is cut to the width of the terminal.
pub const BAR_TEMPLATE: &str = "{bar:20} {percent:>3}%  {wide_msg}";

/// Counts executed iterations. Clones share one count.
#[derive(Debug, Clone, Default)]
pub struct IterationCounter(Arc<AtomicU64>);

impl IterationCounter {
    /// The callback through which an executor reports iterations.
    pub fn callback(&self) -> ProgressCallback {
        let counter = self.clone();
        Arc::new(move |iterations| counter.add(iterations))
    }

    /// Adds executed iterations.
    pub fn add(&self, iterations: u64) {
        self.0.fetch_add(iterations, Ordering::Relaxed);
    }

    /// Iterations executed so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How the progress of one job is shown.
#[derive(Debug, Clone, Copy)]
pub struct ProgressDisplay {
    is_enabled: bool,
    /// Iterations to execute, including those executed a second time for verification.
    total_iterations: u64,
    /// Plural noun of the profile for iterations, as in "years".
    iteration_noun: &'static str,
}

impl ProgressDisplay {
    /// The display for executing `total_iterations` of a request.
    pub fn new(is_enabled: bool, request: &Request, total_iterations: u64) -> Self {
        Self { is_enabled, total_iterations, iteration_noun: request.profile().vocabulary.iterations }
    }

    /// Runs `work` while the bar shows `counter`.
    pub fn show_during<T>(&self, counter: &IterationCounter, work: impl FnOnce() -> T) -> T {
        if !self.is_enabled {
            return work();
        }
        thread::scope(|scope| {
            // Dropping the sender ends the drawing thread, also when `work` panics.
            let (stop_drawing, stopped) = mpsc::channel::<()>();
            scope.spawn(move || match io::stderr().is_terminal() {
                true => self.draw(counter, &stopped),
                false => self.print_lines(counter, &stopped),
            });
            let result = work();
            drop(stop_drawing);
            result
        })
    }

    /// Redraws the bar until the sending half of `stopped` is dropped.
    fn draw(&self, counter: &IterationCounter, stopped: &mpsc::Receiver<()>) {
        let start = Instant::now();
        if stopped.recv_timeout(BAR_DELAY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(self.total_iterations), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(BAR_TEMPLATE);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        loop {
            let done = counter.get().min(self.total_iterations);
            bar.set_message(self.message(done, start.elapsed()));
            bar.set_position(done);
            if stopped.recv_timeout(REDRAW_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        bar.finish_and_clear();
    }

    /// Prints a line at every interval until the sending half of `stopped` is dropped.
    fn print_lines(&self, counter: &IterationCounter, stopped: &mpsc::Receiver<()>) {
        let start = Instant::now();
        while stopped.recv_timeout(LINE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let done = counter.get().min(self.total_iterations);
            let percent = 100.0 * done as f64 / self.total_iterations as f64;
            output::print_to_stderr(&format!("{percent:.0}%  {}", self.message(done, start.elapsed())));
        }
    }

    fn message(&self, done: u64, elapsed: Duration) -> String {
        let rate = done as f64 / elapsed.as_secs_f64().max(1e-9);
        let left = Duration::try_from_secs_f64((self.total_iterations - done) as f64 / rate.max(1e-9));
        let left = left.map_or_else(|_| "unknown time".to_owned(), number_format::format_duration);
        let noun = self.iteration_noun;
        format!(
            "{} {noun}, {}/s, {left} left",
            number_format::format_count(done),
            number_format::format_rate(rate)
        )
    }
}
