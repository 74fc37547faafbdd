//! Whether other jobs wait for what a reduction holds: a slot, or memory. A job that makes no
//! progress gives both back then. Otherwise jobs that wait for workers or verifiers would keep all
//! others from being reduced.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use forge_service::memory_budget::MemoryBudget;

/// The slots of an aggregator, which its queue bounds. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct ReductionSlots {
    max_jobs: usize,
    used: Arc<AtomicUsize>,
    budget: MemoryBudget,
}

/// A slot in use, until it is dropped.
#[derive(Debug)]
pub(crate) struct ReductionSlot(Arc<AtomicUsize>);

impl ReductionSlots {
    pub fn new(max_jobs: usize, budget: MemoryBudget) -> Self {
        Self { max_jobs, used: Arc::default(), budget }
    }

    /// Counts a slot as used.
    pub fn enter(&self) -> ReductionSlot {
        self.used.fetch_add(1, Ordering::Relaxed);
        ReductionSlot(Arc::clone(&self.used))
    }

    /// Whether all slots are in use, or a job waits for memory.
    pub fn are_contended(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.max_jobs || self.budget.has_waiters()
    }
}

impl Drop for ReductionSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_contended_while_all_are_in_use() {
        let slots = ReductionSlots::new(2, MemoryBudget::new(1));
        let first = slots.enter();
        assert!(!slots.are_contended());
        let second = slots.enter();
        assert!(slots.are_contended());
        drop(first);
        assert!(!slots.are_contended());
        drop(second);
    }
}
