//! Draws the events of many iterations: the keystream by vectors, then counts and components. The
//! draws of amounts are collected by component.

use super::{
    super::{
        InstructionSet,
        chacha::{BlockTemplate, ChaChaKey, DRAWS_PER_BLOCK},
        primitives::{DrawList, LaneOccurrences, YEAR_BITS},
    },
    model::{GroupDraws, PreparedPortfolio},
};

/// Most iterations in a batch.
pub(super) const MAX_BATCH_YEARS: usize = 1 << YEAR_BITS;
/// Most lanes of an instruction set.
const MAX_WIDTH: usize = 16;

/// A value for each lane.
type Lanes = [u64; MAX_WIDTH];

/// The number in its batch of the iteration that a key belongs to.
#[inline]
pub(super) fn year_of(key: u64) -> usize {
    key as usize % MAX_BATCH_YEARS
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
    lane_order: Lanes,
    /// For each draw, its value in every lane.
    draws: Vec<u64>,
    pub(super) years: usize,
    /// Most amounts in an iteration of the batch.
    pub(super) most_amounts: u64,
    /// For each group and iteration, the number of occurrences.
    pub(super) counts: Vec<u64>,
    /// For each index and iteration, its draw.
    pub(super) index_draws: Vec<u64>,
    /// For each component, its draws.
    pub(super) lists: Vec<DrawList>,
}

/// Iterations that are drawn at the same time, one in each lane.
struct LaneYears {
    /// For each lane, its iteration's number in the batch; `None` beyond the last iteration.
    years: [Option<usize>; MAX_WIDTH],
    /// For each group and lane, the number of events.
    counts: Vec<Lanes>,
    /// For each lane, the place of its next draw.
    places: [usize; MAX_WIDTH],
    /// Events so far, at most, of an iteration.
    events: u64,
}

impl EventBatch {
    pub(super) fn new(instructions: InstructionSet, portfolio: &PreparedPortfolio<'_>) -> Self {
        let mut lane_order = [0; MAX_WIDTH];
        let width = instructions.group_size() as usize;
        instructions.order_lanes(&mut lane_order[..width]);
        Self {
            instructions,
            width,
            lane_order,
            draws: Vec::new(),
            years: 0,
            most_amounts: 0,
            counts: vec![0; portfolio.groups.len() * MAX_BATCH_YEARS],
            index_draws: vec![0; portfolio.program.indices.len() * MAX_BATCH_YEARS],
            lists: portfolio.components.iter().map(|_| DrawList::default()).collect(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.lists.iter_mut().for_each(|list| list.length = 0);
        (self.years, self.most_amounts) = (0, 0);
    }

    /// Draws the events of the iterations from `first` on, at most as many as there are lanes.
    pub(super) fn draw_years(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        keystream: &mut LeafKeystream,
        first: u64,
        iterations: usize,
    ) {
        let head_blocks = portfolio.head_draws.div_ceil(DRAWS_PER_BLOCK);
        self.fill(keystream, first, 0, head_blocks);
        let mut lanes = LaneYears {
            years: [None; MAX_WIDTH],
            counts: vec![[0; MAX_WIDTH]; portfolio.groups.len()],
            places: [0; MAX_WIDTH],
            events: 0,
        };
        let mut most_draws = 0;
        for lane in 0..self.width {
            if self.lane_order[lane] >= iterations as u64 {
                continue;
            }
            lanes.years[lane] = Some(self.years);
            most_draws = most_draws.max(self.draw_head(portfolio, lane, &mut lanes));
            self.years += 1;
        }
        self.fill(keystream, first, head_blocks, most_draws.div_ceil(DRAWS_PER_BLOCK));
        let (annual, others): (Vec<_>, Vec<_>) =
            (0..portfolio.groups.len()).partition(|&group| portfolio.groups[group].is_annual());
        annual.into_iter().for_each(|group| self.draw_group(portfolio, group, &mut lanes));
        if portfolio.interleaves {
            (0..self.width).for_each(|lane| self.draw_interleaved(portfolio, lane, &lanes));
        } else {
            others.into_iter().for_each(|group| self.draw_group(portfolio, group, &mut lanes));
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

    /// Draws the numbers of occurrences and the indices of the next iteration, which is in this
    /// lane. Returns the most draws that the iteration may need.
    fn draw_head(&mut self, portfolio: &PreparedPortfolio<'_>, lane: usize, lanes: &mut LaneYears) -> usize {
        let (mut draws, mut occurrences, mut amounts) = (portfolio.head_draws, 0, 0);
        let mut place = lane;
        for (at, group) in portfolio.groups.iter().enumerate() {
            let mut count = 1;
            if !group.is_annual() {
                count = group.offset as usize + group.counts.reached(self.draws[place]);
                place += self.width;
                self.counts[at * MAX_BATCH_YEARS + self.years] = count as u64;
                draws += count * group.draws_per_occurrence;
                occurrences += count;
            }
            lanes.counts[at][lane] = count as u64;
            amounts += count * group.amounts_per_event();
        }
        for column in self.index_draws.chunks_mut(MAX_BATCH_YEARS) {
            column[self.years] = self.draws[place];
            place += self.width;
        }
        lanes.places[lane] = place;
        self.most_amounts = self.most_amounts.max(amounts as u64);
        draws + if portfolio.interleaves { occurrences } else { 0 }
    }

    /// Draws all events of a group, in all lanes.
    fn draw_group(&mut self, portfolio: &PreparedPortfolio<'_>, group: usize, lanes: &mut LaneYears) {
        let counts = lanes.counts[group];
        let group = &portfolio.groups[group];
        let most = counts[..self.width].iter().copied().max().unwrap_or(0);
        let all: u64 = counts.iter().sum();
        if group.pick.is_none() {
            self.lists[group.components.clone()].iter_mut().for_each(|list| list.reserve(all as usize));
        }
        let mut keys = [0; MAX_WIDTH];
        for (key, year) in keys.iter_mut().zip(lanes.years) {
            *key = (lanes.events << YEAR_BITS) + year.unwrap_or(0) as u64;
        }
        let stride = group.draws_per_occurrence * self.width;
        let (mut draws, mut picks) = ([0; MAX_WIDTH], [0; MAX_WIDTH]);
        let gather = Gather::new(&self.draws, self.width, &lanes.places);
        for position in 0..most {
            let mut place = position as usize * stride;
            if let Some((first, pick)) = &group.pick {
                let picks = gather.draws(place, &mut picks);
                let draws = gather.draws(place + self.width, &mut draws);
                let thresholds = pick.thresholds();
                let occurrences = LaneOccurrences { thresholds, picks, draws, counts: &counts, keys: &keys };
                let lists = &mut self.lists[*first..=first + thresholds.len()];
                // One component may get all draws, and together they get no more.
                lists.iter_mut().for_each(|list| list.reserve(self.width));
                self.instructions.split(&occurrences, position, lists);
                continue;
            }
            for at in group.components.clone() {
                if portfolio.components[at].component.same_rank {
                    place -= self.width;
                }
                let draws = gather.draws(place, &mut draws);
                let occurrences =
                    LaneOccurrences { thresholds: &[], picks: draws, draws, counts: &counts, keys: &keys };
                self.instructions.split(&occurrences, position, &mut self.lists[at..=at]);
                place += self.width;
            }
        }
        for (place, count) in lanes.places.iter_mut().zip(counts) {
            *place += count as usize * stride;
        }
        lanes.events += most;
    }

    /// Draws the occurrences of the iteration in a lane in random order.
    fn draw_interleaved(&mut self, portfolio: &PreparedPortfolio<'_>, lane: usize, lanes: &LaneYears) {
        let Some(year) = lanes.years[lane] else { return };
        let of_group =
            |(counts, group): (&Lanes, &GroupDraws<'_>)| if group.is_annual() { 0 } else { counts[lane] };
        let mut remaining: Vec<u64> = lanes.counts.iter().zip(&portfolio.groups).map(of_group).collect();
        let mut all: u64 = remaining.iter().sum();
        let mut place = lanes.places[lane];
        let mut key = (lanes.events << YEAR_BITS) + year as u64;
        while all > 0 {
            let (mut group, mut rank) = (0, 0);
            if !remaining.contains(&all) {
                rank = ((u128::from(self.draws[place]) * u128::from(all)) >> 64) as u64;
                place += self.width;
            }
            while rank >= remaining[group] {
                rank -= remaining[group];
                group += 1;
            }
            remaining[group] -= 1;
            all -= 1;
            self.draw_event(portfolio, &portfolio.groups[group], key, &mut place);
            key += 1 << YEAR_BITS;
        }
    }

    fn draw_event(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        group: &GroupDraws<'_>,
        key: u64,
        place: &mut usize,
    ) {
        let mut next = || {
            *place += self.width;
            self.draws[*place - self.width]
        };
        let struck = match &group.pick {
            Some((first, pick)) => {
                let picked = first + pick.reached(next());
                picked..picked + 1
            }
            None => group.components.clone(),
        };
        let mut draw = 0;
        for at in struck {
            if !portfolio.components[at].component.same_rank {
                draw = next();
            }
            self.lists[at].push(draw, key);
        }
    }
}

/// The draws of all lanes at the same distance behind the lanes' places.
struct Gather<'a> {
    all: &'a [u64],
    width: usize,
    places: &'a [usize; MAX_WIDTH],
    /// Whether all lanes have drawn equally often, so that their places are side by side.
    is_aligned: bool,
}

impl<'a> Gather<'a> {
    fn new(all: &'a [u64], width: usize, places: &'a [usize; MAX_WIDTH]) -> Self {
        let is_aligned = (0..width).all(|lane| places[lane] == places[0] + lane);
        Self { all, width, places, is_aligned }
    }

    /// The draws, in the buffer where they are not side by side. Any value behind the last draw.
    fn draws<'b>(&'b self, behind: usize, buffer: &'b mut Lanes) -> &'b [u64] {
        if self.is_aligned {
            return &self.all[self.places[0] + behind..][..self.width];
        }
        for (draw, place) in buffer[..self.width].iter_mut().zip(self.places) {
            *draw = self.all.get(place + behind).copied().unwrap_or(0);
        }
        &buffer[..self.width]
    }
}
