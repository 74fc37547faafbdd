//! Noticing that a job makes no progress, and that it waits for verifiers. Any policy may need one:
//! results that contradict each other are always verified, and so are those of a suspect pool.

use std::time::Duration;

use forge_contract::job::JobProgress;
use tokio::time::Instant;

/// How long verdicts are missing, without any progress, before the job counts as waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time without progress before a job is first reported as stalled. Every report doubles the time
/// to the next one, because each makes the aggregator read all outcomes of the job.
const STALL_INTERVAL: Duration = Duration::from_secs(30);
/// Upper bound on the time between two reports.
const MAX_STALL_INTERVAL: Duration = Duration::from_secs(16 * 60);
/// Why the job waits, for its record.
const REASON: &str = "results wait for a verifier to execute their shards again";

/// The last observation of a job that differed from the one before, and its time.
#[derive(Debug, Default)]
pub(crate) struct VerdictWait {
    last: Option<((JobProgress, usize), Instant)>,
    /// The next report of the job as stalled, and the time since the one before.
    next_stall: Option<(Instant, Duration)>,
}

impl VerdictWait {
    /// Notes the progress of a job and how many of its results have no verdict yet. Returns why it
    /// waits, if it does.
    pub fn observe(&mut self, progress: JobProgress, pending_verdicts: usize) -> Option<&'static str> {
        let observed = (progress, pending_verdicts);
        match self.last {
            Some((last, since)) if last == observed => {
                (pending_verdicts > 0 && since.elapsed() >= PATIENCE).then_some(REASON)
            }
            _ => {
                self.last = Some((observed, Instant::now()));
                self.next_stall = None;
                None
            }
        }
    }

    /// Time since the last change.
    pub fn idle_time(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    /// Whether nothing has changed for [`STALL_INTERVAL`], or for the interval that follows the
    /// last report of that.
    pub fn is_stalled(&mut self) -> bool {
        let Some((_, since)) = self.last else { return false };
        let (at, interval) = self.next_stall.unwrap_or((since + STALL_INTERVAL, STALL_INTERVAL));
        let is_stalled = Instant::now() >= at;
        if is_stalled {
            let interval = (interval * 2).min(MAX_STALL_INTERVAL);
            self.next_stall = Some((Instant::now() + interval, interval));
        }
        is_stalled
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_job_waits_while_verdicts_are_missing_and_nothing_changes() {
        let mut wait = VerdictWait::default();
        let progress = |shards_done| JobProgress { shards_done, ..JobProgress::default() };
        assert_eq!(wait.observe(progress(1), 2), None);
        advance(PATIENCE).await;
        assert_eq!(wait.observe(progress(1), 2), Some(REASON));
        // A verdict, and then a result.
        assert_eq!(wait.observe(progress(1), 1), None);
        advance(PATIENCE / 2).await;
        assert_eq!(wait.observe(progress(2), 1), None);
        advance(PATIENCE / 2).await;
        assert_eq!(wait.observe(progress(2), 1), None);
        advance(PATIENCE).await;
        assert_eq!(wait.observe(progress(2), 1), Some(REASON));
        // Without a missing verdict, it waits for workers.
        assert_eq!(wait.observe(progress(2), 0), None);
        advance(PATIENCE).await;
        assert_eq!(wait.observe(progress(2), 0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_without_progress_is_reported_as_stalled_at_growing_intervals() {
        let (mut wait, second) = (VerdictWait::default(), Duration::from_secs(1));
        assert!(!wait.is_stalled());
        for progress in [JobProgress::default(), JobProgress { shards_done: 1, ..Default::default() }] {
            wait.observe(progress, 0);
            let mut intervals = Vec::new();
            let mut last = Instant::now();
            while intervals.len() < 8 {
                advance(second).await;
                wait.observe(progress, 0);
                if wait.is_stalled() {
                    intervals.push(last.elapsed().as_secs());
                    last = Instant::now();
                }
            }
            assert_eq!(intervals, [30, 60, 120, 240, 480, 960, 960, 960]);
        }
    }
}
