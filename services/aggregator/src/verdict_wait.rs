//! Noticing that a job makes no progress, and that it waits for verifiers. Any policy may need one:
//! results that contradict each other are always verified, and so are those of a suspect pool.

use std::time::Duration;

use forge_contract::job::JobProgress;
use tokio::time::Instant;

/// How long verdicts are missing, without any progress, before the job counts as waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Interval between two reports of a job without progress.
const STALL_INTERVAL: Duration = Duration::from_secs(30);
/// Why the job waits, for its record.
const REASON: &str = "results wait for a verifier to execute their shards again";

/// The last observation of a job that differed from the one before, and its time.
#[derive(Debug, Default)]
pub(crate) struct VerdictWait {
    last: Option<((JobProgress, usize), Instant)>,
    /// When the job was last reported as stalled.
    stall_reported: Option<Instant>,
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
                self.stall_reported = None;
                None
            }
        }
    }

    /// Whether nothing has changed for [`STALL_INTERVAL`], or since the last report of that.
    pub fn is_stalled(&mut self) -> bool {
        let Some((_, since)) = self.last else { return false };
        let is_stalled = self.stall_reported.unwrap_or(since).elapsed() >= STALL_INTERVAL;
        if is_stalled {
            self.stall_reported = Some(Instant::now());
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
    async fn a_job_without_progress_is_reported_as_stalled_at_intervals() {
        let mut wait = VerdictWait::default();
        assert!(!wait.is_stalled());
        for observations in [JobProgress::default(), JobProgress { shards_done: 1, ..Default::default() }] {
            wait.observe(observations, 0);
            for _ in 0..2 {
                advance(STALL_INTERVAL / 2).await;
                wait.observe(observations, 0);
                assert!(!wait.is_stalled());
                advance(STALL_INTERVAL / 2).await;
                wait.observe(observations, 0);
                assert!(wait.is_stalled());
            }
        }
    }
}
