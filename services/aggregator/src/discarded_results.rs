//! Removal of stored results that do not count. Workers publish below the uid of any job that they
//! have seen, so such results would fill their stream until the job ends, and delay all jobs.

use forge_bus::{SharedBus, topology::Stream};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Results that wait for their removal, at most. Further ones stay until their job ends.
const MAX_WAITING: usize = 1 << 16;
/// Removals at the same time.
const CONCURRENT_REMOVALS: usize = 64;

/// Removes discarded results in the background.
#[derive(Debug)]
pub(crate) struct DiscardedResults(mpsc::Sender<u64>);

impl DiscardedResults {
    /// Starts the removal, which runs until `stop` is cancelled.
    pub fn start(bus: SharedBus, stop: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        tokio::spawn(async move { stop.run_until_cancelled(remove_all(bus, receiver)).await });
        Self(sender)
    }

    /// Removes results by their sequences in the stream. The caller has published the outcomes
    /// that follow from them: no later reader learns of these results.
    pub fn remove(&self, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            if self.0.try_send(sequence).is_err() {
                return;
            }
        }
    }
}

/// Removes the results whose sequences arrive.
async fn remove_all(bus: SharedBus, mut sequences: mpsc::Receiver<u64>) {
    let mut removals = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = removals.next() => {}
            Some(sequence) = sequences.recv(), if removals.len() < CONCURRENT_REMOVALS => {
                removals.push(remove(bus.clone(), sequence));
            }
            else => return,
        }
    }
}

async fn remove(bus: SharedBus, sequence: u64) {
    if let Err(error) = bus.remove(Stream::Results, sequence).await {
        tracing::debug!(%error, sequence, "removing a discarded result failed; it stays");
    }
}
