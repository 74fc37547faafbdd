//! How often a connection has changed its server, because none serves JetStream: while no server
//! has a leader, a connection goes round among all of them.

use std::time::Duration;

use tokio::time::Instant;

/// Minimum time between two changes of the server. Longer than the election of a leader takes.
const SERVER_PATIENCE: Duration = Duration::from_secs(8);
/// A server that has been kept for this time served.
const SERVED_PERIOD: Duration = Duration::from_secs(60);

/// The changes of a connection's server that follow each other closely.
#[derive(Debug)]
pub(super) struct ServerChanges {
    /// When the connection was opened, or last left its server.
    since: Instant,
    /// Changes in a row.
    count: u64,
}

impl ServerChanges {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), count: 0 }
    }

    /// Counts a change of the server. Returns how many there were in a row, and `None` if it is too
    /// early for one.
    pub(super) fn next(&mut self) -> Option<u64> {
        let elapsed = self.since.elapsed();
        if elapsed < SERVER_PATIENCE {
            return None;
        }
        self.count = if elapsed < SERVED_PERIOD { self.count + 1 } else { 1 };
        self.since = Instant::now();
        Some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_of_the_server_are_counted_until_one_serves() {
        let mut changes = ServerChanges::new();
        assert_eq!(changes.next(), None);
        for count in 1..5 {
            advance(SERVER_PATIENCE).await;
            assert_eq!((changes.next(), changes.next()), (Some(count), None));
        }
        advance(SERVED_PERIOD).await;
        assert_eq!(changes.next(), Some(1));
    }
}
