//! The thread on which documents of the store are parsed, so that other requests are served
//! meanwhile. It is a single one, because an allocator keeps for each thread what it has used.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Sender, channel},
    thread,
};

use tokio::sync::oneshot;

type DocumentTask = Box<dyn FnOnce() + Send>;

/// Hands work to the thread, which ends when this is dropped.
#[derive(Debug)]
pub struct DocumentThread(Sender<DocumentTask>);

impl DocumentThread {
    /// Starts the thread.
    pub fn start() -> Self {
        let (sender, tasks) = channel::<DocumentTask>();
        thread::spawn(move || {
            for task in tasks {
                // The caller notices that it gets no result.
                let _ = catch_unwind(AssertUnwindSafe(task));
            }
        });
        Self(sender)
    }

    /// Runs `parse` after earlier work; `None` if it panicked.
    pub async fn run<T: Send + 'static>(&self, parse: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, result) = oneshot::channel();
        self.0.send(Box::new(move || drop(sender.send(parse())))).ok()?;
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_thread_survives_a_panic() {
        let thread = DocumentThread::start();
        assert_eq!(thread.run(|| -> u8 { panic!("a test") }).await, None);
        assert_eq!(thread.run(|| 7).await, Some(7));
    }
}
