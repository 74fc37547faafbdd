//! The amounts of a batch of iterations, one iteration in each lane of a vector.
//!
//! Most events are below every layer. For them only quota shares pay, which depend on nothing else,
//! so they are computed in vectors, component by component. The other events pass the treaties one
//! after another, in the order of the iteration (`treaties`).

use forge_contract::program::MAX_AMOUNT;

use super::{
    super::{
        chacha::{BlockTemplate, DRAWS_PER_BLOCK},
        primitives::write_draws,
        vector::Vector,
    },
    draws::{Column, EMPTY_COLUMN, YearBatch},
    model::{ComponentPath, GroupDraws, PreparedPortfolio},
    policies::{ComponentSums, IndexFactors, amounts_of_draws, paid_by},
    runs::{EventRun, EventRuns, Lanes, MAX_LANES, VectorYears},
};

/// Sums of a year below this are exact; see [`crate::treaties`].
pub(super) const MAX_EXACT_SUM: u64 = 1 << 62;

/// How often a component or a layer was in question, over all iterations.
#[derive(Clone, Copy, Default)]
pub(super) struct Frequency {
    pub(super) all: u64,
    pub(super) at_limit: u64,
}

/// The amounts of a batch.
pub(in crate::backend::simd) struct BatchAmounts {
    /// The draws of the iterations in two vectors: for each draw, its value in every lane.
    pub(super) draws: Vec<u64>,
    pub(super) factors: IndexFactors,
    runs: EventRuns,
    /// For each claim of a run, the component that is picked.
    pub(super) numbers: Vec<Lanes>,
    /// For each claim of a run, its draw or its amount.
    pub(super) claims: Vec<Lanes>,
    /// For each component, what its policies pay for the events of a run; for claims in one list.
    pub(super) paid: Vec<Vec<Lanes>>,
    /// For each event of a run, the sum of its amounts.
    pub(super) sums: Vec<Lanes>,
    /// For each event of a run, the lanes in which it has to pass the treaties as a whole.
    pub(super) above: Vec<u32>,
    /// Largest amount before policy shares.
    most: u64,
    /// Whether a sum of a year may be above [`MAX_AMOUNT`].
    pub(super) may_exceed_maximum: bool,
    /// For each line, its amounts before all treaties.
    pub(super) gross: Vec<Column>,
    /// For each group, its amounts.
    pub(super) of_groups: Vec<Column>,
    /// The largest occurrence of each iteration.
    pub(super) largest: Column,
    /// For each subject, its largest occurrence in each iteration.
    pub(super) largest_of: Vec<Column>,
    /// What treaties cede by occurrence, in the columns of [`PreparedPortfolio::ceded_lines`].
    pub(super) ceded: Vec<Column>,
    /// For each treaty, the recoveries that count for its annual layer.
    pub(super) recoveries: Vec<Column>,
    /// The events that have to pass the treaties as a whole, in the order of every iteration.
    pub(super) events: Vec<LayerEvent>,
    /// The amounts of these events by component.
    pub(super) event_amounts: Vec<u64>,
    /// For each component, its amounts and those at the limit.
    pub(super) components: Vec<Frequency>,
    /// For each treaty, the occurrences that reach its layer and its top.
    pub(super) layers: Vec<Frequency>,
    /// `components` and `layers` before the batch.
    frequencies_before: [Vec<Frequency>; 2],
}

/// An event that has to pass the treaties as a whole.
#[derive(Clone, Copy)]
pub(super) struct LayerEvent {
    /// Place of its iteration in the batch.
    pub(super) year: u32,
    pub(super) kind: u32,
}

impl BatchAmounts {
    pub(super) fn new(portfolio: &PreparedPortfolio<'_>) -> Self {
        let (components, treaties) = (portfolio.components.len(), portfolio.program.treaties.len());
        let columns = |number: usize| vec![EMPTY_COLUMN; number];
        Self {
            draws: Vec::new(),
            factors: IndexFactors::new(),
            runs: EventRuns::new(portfolio.groups.len()),
            numbers: Vec::new(),
            claims: Vec::new(),
            paid: vec![Vec::new(); components],
            sums: Vec::new(),
            above: Vec::new(),
            most: 0,
            may_exceed_maximum: false,
            gross: columns(portfolio.program.lines as usize),
            of_groups: columns(portfolio.groups.len()),
            largest: EMPTY_COLUMN,
            largest_of: columns(portfolio.subjects),
            ceded: columns(portfolio.ceded_columns()),
            recoveries: columns(treaties),
            events: Vec::new(),
            event_amounts: Vec::new(),
            components: vec![Frequency::default(); components],
            layers: vec![Frequency::default(); treaties],
            frequencies_before: [Vec::new(), Vec::new()],
        }
    }

    /// Computes the amounts of a batch. Returns false, and has changed nothing that lasts, if sums
    /// of a year may saturate.
    #[inline(always)]
    pub(in crate::backend::simd) fn compute<V: Vector>(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        templates: &[BlockTemplate],
        batch: &YearBatch,
    ) -> bool {
        self.clear();
        let width = 2 * V::LANES;
        for first in (0..batch.years).step_by(width) {
            let blocks = batch.draws_from(first).div_ceil(DRAWS_PER_BLOCK);
            let length = blocks * DRAWS_PER_BLOCK * width;
            if self.draws.len() < length {
                self.draws.resize(length, 0);
            }
            let streams = V::load(&batch.streams[first / 2..]);
            write_draws::<V>(&templates[..blocks], streams, &mut self.draws);
            for first_lane in [0, V::LANES] {
                let years = VectorYears { batch, first: first + first_lane, first_lane };
                self.add_years::<V>(portfolio, years);
                if !self.is_exact(batch) {
                    [self.components, self.layers] = std::mem::take(&mut self.frequencies_before);
                    return false;
                }
                self.pass_events(portfolio);
            }
        }
        self.may_exceed_maximum = self.bound(batch) > u128::from(MAX_AMOUNT);
        true
    }

    fn clear(&mut self) {
        self.gross.fill(EMPTY_COLUMN);
        self.of_groups.fill(EMPTY_COLUMN);
        self.largest = EMPTY_COLUMN;
        self.largest_of.fill(EMPTY_COLUMN);
        self.ceded.fill(EMPTY_COLUMN);
        self.recoveries.fill(EMPTY_COLUMN);
        self.most = 0;
        self.events.clear();
        self.event_amounts.clear();
        self.frequencies_before[0].clone_from(&self.components);
        self.frequencies_before[1].clone_from(&self.layers);
    }

    /// A bound on the sums of a year.
    fn bound(&self, batch: &YearBatch) -> u128 {
        u128::from(self.most) * u128::from(batch.most_amounts)
    }

    fn is_exact(&self, batch: &YearBatch) -> bool {
        self.bound(batch) < u128::from(MAX_EXACT_SUM)
    }

    /// Adds the amounts of the iterations in a vector, and collects the events that have to pass
    /// the treaties as a whole.
    #[inline(always)]
    fn add_years<V: Vector>(&mut self, portfolio: &PreparedPortfolio<'_>, years: VectorYears<'_>) {
        let active = V::greater_than(V::load(&years.batch.is_year[years.first..]), V::splat(0));
        self.factors.clear();
        for (at, index) in portfolio.program.indices.iter().enumerate() {
            let place = (portfolio.count_draws + at) * 2 * V::LANES + years.first_lane;
            let factors = amounts_of_draws(index, V::load(&self.draws[place..]), active);
            self.factors.set(at, factors);
        }
        self.runs.begin(portfolio, years, V::LANES);
        loop {
            for at in 0..self.runs.collected.len() {
                let run = self.runs.collected[at];
                let group = &portfolio.groups[run.group];
                let events = self.reserve(group, &run);
                let sums = match &group.pick {
                    Some(pick) => self.add_claims::<V>(portfolio, (group, pick), years, &run, events),
                    None => self.add_strikes::<V>(portfolio, group, years, &run, events),
                };
                add_to(&mut self.of_groups[run.group], years.first, sums);
            }
            if !self.runs.collect_more(portfolio, years.first_lane, &self.draws, V::LANES) {
                break;
            }
        }
    }

    /// Makes room for the events of a run, and returns how many there are in the lane with the
    /// most.
    fn reserve(&mut self, group: &GroupDraws<'_>, run: &EventRun) -> usize {
        let mut events = 0;
        for count in run.counts {
            events = events.max(count as usize);
        }
        if self.above.len() < events {
            self.above.resize(events, 0);
            self.sums.resize(events, [0; MAX_LANES]);
            self.numbers.resize(events, [0; MAX_LANES]);
            self.claims.resize(events, [0; MAX_LANES]);
        }
        for paid in &mut self.paid[..group.amounts_per_event()] {
            if paid.len() < events {
                paid.resize(events, [0; MAX_LANES]);
            }
        }
        events
    }

    /// Counts the amounts of a component.
    #[inline(always)]
    pub(super) fn count_amounts<V: Vector>(&mut self, at: usize, sums: &ComponentSums<V>) {
        let (mut amounts, mut at_limit, mut most) = ([0; MAX_LANES], [0; MAX_LANES], [0; MAX_LANES]);
        sums.amounts.store(&mut amounts);
        sums.at_limit.store(&mut at_limit);
        sums.most.store(&mut most);
        let frequency = &mut self.components[at];
        for lane in 0..V::LANES {
            frequency.all += amounts[lane];
            frequency.at_limit += at_limit[lane];
            self.most = self.most.max(most[lane]);
        }
    }

    /// Cedes the quota shares of a component's amounts. Each is a claim, or the component is struck
    /// together with others.
    #[inline(always)]
    pub(super) fn cede_quota_shares<V: Vector>(
        &mut self,
        path: &ComponentPath<'_>,
        first_year: usize,
        amounts: V,
    ) {
        let mut left = amounts;
        for (step, subjects) in path.quota_shares.iter().zip(&path.subjects[1..]) {
            let subject = left;
            for share in step {
                let payment = paid_by(share, subject).min(left);
                left = left.subtract(payment);
                add_to(&mut self.ceded[share.column], first_year, payment);
            }
            self.raise(subjects, first_year, left);
        }
    }
}

/// Adds the lanes to the iterations from `first` on.
#[inline(always)]
pub(super) fn add_to<V: Vector>(column: &mut Column, first: usize, amounts: V) {
    let years = &mut column[first..];
    V::load(years).add(amounts).store(years);
}
