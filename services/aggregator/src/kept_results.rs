//! The shard results of a job that are kept for `shards.bin`, in memory until the job is published.
//! A job whose results are larger than the limit keeps none, and neither does one for which there
//! is no room beside the other jobs. Nothing else depends on what is kept.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use forge_contract::shard::ShardId;

/// Jobs of the largest size whose results are kept at the same time.
const LARGEST_JOBS: u64 = 8;

/// How much is kept, shared by all jobs of an aggregator.
#[derive(Debug, Clone)]
pub(crate) struct KeptResultsLimit {
    /// Upper bound for one job, in bytes.
    per_job: u64,
    /// Bytes kept for all jobs.
    in_memory: Arc<AtomicU64>,
}

impl KeptResultsLimit {
    pub fn new(per_job: u64) -> Self {
        Self { per_job, in_memory: Arc::default() }
    }

    /// Reserves memory. Returns whether there was room for it.
    fn reserve(&self, bytes: u64) -> bool {
        let total = self.per_job.saturating_mul(LARGEST_JOBS);
        let add = |used: u64| used.checked_add(bytes).filter(|&used| used <= total);
        self.in_memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// The kept results of one job.
#[derive(Debug)]
pub(crate) struct KeptResults {
    limit: KeptResultsLimit,
    bytes: u64,
    /// The canonical bytes of each accepted result; `None` if none are kept.
    results: Option<BTreeMap<ShardId, Bytes>>,
}

impl KeptResults {
    pub fn new(limit: KeptResultsLimit) -> Self {
        let results = (limit.per_job > 0).then(BTreeMap::new);
        Self { limit, bytes: 0, results }
    }

    /// Keeps the accepted result of a shard, unless that would exceed the limit: then none is kept.
    pub fn insert(&mut self, shard: ShardId, result: Bytes) {
        let Some(results) = &mut self.results else { return };
        let size = result.len() as u64;
        if self.bytes.saturating_add(size) > self.limit.per_job || !self.limit.reserve(size) {
            self.results = None;
            return self.release();
        }
        self.bytes += size;
        results.insert(shard, result);
    }

    /// The results by shard; `None` if none are kept.
    pub fn get(&self) -> Option<&BTreeMap<ShardId, Bytes>> {
        self.results.as_ref()
    }

    fn release(&mut self) {
        self.limit.in_memory.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for KeptResults {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_after(limit: &KeptResultsLimit, sizes: &[usize]) -> KeptResults {
        let mut kept = KeptResults::new(limit.clone());
        for (index, &size) in (0..).zip(sizes) {
            kept.insert(ShardId { height: 0, index }, vec![0; size].into());
        }
        kept
    }

    #[test]
    fn a_job_beyond_the_limit_keeps_nothing() {
        let limit = KeptResultsLimit::new(100);
        assert_eq!(kept_after(&limit, &[60, 40]).get().map(BTreeMap::len), Some(2));
        assert!(kept_after(&limit, &[60, 41]).get().is_none());
        assert!(kept_after(&limit, &[60, 41, 1]).get().is_none());
        assert!(kept_after(&KeptResultsLimit::new(0), &[]).get().is_none());
        assert!(kept_after(&KeptResultsLimit::new(u64::MAX), &[1 << 20]).get().is_some());
    }

    #[test]
    fn memory_is_bounded_over_all_jobs_and_released() {
        let limit = KeptResultsLimit::new(100);
        let mut jobs: Vec<_> = (0..LARGEST_JOBS).map(|_| kept_after(&limit, &[100])).collect();
        assert!(jobs.iter().all(|job| job.get().is_some()));
        assert!(kept_after(&limit, &[1]).get().is_none());
        jobs.pop();
        assert!(kept_after(&limit, &[100]).get().is_some());
        drop(jobs);
        assert_eq!(limit.in_memory.load(Ordering::Relaxed), 0);
    }
}
