//! The events of the iterations in a vector, in the order of every iteration, and where their draws
//! are.

use super::{
    super::vector::Vector,
    draws::{Column, YearBatch},
    model::PreparedPortfolio,
};

/// Most lanes of a vector.
pub(super) const MAX_LANES: usize = 8;

/// A number for each lane.
pub(super) type Lanes = [u64; MAX_LANES];

/// The iterations in a vector.
#[derive(Clone, Copy)]
pub(super) struct VectorYears<'a> {
    pub(super) batch: &'a YearBatch,
    /// Place of the first iteration in the batch.
    pub(super) first: usize,
    /// Place of the first lane in the draws.
    pub(super) first_lane: usize,
}

impl VectorYears<'_> {
    #[inline]
    fn lanes_of(self, column: &Column, lanes: usize) -> Lanes {
        let mut values = [0; MAX_LANES];
        values[..lanes].copy_from_slice(&column[self.first..self.first + lanes]);
        values
    }
}

/// Events of one group that follow one another.
#[derive(Clone, Copy)]
pub(super) struct EventRun {
    pub(super) group: usize,
    /// For each lane, the number of events.
    pub(super) counts: Lanes,
    /// For each lane, the number of draws before the first event.
    pub(super) draws_before: [usize; MAX_LANES],
    /// Whether all lanes have as many draws before the first event.
    pub(super) is_aligned: bool,
}

impl EventRun {
    /// The draws at this distance behind those before the run. Any value behind the last draw.
    #[inline(always)]
    pub(super) fn read<V: Vector>(&self, draws: &[u64], years: VectorYears<'_>, behind: usize) -> V {
        let width = 2 * V::LANES;
        if self.is_aligned {
            return V::load(&draws[(self.draws_before[0] + behind) * width + years.first_lane..]);
        }
        let mut lanes = [0; MAX_LANES];
        for (lane, value) in lanes.iter_mut().enumerate().take(V::LANES) {
            let place = (self.draws_before[lane] + behind) * width + years.first_lane + lane;
            if let Some(draw) = draws.get(place) {
                *value = *draw;
            }
        }
        V::load(&lanes)
    }
}

/// Runs of occurrences in random order that are collected at once. A vector may have 262,144 of
/// them: its lanes' 32,768 occurrences, each of another group.
const MAX_COLLECTED_RUNS: usize = 256;

/// The events of the iterations in a vector, a part of them at a time.
pub(super) struct EventRuns {
    pub(super) collected: Vec<EventRun>,
    /// For each group, its occurrences that are to come.
    remaining: Vec<Lanes>,
    /// For each lane, the number of draws before the next occurrence.
    taken: [usize; MAX_LANES],
}

impl EventRuns {
    pub(super) fn new(groups: usize) -> Self {
        Self { collected: Vec::new(), remaining: vec![[0; MAX_LANES]; groups], taken: [0; MAX_LANES] }
    }

    /// Begins with the iterations in a vector: collects their annual amounts, and their occurrences
    /// if the order of these is fixed.
    pub(super) fn begin(&mut self, portfolio: &PreparedPortfolio<'_>, years: VectorYears<'_>, lanes: usize) {
        self.collected.clear();
        let mut head = portfolio.count_draws + portfolio.program.indices.len();
        for (number, group) in portfolio.groups.iter().enumerate() {
            if group.is_annual() {
                let counts = years.lanes_of(&years.batch.is_year, lanes);
                let draws_before = [head; MAX_LANES];
                self.collected.push(EventRun { group: number, counts, draws_before, is_aligned: true });
                head += group.draws_per_occurrence;
            }
        }
        if portfolio.interleaves {
            for (remaining, counts) in self.remaining.iter_mut().zip(&years.batch.counts) {
                *remaining = years.lanes_of(counts, lanes);
            }
            self.taken = [head; MAX_LANES];
            return;
        }
        let mut taken = [head; MAX_LANES];
        for (number, group) in portfolio.groups.iter().enumerate() {
            if !group.is_annual() {
                let counts = years.lanes_of(&years.batch.counts[number], lanes);
                let mut is_aligned = true;
                for lane in 1..lanes {
                    is_aligned &= taken[lane] == taken[0];
                }
                self.collected.push(EventRun { group: number, counts, draws_before: taken, is_aligned });
                for lane in 0..lanes {
                    taken[lane] += counts[lane] as usize * group.draws_per_occurrence;
                }
            }
        }
    }

    /// Collects the next occurrences, in random order. Returns false if there are none: if their
    /// order is fixed, `begin` has collected them.
    pub(super) fn collect_more(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        first_lane: usize,
        draws: &[u64],
        lanes: usize,
    ) -> bool {
        self.collected.clear();
        if !portfolio.interleaves {
            return false;
        }
        // One occurrence of each lane adds up to a run for each lane.
        while self.collected.len() + lanes <= MAX_COLLECTED_RUNS {
            let mut chosen = [usize::MAX; MAX_LANES];
            let mut is_last = true;
            for lane in 0..lanes {
                if let Some(group) = self.next_group(lane, |row| draws[row * 2 * lanes + first_lane + lane]) {
                    (chosen[lane], is_last) = (group, false);
                }
            }
            if is_last {
                break;
            }
            for (number, group) in portfolio.groups.iter().enumerate() {
                let counts = chosen.map(|chosen| u64::from(chosen == number));
                if counts != [0; MAX_LANES] {
                    let draws_before = self.taken;
                    self.collected.push(EventRun { group: number, counts, draws_before, is_aligned: false });
                    for (taken, count) in self.taken.iter_mut().zip(counts) {
                        *taken += count as usize * group.draws_per_occurrence;
                    }
                }
            }
        }
        !self.collected.is_empty()
    }

    /// The group of the next occurrence in a lane; `None` after the last one. `draw` reads the
    /// lane's draws.
    fn next_group(&mut self, lane: usize, draw: impl Fn(usize) -> u64) -> Option<usize> {
        let all: u64 = self.remaining.iter().map(|remaining| remaining[lane]).sum();
        if all == 0 {
            return None;
        }
        let (mut group, mut rank) = (0, 0);
        if self.remaining.iter().all(|remaining| remaining[lane] != all) {
            rank = ((u128::from(draw(self.taken[lane])) * u128::from(all)) >> 64) as u64;
            self.taken[lane] += 1;
        }
        while rank >= self.remaining[group][lane] {
            rank -= self.remaining[group][lane];
            group += 1;
        }
        self.remaining[group][lane] -= 1;
        Some(group)
    }
}
