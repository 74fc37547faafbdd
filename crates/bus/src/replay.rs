//! The replay of a stream: its stored messages, then new ones, with the boundary between them.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::stream::{BoxStream, Stream, StreamExt};

use crate::message::StoredMessage;

/// What an implementation of [`Bus`](crate::Bus) reports to a [`Replay`].
#[derive(Debug)]
pub(crate) enum ReplayEvent {
    /// The next message, in order of the sequence.
    Message(StoredMessage),
    /// Every message that was stored when the replay began has been reported or removed. Reported
    /// exactly once.
    CaughtUp,
}

/// The messages of a stream in order: first those that were stored when the replay began, then new
/// ones as they arrive. As a [`Stream`] it yields both, without end.
///
/// ```
/// use forge_bus::{Bus, MemoryBus, topology::{Stream, TopologySettings}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), forge_bus::BusError> {
/// let bus = MemoryBus::new(TopologySettings::default());
/// bus.prepare().await?;
/// let filters = vec!["forge.v1.results.default.>".to_owned()];
/// let mut replay = bus.replay(Stream::Results, filters).await?;
/// while let Some(stored) = replay.next_stored().await {
///     println!("stored before: {}", stored.message.subject);
/// }
/// assert!(replay.is_caught_up());
/// # Ok(())
/// # }
/// ```
pub struct Replay {
    events: BoxStream<'static, ReplayEvent>,
    is_caught_up: bool,
}

impl Replay {
    pub(crate) fn new(events: BoxStream<'static, ReplayEvent>) -> Self {
        Self { events, is_caught_up: false }
    }

    /// The same replay, which waits for a future before it yields each message. For tests of
    /// services with a slow server.
    #[cfg(feature = "testing")]
    pub fn paced(
        self,
        pause: impl Fn() -> futures_util::future::BoxFuture<'static, ()> + Send + 'static,
    ) -> Self {
        let events = self.events.then(move |event| {
            let paused = pause();
            async move {
                paused.await;
                event
            }
        });
        Self { events: events.boxed(), is_caught_up: self.is_caught_up }
    }

    /// Waits for the next message that was stored when the replay began; `None` once all of them
    /// have been yielded, however many have arrived since. May yield some of those too. The future
    /// may be dropped: no message is lost.
    pub async fn next_stored(&mut self) -> Option<StoredMessage> {
        if self.is_caught_up {
            return None;
        }
        match self.events.next().await {
            Some(ReplayEvent::Message(message)) => Some(message),
            Some(ReplayEvent::CaughtUp) | None => {
                self.is_caught_up = true;
                None
            }
        }
    }

    /// Whether every message that was stored when the replay began has been yielded.
    pub fn is_caught_up(&self) -> bool {
        self.is_caught_up
    }
}

impl Stream for Replay {
    type Item = StoredMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StoredMessage>> {
        loop {
            match self.events.poll_next_unpin(cx) {
                Poll::Ready(Some(ReplayEvent::Message(message))) => return Poll::Ready(Some(message)),
                Poll::Ready(Some(ReplayEvent::CaughtUp)) => self.is_caught_up = true,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("is_caught_up", &self.is_caught_up).finish_non_exhaustive()
    }
}
