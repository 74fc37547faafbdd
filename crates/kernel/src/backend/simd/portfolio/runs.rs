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

/// The events of the iterations in a vector.
pub(super) struct EventRuns {
    pub(super) all: Vec<EventRun>,
    /// For each group, its occurrences that are to come.
    remaining: Vec<Lanes>,
}

impl EventRuns {
    pub(super) fn new(groups: usize) -> Self {
        Self { all: Vec::new(), remaining: vec![[0; MAX_LANES]; groups] }
    }

    /// Collects the events of the iterations in a vector, in their order.
    pub(super) fn collect(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        years: VectorYears<'_>,
        draws: &[u64],
        lanes: usize,
    ) {
        self.all.clear();
        let mut head = portfolio.count_draws + portfolio.program.indices.len();
        for (number, group) in portfolio.groups.iter().enumerate() {
            if group.is_annual() {
                let counts = years.lanes_of(&years.batch.is_year, lanes);
                let draws_before = [head; MAX_LANES];
                self.all.push(EventRun { group: number, counts, draws_before, is_aligned: true });
                head += group.draws_per_occurrence;
            }
        }
        let mut taken = [head; MAX_LANES];
        if portfolio.interleaves {
            for (remaining, counts) in self.remaining.iter_mut().zip(&years.batch.counts) {
                *remaining = years.lanes_of(counts, lanes);
            }
            self.collect_interleaved(portfolio, years.first_lane, draws, lanes, &mut taken);
            return;
        }
        for (number, group) in portfolio.groups.iter().enumerate() {
            if !group.is_annual() {
                let counts = years.lanes_of(&years.batch.counts[number], lanes);
                let mut is_aligned = true;
                for lane in 1..lanes {
                    is_aligned &= taken[lane] == taken[0];
                }
                self.all.push(EventRun { group: number, counts, draws_before: taken, is_aligned });
                for lane in 0..lanes {
                    taken[lane] += counts[lane] as usize * group.draws_per_occurrence;
                }
            }
        }
    }

    /// Collects the occurrences of the iterations in a vector, in random order.
    fn collect_interleaved(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        first_lane: usize,
        draws: &[u64],
        lanes: usize,
        taken: &mut [usize; MAX_LANES],
    ) {
        loop {
            let mut chosen = [usize::MAX; MAX_LANES];
            let mut is_last = true;
            for lane in 0..lanes {
                if let Some(group) =
                    self.next_group(lane, taken, |row| draws[row * 2 * lanes + first_lane + lane])
                {
                    (chosen[lane], is_last) = (group, false);
                }
            }
            if is_last {
                return;
            }
            for (number, group) in portfolio.groups.iter().enumerate() {
                let counts = chosen.map(|chosen| u64::from(chosen == number));
                if counts != [0; MAX_LANES] {
                    let draws_before = *taken;
                    self.all.push(EventRun { group: number, counts, draws_before, is_aligned: false });
                    for (taken, count) in taken.iter_mut().zip(counts) {
                        *taken += count as usize * group.draws_per_occurrence;
                    }
                }
            }
        }
    }

    /// The group of the next occurrence in a lane; `None` after the last one. `draw` reads the
    /// lane's draws.
    fn next_group(
        &mut self,
        lane: usize,
        taken: &mut [usize; MAX_LANES],
        draw: impl Fn(usize) -> u64,
    ) -> Option<usize> {
        let all: u64 = self.remaining.iter().map(|remaining| remaining[lane]).sum();
        if all == 0 {
            return None;
        }
        let (mut group, mut rank) = (0, 0);
        if self.remaining.iter().all(|remaining| remaining[lane] != all) {
            rank = ((u128::from(draw(taken[lane])) * u128::from(all)) >> 64) as u64;
            taken[lane] += 1;
        }
        while rank >= self.remaining[group][lane] {
            rank -= self.remaining[group][lane];
            group += 1;
        }
        self.remaining[group][lane] -= 1;
        Some(group)
    }
}
