//! How much of the space for results a job may take, so that jobs with many results leave space for
//! others. Pure. Results stay stored until their job ends.

/// Part of the free space, as a multiple, that the results of a job may take. Alone, a job takes
/// four fifths of the space. A second one beside it takes four fifths of the rest.
const MAX_TIMES_FREE: u64 = 4;
/// Bytes of a stored result beside the result itself: the attestation, the subject and headers.
const STORED_OVERHEAD: u64 = 1536;

/// The results of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultVolume {
    /// Number of accepted results.
    accepted: u64,
    /// Space of the accepted results.
    stored: u64,
    /// Number of results that the job still needs.
    missing: u64,
}

impl ResultVolume {
    /// `bytes` is the size of the `accepted` results together.
    pub fn new(accepted: u64, bytes: u64, missing: u64) -> Self {
        let stored = accepted.saturating_mul(STORED_OVERHEAD).saturating_add(bytes);
        Self { accepted, stored, missing }
    }

    /// Whether the job needs more results.
    pub fn is_incomplete(&self) -> bool {
        self.missing > 0
    }

    /// Space of the accepted results, in bytes.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// How many results more the job may have in flight while `free` bytes are free: as many as
    /// leave the others their part of the space, or all of the missing ones, where these take less
    /// than half of it. That job then ends, which frees its space. Before its first result, each is
    /// assumed to have `max_result` bytes, and the job may have at least one.
    pub fn room(&self, free: u64, max_result: u64) -> u64 {
        let mean = match self.accepted {
            0 => max_result.saturating_add(STORED_OVERHEAD),
            accepted => (self.stored / accepted).max(1),
        };
        if self.missing.saturating_mul(mean) <= free / 2 {
            return self.missing;
        }
        let allowance = free.saturating_mul(MAX_TIMES_FREE).saturating_sub(self.stored);
        // Each result takes from the free space, too.
        let room = allowance / mean.saturating_mul(MAX_TIMES_FREE + 1);
        room.max(u64::from(self.accepted == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: u64 = 10_000;
    const SPACE: u64 = 1000 * RESULT;

    /// Lets a job add results one by one; returns how many.
    fn fill(free: &mut u64, missing: u64) -> u64 {
        let mut accepted = 0;
        loop {
            let volume =
                ResultVolume::new(accepted, accepted * (RESULT - STORED_OVERHEAD), missing - accepted);
            if missing == accepted || volume.room(*free, RESULT - STORED_OVERHEAD) == 0 {
                return accepted;
            }
            (accepted, *free) = (accepted + 1, *free - RESULT);
        }
    }

    #[test]
    fn jobs_whose_results_do_not_fit_leave_a_part_of_the_space_to_others() {
        let mut free = SPACE;
        assert_eq!(fill(&mut free, u64::MAX), 800);
        assert_eq!(fill(&mut free, u64::MAX), 160);
        assert_eq!(fill(&mut free, u64::MAX), 32);
        assert_eq!(fill(&mut free, 4), 4, "a small job completes");
    }

    #[test]
    fn a_job_whose_last_results_fit_completes() {
        assert_eq!(fill(&mut SPACE.clone(), 900), 900);
        assert_eq!(fill(&mut SPACE.clone(), 902), 800);
    }

    #[test]
    fn all_in_flight_results_are_within_the_part() {
        let volume = ResultVolume::new(0, 0, u64::MAX);
        assert_eq!(volume.room(SPACE, RESULT - STORED_OVERHEAD), 800);
        assert_eq!(volume.room(0, RESULT), 1, "the first result says how large they are");
        let volume = ResultVolume::new(400, 400 * (RESULT - STORED_OVERHEAD), u64::MAX);
        assert_eq!(volume.room(SPACE - 400 * RESULT, u64::MAX), 400);
        assert_eq!(volume.room(100 * RESULT, 1), 0);
        assert!(volume.room(u64::MAX, 1) > 1 << 40, "without a limit");
    }
}
