//! Computations that take too long for a thread that also serves other tasks.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Calls `compute` while other threads take over the tasks of this one. In a runtime of a single
/// thread, as simulations use, it is a plain call.
pub fn compute_blocking<T>(compute: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(compute),
        _ => compute(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_go_on() {
        let (sender, receiver) = mpsc::channel();
        let computing = tokio::spawn(async move {
            let (other, done) = (tokio::spawn(async move { sender.send(7) }), receiver);
            // The only worker thread waits here for the other task.
            let received = compute_blocking(|| done.recv());
            other.await.unwrap().unwrap();
            received
        });
        assert_eq!(computing.await.unwrap(), Ok(7));
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_computes_at_once() {
        assert_eq!(compute_blocking(|| 7), 7);
    }
}
