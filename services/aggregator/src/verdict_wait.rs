//! Noticing that a job waits for verifiers. Any policy may need one: results that contradict each
//! other are always verified, and so are those of a suspect pool.

use std::time::Duration;

use forge_contract::job::JobProgress;
use tokio::time::Instant;

/// How long verdicts are missing, without any progress, before the job counts as waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Why the job waits, for its record.
const REASON: &str = "results wait for a verifier to execute their shards again";

/// The last observation of a job that differed from the one before, and its time.
#[derive(Debug, Default)]
pub(crate) struct VerdictWait(Option<((JobProgress, usize), Instant)>);

impl VerdictWait {
    /// Notes the progress of a job and how many of its results have no verdict yet. Returns why it
    /// waits, if it does.
    pub fn observe(&mut self, progress: JobProgress, pending_verdicts: usize) -> Option<&'static str> {
        let observed = (progress, pending_verdicts);
        match self.0 {
            Some((last, since)) if last == observed => {
                (pending_verdicts > 0 && since.elapsed() >= PATIENCE).then_some(REASON)
            }
            _ => {
                self.0 = Some((observed, Instant::now()));
                None
            }
        }
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
}
