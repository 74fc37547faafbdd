//! Draws the events of many iterations: the keystream by vectors, then counts and components. The
//! draws of amounts are collected by component.

use forge_contract::program::Occurrence;

use super::{
    super::{
        super::scalar::amount_in_table,
        InstructionSet,
        chacha::{BlockTemplate, ChaChaKey, DRAWS_PER_BLOCK},
    },
    model::Portfolio,
};

/// Most iterations in a batch; their number fits into [`EventKey`].
pub(super) const MAX_BATCH_YEARS: usize = 64;
/// Most lanes of an instruction set.
const MAX_WIDTH: usize = 16;

/// The position of an event: among the events of the batch, and its iteration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventKey(u32);

impl EventKey {
    fn new(event: u32, year: usize) -> Self {
        Self(event * MAX_BATCH_YEARS as u32 + year as u32)
    }

    /// The iteration's number in the batch.
    #[inline]
    pub(super) fn year(self) -> usize {
        self.0 as usize % MAX_BATCH_YEARS
    }
}

/// The amount draws of one component.
#[derive(Default)]
pub(super) struct DrawList {
    pub(super) draws: Vec<u64>,
    /// The events that the draws belong to, ascending.
    pub(super) keys: Vec<EventKey>,
}

impl DrawList {
    #[inline]
    fn push(&mut self, draw: u64, key: EventKey) {
        self.draws.push(draw);
        self.keys.push(key);
    }

    fn clear(&mut self) {
        self.draws.clear();
        self.keys.clear();
    }
}

/// The keystream blocks of a leaf, as far as they were needed.
pub(super) struct LeafKeystream {
    key: ChaChaKey,
    templates: Vec<BlockTemplate>,
}

impl LeafKeystream {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self { key: ChaChaKey::new(seed), templates: Vec::new() }
    }

    fn templates(&mut self, blocks: usize) -> &[BlockTemplate] {
        while self.templates.len() < blocks {
            self.templates.push(self.key.block_template(self.templates.len() as u32));
        }
        &self.templates[..blocks]
    }
}

/// The events of a batch of iterations.
pub(super) struct EventBatch {
    instructions: InstructionSet,
    width: usize,
    /// The iteration in each lane, counted from the first one of the vectors.
    lane_order: [u64; MAX_WIDTH],
    /// For each draw, its value in every lane.
    draws: Vec<u64>,
    pub(super) years: usize,
    events: u32,
    /// Most amounts in an iteration of the batch.
    pub(super) most_amounts: u64,
    /// For each group and iteration, the number of occurrences.
    pub(super) counts: Vec<u64>,
    /// For each index and iteration, its factor.
    pub(super) factors: Vec<u64>,
    /// For each component, its draws.
    pub(super) lists: Vec<DrawList>,
}

impl EventBatch {
    pub(super) fn new(instructions: InstructionSet, portfolio: &Portfolio<'_>) -> Self {
        let mut lane_order = [0; MAX_WIDTH];
        let width = instructions.group_size() as usize;
        instructions.order_lanes(&mut lane_order[..width]);
        Self {
            instructions,
            width,
            lane_order,
            draws: Vec::new(),
            years: 0,
            events: 0,
            most_amounts: 0,
            counts: vec![0; portfolio.groups.len() * MAX_BATCH_YEARS],
            factors: vec![0; portfolio.program.indices.len() * MAX_BATCH_YEARS],
            lists: portfolio.components.iter().map(|_| DrawList::default()).collect(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.lists.iter_mut().for_each(DrawList::clear);
        (self.years, self.events, self.most_amounts) = (0, 0, 0);
    }

    /// Draws the events of the iterations from `first` on, at most as many as there are lanes.
    pub(super) fn draw_years(
        &mut self,
        portfolio: &Portfolio<'_>,
        keystream: &mut LeafKeystream,
        first: u64,
        iterations: usize,
    ) {
        let head_blocks = portfolio.head_draws.div_ceil(DRAWS_PER_BLOCK);
        self.fill(keystream, first, 0, head_blocks);
        let start = self.years;
        let mut most_draws = 0;
        let lanes = (0..self.width).filter(|&lane| self.lane_order[lane] < iterations as u64);
        let lanes: Vec<usize> = lanes.collect();
        for (year, &lane) in (start..).zip(&lanes) {
            most_draws = most_draws.max(self.count_events(portfolio, lane, year));
        }
        self.fill(keystream, first, head_blocks, most_draws.div_ceil(DRAWS_PER_BLOCK));
        for lane in lanes {
            self.draw_events(portfolio, lane);
        }
    }

    fn fill(&mut self, keystream: &mut LeafKeystream, first: u64, from: usize, to: usize) {
        if from < to {
            let block = DRAWS_PER_BLOCK * self.width;
            if self.draws.len() < to * block {
                self.draws.resize(to * block, 0);
            }
            let templates = &keystream.templates(to)[from..];
            self.instructions.fill_draws(templates, first as u32, &mut self.draws[from * block..to * block]);
        }
    }

    /// Draws the numbers of occurrences, and returns the most draws that the iteration may need.
    fn count_events(&mut self, portfolio: &Portfolio<'_>, lane: usize, year: usize) -> usize {
        let (mut draws, mut occurrences, mut amounts) = (portfolio.head_draws, 0, 0);
        let mut position = lane;
        for (group, counts) in portfolio.groups.iter().zip(self.counts.chunks_mut(MAX_BATCH_YEARS)) {
            if group.is_annual() {
                amounts += group.components.len();
                continue;
            }
            let count = group.offset as usize + group.counts.reached(self.draws[position]);
            position += self.width;
            counts[year] = count as u64;
            draws += count * group.draws_per_occurrence;
            occurrences += count;
            amounts +=
                count * if *group.occurrence == Occurrence::Strike { group.components.len() } else { 1 };
        }
        self.most_amounts = self.most_amounts.max(amounts as u64);
        draws + if portfolio.interleaves { occurrences } else { 0 }
    }

    /// Draws everything else of the iteration in a lane.
    fn draw_events(&mut self, portfolio: &Portfolio<'_>, lane: usize) {
        let year = self.years;
        self.years += 1;
        let counted = portfolio.groups.iter().filter(|group| !group.is_annual()).count();
        let mut position = counted * self.width + lane;
        for (index, factors) in portfolio.program.indices.iter().zip(self.factors.chunks_mut(MAX_BATCH_YEARS))
        {
            factors[year] = amount_in_table(index, self.draws[position]);
            position += self.width;
        }
        for group in (0..portfolio.groups.len()).filter(|&group| portfolio.groups[group].is_annual()) {
            self.draw_event(portfolio, group, year, &mut position);
        }
        if portfolio.interleaves {
            self.draw_interleaved(portfolio, year, &mut position);
            return;
        }
        for group in 0..portfolio.groups.len() {
            for _ in 0..self.counts[group * MAX_BATCH_YEARS + year] {
                self.draw_event(portfolio, group, year, &mut position);
            }
        }
    }

    /// Draws the occurrences of an iteration in random order.
    fn draw_interleaved(&mut self, portfolio: &Portfolio<'_>, year: usize, position: &mut usize) {
        let counts = self.counts.chunks(MAX_BATCH_YEARS).map(|counts| counts[year]);
        let mut remaining: Vec<u64> = counts.collect();
        let mut all: u64 = remaining.iter().sum();
        while all > 0 {
            let mut group = 0;
            let mut place = 0;
            if !remaining.contains(&all) {
                place = ((u128::from(self.draws[*position]) * u128::from(all)) >> 64) as u64;
                *position += self.width;
            }
            while place >= remaining[group] {
                place -= remaining[group];
                group += 1;
            }
            remaining[group] -= 1;
            all -= 1;
            self.draw_event(portfolio, group, year, position);
        }
    }

    #[inline]
    fn draw_event(&mut self, portfolio: &Portfolio<'_>, group: usize, year: usize, position: &mut usize) {
        let key = EventKey::new(self.events, year);
        self.events += 1;
        let group = &portfolio.groups[group];
        let draws = &self.draws;
        let width = self.width;
        let mut next = || {
            let draw = draws[*position];
            *position += width;
            draw
        };
        match group.occurrence {
            Occurrence::Claim { .. } => {
                let component = match &group.pick {
                    Some((first, pick)) => first + pick.reached(next()),
                    None => group.components.start,
                };
                self.lists[component].push(next(), key);
            }
            Occurrence::Strike | Occurrence::Annual => {
                let mut draw = 0;
                for at in group.components.clone() {
                    if !portfolio.components[at].component.same_rank {
                        draw = next();
                    }
                    self.lists[at].push(draw, key);
                }
            }
        }
    }
}
