//! The shard results of a job that are kept for `shards.bin`, in memory until the job is published.
//! A job whose results are larger than the limit keeps none, and neither does one for which the
//! memory budget has no room beside the other jobs. Nothing else depends on what is kept.

use std::collections::BTreeMap;

use bytes::Bytes;
use forge_contract::shard::ShardId;
use forge_service::memory_budget::{MemoryBudget, MemoryReservation};

/// The memory for results of shards, beside what each job takes anyway.
#[derive(Debug, Clone)]
pub(crate) struct ResultMemory {
    /// Upper bound on the kept results of one job, in bytes.
    pub max_kept_bytes: u64,
    /// Shared by all jobs.
    pub budget: MemoryBudget,
}

/// The kept results of one job.
#[derive(Debug)]
pub(crate) struct KeptResults {
    memory: ResultMemory,
    bytes: u64,
    reservation: Option<MemoryReservation>,
    /// The canonical bytes of each accepted result; `None` if none are kept.
    results: Option<BTreeMap<ShardId, Bytes>>,
}

impl KeptResults {
    pub fn new(memory: ResultMemory) -> Self {
        let results = (memory.max_kept_bytes > 0).then(BTreeMap::new);
        Self { memory, bytes: 0, reservation: None, results }
    }

    /// Keeps the accepted result of a shard, unless that would exceed a limit: then none is kept.
    pub fn insert(&mut self, shard: ShardId, result: Bytes) {
        let Some(results) = &mut self.results else { return };
        self.bytes = self.bytes.saturating_add(result.len() as u64);
        let is_small = self.bytes <= self.memory.max_kept_bytes;
        // `shards.bin` is one more copy of the results.
        let added = is_small.then(|| self.memory.budget.try_reserve_spare(2 * result.len() as u64)).flatten();
        let Some(added) = added else {
            (self.results, self.reservation) = (None, None);
            return;
        };
        match &mut self.reservation {
            Some(reservation) => reservation.merge(added),
            None => self.reservation = Some(added),
        }
        results.insert(shard, result);
    }

    /// The results by shard; `None` if none are kept.
    pub fn get(&self) -> Option<&BTreeMap<ShardId, Bytes>> {
        self.results.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn memory(max_kept_bytes: u64, budget: u64) -> ResultMemory {
        ResultMemory { max_kept_bytes, budget: MemoryBudget::new(budget) }
    }

    fn kept_after(memory: &ResultMemory, sizes: &[usize]) -> KeptResults {
        let mut kept = KeptResults::new(memory.clone());
        for (index, &size) in (0..).zip(sizes) {
            kept.insert(ShardId { height: 0, index }, vec![0; size].into());
        }
        kept
    }

    #[test]
    fn a_job_beyond_the_limit_keeps_nothing() {
        let limit = memory(100, u64::MAX);
        assert_eq!(kept_after(&limit, &[60, 40]).get().map(BTreeMap::len), Some(2));
        assert!(kept_after(&limit, &[60, 41]).get().is_none());
        assert!(kept_after(&limit, &[60, 41, 1]).get().is_none());
        assert!(kept_after(&memory(0, u64::MAX), &[]).get().is_none());
        assert!(kept_after(&memory(u64::MAX, u64::MAX), &[1 << 20]).get().is_some());
    }

    #[test]
    fn all_jobs_together_keep_a_quarter_of_the_budget_and_return_it() {
        let limit = memory(u64::MAX, 16 * KIB as u64);
        let mut jobs: Vec<_> = (0..4).map(|_| kept_after(&limit, &[KIB])).collect();
        assert!(jobs.iter().all(|job| job.get().is_some()));
        assert!(kept_after(&limit, &[1]).get().is_none());
        jobs.pop();
        assert!(kept_after(&limit, &[KIB]).get().is_some());
        drop(jobs);
        assert!(limit.budget.try_reserve(16 * KIB as u64).is_some());
    }
}
