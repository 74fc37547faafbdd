//! Draws the numbers of occurrences of a batch of iterations, and sorts the iterations by them, so
//! that few lanes of a vector idle.

use super::{
    super::{
        InstructionSet,
        chacha::{BlockTemplate, ChaChaKey, DRAWS_PER_BLOCK},
    },
    model::PreparedPortfolio,
};

/// Most iterations in a batch.
pub(super) const MAX_BATCH_YEARS: usize = 512;
/// Most lanes of two vectors.
const MAX_WIDTH: usize = 16;
/// Iterations with more occurrences of a group than this are not sorted among each other.
const MAX_SORTED_COUNT: usize = 127;

/// A number for each iteration of a batch, and room for a vector behind them. So the columns of one
/// vector do not compete for the same lines of the cache.
pub(super) type Column = [u64; MAX_BATCH_YEARS + 8];
pub(super) const EMPTY_COLUMN: Column = [0; MAX_BATCH_YEARS + 8];

/// The keystream of a leaf, as far as it was needed.
pub(super) struct LeafKeystream {
    key: ChaChaKey,
    templates: Vec<BlockTemplate>,
}

impl LeafKeystream {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self { key: ChaChaKey::new(seed), templates: Vec::new() }
    }

    /// The templates of the blocks that hold this many draws.
    pub(super) fn templates(&mut self, draws: usize) -> &[BlockTemplate] {
        let blocks = draws.div_ceil(DRAWS_PER_BLOCK);
        while self.templates.len() < blocks {
            self.templates.push(self.key.block_template(self.templates.len() as u32));
        }
        &self.templates[..blocks]
    }
}

/// The iterations of a batch, sorted by their numbers of occurrences.
pub(in crate::backend::simd) struct YearBatch {
    instructions: InstructionSet,
    /// Iterations of two vectors.
    width: usize,
    /// The u32 lane of the stream whose draws are in each place of two vectors.
    lane_order: [u64; MAX_WIDTH],
    draws: Vec<u64>,
    /// For each group, the numbers of occurrences in the order of the iterations.
    drawn_counts: Vec<Column>,
    /// The numbers of draws, in the order of the iterations.
    drawn_lengths: [u32; MAX_BATCH_YEARS],
    /// The sorted iterations, and room to sort them.
    order: Vec<u16>,
    next_order: Vec<u16>,
    pub(super) years: usize,
    /// Most amounts in an iteration.
    pub(super) most_amounts: u64,
    /// Most draws in an iteration.
    pub(super) most_draws: usize,
    /// For each group and iteration, the number of occurrences.
    pub(super) counts: Vec<Column>,
    /// 1 for each iteration, and 0 behind the last one.
    pub(super) is_year: Column,
    /// The stream numbers in u32 lanes.
    pub(super) streams: [u64; MAX_BATCH_YEARS / 2 + MAX_WIDTH],
    /// For each iteration, the number of draws.
    lengths: [u32; MAX_BATCH_YEARS + MAX_WIDTH],
}

impl YearBatch {
    pub(super) fn new(instructions: InstructionSet, portfolio: &PreparedPortfolio<'_>) -> Self {
        let mut lane_order = [0; MAX_WIDTH];
        let width = instructions.group_size() as usize;
        instructions.order_lanes(&mut lane_order[..width]);
        let columns = vec![EMPTY_COLUMN; portfolio.groups.len()];
        Self {
            instructions,
            width,
            lane_order,
            draws: Vec::new(),
            drawn_counts: columns.clone(),
            drawn_lengths: [0; MAX_BATCH_YEARS],
            order: vec![0; MAX_BATCH_YEARS],
            next_order: vec![0; MAX_BATCH_YEARS],
            years: 0,
            most_amounts: 0,
            most_draws: 0,
            counts: columns,
            is_year: EMPTY_COLUMN,
            streams: [0; MAX_BATCH_YEARS / 2 + MAX_WIDTH],
            lengths: [0; MAX_BATCH_YEARS + MAX_WIDTH],
        }
    }

    /// Most draws of the iterations in two vectors, from `first` on.
    pub(super) fn draws_from(&self, first: usize) -> usize {
        self.lengths[first..first + self.width].iter().copied().max().unwrap_or(0) as usize
    }

    /// Draws the numbers of occurrences of `years` iterations, from `first` on.
    pub(super) fn draw(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        keystream: &mut LeafKeystream,
        first: u64,
        years: usize,
    ) {
        (self.years, self.most_amounts, self.most_draws) = (years, 0, 0);
        let templates = keystream.templates(portfolio.count_draws);
        self.draws.resize(templates.len() * DRAWS_PER_BLOCK * self.width, 0);
        for start in (0..years).step_by(self.width) {
            self.instructions.fill_draws(templates, first as u32 + start as u32, &mut self.draws);
            for place in 0..self.width {
                let year = start + self.lane_order[place] as usize;
                if year < years {
                    self.draw_counts(portfolio, place, year);
                }
            }
        }
        self.sort(portfolio, first as u32);
    }

    /// Draws the numbers of occurrences of an iteration, whose draws are at this place.
    fn draw_counts(&mut self, portfolio: &PreparedPortfolio<'_>, mut place: usize, year: usize) {
        let (mut draws, mut occurrences, mut amounts) = (portfolio.head_draws, 0, 0);
        for (group, counts) in portfolio.groups.iter().zip(&mut self.drawn_counts) {
            if group.is_annual() {
                amounts += group.components.len();
                continue;
            }
            let count = group.offset as usize + group.counts.reached(self.draws[place]);
            place += self.width;
            counts[year] = count as u64;
            draws += count * group.draws_per_occurrence;
            occurrences += count;
            amounts += count * group.amounts_per_event();
        }
        draws += if portfolio.interleaves { occurrences } else { 0 };
        self.drawn_lengths[year] = draws as u32;
        self.most_amounts = self.most_amounts.max(amounts as u64);
        self.most_draws = self.most_draws.max(draws);
    }

    /// Sorts the iterations by the number of occurrences of the first group, then of the second,
    /// and so on.
    fn sort(&mut self, portfolio: &PreparedPortfolio<'_>, first_stream: u32) {
        let (years, padded) = (self.years, self.years.next_multiple_of(self.width));
        for (year, place) in self.order[..years].iter_mut().enumerate() {
            *place = year as u16;
        }
        // A stable sort by one group after another, the last one first.
        for (group, counts) in portfolio.groups.iter().zip(&self.drawn_counts).rev() {
            if !group.is_annual() {
                sort_by(counts, &self.order[..years], &mut self.next_order[..years]);
                std::mem::swap(&mut self.order, &mut self.next_order);
            }
        }
        self.streams[..padded / 2].fill(0);
        self.lengths[years..padded].fill(0);
        for (at, &year) in self.order[..years].iter().enumerate() {
            self.lengths[at] = self.drawn_lengths[usize::from(year)];
            let lane = at / self.width * self.width + self.lane_order[at % self.width] as usize;
            self.streams[lane / 2] |= u64::from(first_stream + u32::from(year)) << (32 * (lane % 2));
        }
        for (counts, drawn) in self.counts.iter_mut().zip(&self.drawn_counts) {
            for (count, &year) in counts.iter_mut().zip(&self.order[..years]) {
                *count = drawn[usize::from(year)];
            }
            counts[years..].fill(0);
        }
        self.is_year[..years].fill(1);
        self.is_year[years..].fill(0);
    }
}

/// Sorts iterations by their numbers of occurrences, stable.
fn sort_by(counts: &Column, order: &[u16], sorted: &mut [u16]) {
    let key = |year: u16| (counts[usize::from(year)] as usize).min(MAX_SORTED_COUNT);
    let mut ends = [0u16; MAX_SORTED_COUNT + 1];
    order.iter().for_each(|&year| ends[key(year)] += 1);
    for at in 1..=MAX_SORTED_COUNT {
        ends[at] += ends[at - 1];
    }
    for &year in order.iter().rev() {
        let end = &mut ends[key(year)];
        *end -= 1;
        sorted[usize::from(*end)] = year;
    }
}
