//! A value that several requests share, so that many open pages read it no more often than one.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

/// Least age at which a value is read again.
const MIN_AGE: Duration = Duration::from_secs(1);
/// A value that took long to read is kept for this many times as long, so that reading it takes at
/// most a tenth of the time.
const AGE_FACTOR: u32 = 9;

/// The value that was read last.
#[derive(Debug)]
pub struct Cached<T>(Mutex<Option<CachedValue<T>>>);

#[derive(Debug)]
struct CachedValue<T> {
    value: Arc<T>,
    read_at: Instant,
    max_age: Duration,
}

impl<T> Cached<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The last value if it is recent, and else the one that `read` yields. Requests that arrive
    /// meanwhile wait for it.
    ///
    /// # Errors
    /// Any error of `read`.
    pub async fn get<E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let mut cached = self.0.lock().await;
        if let Some(cached) = cached.as_ref().filter(|cached| cached.read_at.elapsed() < cached.max_age) {
            return Ok(Arc::clone(&cached.value));
        }
        let start = Instant::now();
        let value = Arc::new(read.await?);
        let max_age = MIN_AGE.max(AGE_FACTOR * start.elapsed());
        *cached = Some(CachedValue { value: Arc::clone(&value), read_at: Instant::now(), max_age });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicU32, Ordering},
    };

    use tokio::{join, time::sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_share_a_value_until_it_is_old_for_what_it_costs() {
        let (cached, reads) = (Cached::new(), AtomicU32::new(0));
        let get = async |cost| {
            let read = async {
                sleep(Duration::from_secs(cost)).await;
                Ok::<_, Infallible>(reads.fetch_add(1, Ordering::Relaxed))
            };
            *cached.get(read).await.unwrap()
        };
        assert_eq!(join!(get(2), get(2), get(2)), (0, 0, 0), "one reads for all");
        sleep(Duration::from_secs(17)).await;
        assert_eq!(get(0).await, 0);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(get(0).await, 1, "nine times as long as it took has passed");
        sleep(Duration::from_millis(900)).await;
        assert_eq!(get(0).await, 1);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(get(0).await, 2);
    }
}
