//! Conformance over portfolios: programs with lines, treaties and details, made from a seed.

use forge_contract::{
    program::{AmountTable, Component, CountTable, Group, MAX_AMOUNT, MAX_COUNT, Occurrence, Program, Terms},
    shard::LEAF_ITERATIONS,
    treaty::{IndexSet, Layer, OccurrenceLayer, Proportion, Treaty, TreatyTerms},
};

use super::{
    agreement::assert_agrees,
    recipe::{AmountRecipe, CountRecipe, SplitMix64},
    sample_shard,
};
use crate::backend::Backend;

/// The portfolio of a seed: everything that a program can have, in random combination.
pub fn random_portfolio(seed: u64) -> Program {
    let mut random = SplitMix64(seed);
    // The first numbers of neighbouring seeds are alike in few bits only after some steps.
    random.next();
    PortfolioMaker { lines: 1 + random.below(4) as u32, indices: random.below(3) as u32, random }.program()
}

struct PortfolioMaker {
    random: SplitMix64,
    lines: u32,
    indices: u32,
}

impl PortfolioMaker {
    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    /// An amount of any size that amounts of these portfolios have.
    fn amount(&mut self) -> u64 {
        let bits = 1 + self.random.below(36);
        1 + self.random.below(1 << bits)
    }

    fn fraction(&mut self) -> Proportion {
        if self.chance(2) { Proportion::ONE } else { Proportion(self.random.below(1_000_001) as u32) }
    }

    fn sorted(&mut self, length: u64, mut value: impl FnMut(&mut Self) -> u64) -> Vec<u64> {
        let mut values: Vec<_> = (0..length).map(|_| value(self)).collect();
        values.sort_unstable();
        values
    }

    /// A table; a quantile table if segment bits are given.
    fn amounts(&mut self, segment_bits: Option<u32>) -> AmountTable {
        let length = self.random.below(40);
        let kind = if segment_bits.is_some() { 2 + self.random.below(2) } else { self.random.below(5) };
        match kind {
            0 => AmountTable::Steps {
                thresholds: self.sorted(length, |maker| maker.random.next()),
                amounts: self.sorted(length + 1, |maker| maker.amount() - 1),
            },
            1 => AmountTable::Linear {
                thresholds: self.sorted(length, |maker| maker.random.next()),
                amounts: self.sorted(length + 2, Self::amount),
            },
            kind => {
                let segment_bits = segment_bits.unwrap_or_else(|| 1 + self.random.below(4) as u32);
                let seed = self.random.next();
                let recipe = if kind == 2 { AmountRecipe::Steep(seed) } else { AmountRecipe::Noise(seed) };
                AmountTable::Quantiles { segment_bits, segments: recipe.segments(segment_bits) }
            }
        }
    }

    fn counts(&mut self) -> CountTable {
        let recipe = match self.random.below(5) {
            0 => CountRecipe::Constant(self.random.below(4) as u32),
            1 => CountRecipe::Block { at: self.random.next() | 7 << 61, count: 40 },
            _ => CountRecipe::Dense { thresholds: self.random.below(30) as u32, seed: self.random.next() },
        };
        recipe.count_table()
    }

    fn component(&mut self, same_rank: bool, segment_bits: Option<u32>) -> Component {
        let deductible = if self.chance(2) { 0 } else { self.amount() };
        let terms = Terms {
            deductible,
            franchise: deductible > 0 && self.chance(3),
            limit: if self.chance(2) { MAX_AMOUNT } else { self.amount() },
            share: self.fraction(),
        };
        Component {
            line: self.random.below(self.lines.into()) as u32,
            index: (self.indices > 0 && self.chance(3))
                .then(|| self.random.below(self.indices.into()) as u32),
            same_rank,
            terms,
            amounts: self.amounts(segment_bits),
        }
    }

    fn group(&mut self) -> Group {
        let length = 1 + self.random.below(4);
        let kind = self.random.below(5);
        let components = (0..length).map(|at| (kind > 2 && at > 0 && self.chance(3), at)).collect::<Vec<_>>();
        let segment_bits = self.chance(2).then(|| 1 + self.random.below(4) as u32);
        let component = |(same, _)| self.component(same, segment_bits);
        let mut components: Vec<_> = components.into_iter().map(component).collect();
        self.shuffle_shared_steps(&mut components);
        let none = CountTable { offset: 0, thresholds: Vec::new() };
        let (counts, occurrence) = match kind {
            0..=2 => {
                let offset = self.random.below(length) as u32;
                let thresholds = self.sorted(length - 1 - u64::from(offset), |maker| maker.random.next());
                let pick = (length > 1).then_some(CountTable { offset, thresholds });
                (self.counts(), Occurrence::Claim { pick })
            }
            3 => (self.counts(), Occurrence::Strike),
            _ => (none, Occurrence::Annual),
        };
        Group { counts, occurrence, components }
    }

    /// Puts the amounts of step tables that share a draw into any order, as those of events are.
    fn shuffle_shared_steps(&mut self, components: &mut [Component]) {
        for component in components.iter_mut().filter(|component| component.same_rank) {
            if let AmountTable::Steps { amounts, .. } = &mut component.amounts {
                for last in (1..amounts.len()).rev() {
                    amounts.swap(last, self.random.below(last as u64 + 1) as usize);
                }
            }
        }
    }

    fn layer(&mut self) -> Layer {
        let attachment = if self.chance(4) { 0 } else { self.amount() };
        Layer { limit: if self.chance(6) { MAX_AMOUNT } else { self.amount() }, attachment }
    }

    fn treaty(&mut self) -> Treaty {
        let set = |maker: &mut Self| {
            if maker.chance(2) { IndexSet::ALL } else { IndexSet(maker.random.next() as u32) }
        };
        let (lines, groups) = (set(self), set(self));
        let step = 1 + self.random.below(3) as u32;
        let terms = match self.random.below(5) {
            0 | 1 => {
                let event_limit = if self.chance(2) { MAX_AMOUNT } else { self.amount() };
                TreatyTerms::QuotaShare { cession: self.fraction(), event_limit }
            }
            2 | 3 => TreatyTerms::OccurrenceXl(self.occurrence_layer()),
            _ => TreatyTerms::AggregateXl { layer: self.layer(), placed: self.fraction() },
        };
        // Only such treaties may follow one on the year's amount.
        let is_aggregate = matches!(terms, TreatyTerms::AggregateXl { .. });
        Treaty { step: if is_aggregate { step + 3 } else { step }, lines, groups, terms }
    }

    fn occurrence_layer(&mut self) -> OccurrenceLayer {
        let layer = self.layer();
        let prices = if layer.limit < MAX_AMOUNT { self.random.below(4) } else { 0 };
        OccurrenceLayer {
            cession: self.fraction(),
            layer,
            annual: if self.chance(3) { Layer { limit: MAX_AMOUNT, attachment: 0 } } else { self.layer() },
            placed: self.fraction(),
            reinstatements: (0..prices).map(|_| Proportion(self.random.below(2_000_000) as u32)).collect(),
            premium: if self.chance(3) { 0 } else { self.amount() },
        }
    }

    /// The factors of an index: most of them near 1, others of any size. Those from 2^32 on do not
    /// fit into 32 bits, and the largest ones saturate every amount.
    fn index(&mut self) -> AmountTable {
        if self.chance(4) {
            return self.amounts(None);
        }
        let factor = |maker: &mut Self| match maker.random.below(12) {
            0 => maker.random.next() >> (11 + maker.random.below(53)),
            1 => u64::from(u32::MAX) - 1 + maker.random.below(4),
            _ => (1 << 23) + maker.random.below(1 << 24),
        };
        AmountTable::Linear { thresholds: vec![self.random.next()], amounts: self.sorted(3, factor) }
    }

    fn program(mut self) -> Program {
        let indices = (0..self.indices).map(|_| self.index()).collect();
        let groups = (0..=self.random.below(4)).map(|_| self.group()).collect();
        let treaties = (0..self.random.below(6)).map(|_| self.treaty()).collect();
        let details = !self.chance(6);
        Program {
            units: 100,
            base: if self.chance(4) { self.amount() } else { 0 },
            cap: if self.chance(4) { self.amount() } else { MAX_AMOUNT },
            lines: self.lines,
            details,
            allocation: details && self.chance(2),
            indices,
            groups,
            treaties,
        }
    }
}

/// Checks the portfolios of these seeds, on shards of sizes around those of lanes and batches.
///
/// # Panics
/// If the backend differs from the scalar reference.
pub fn check_random_portfolios(backend: &dyn Backend, seeds: std::ops::Range<u64>) {
    const SIZES: [u64; 16] = [0, 1, 3, 7, 8, 9, 15, 16, 17, 64, 200, 255, 256, 257, 1000, 3001];
    for seed in seeds {
        let program = random_portfolio(seed);
        if backend.supports(&program) {
            let size = |step: u64| SIZES[((seed + step) % 16) as usize];
            let shards = [sample_shard(0, seed, size(0)), sample_shard(3, seed, size(7))];
            assert_agrees(backend, &program, &shards, &format!("the portfolio of seed {seed}"));
        }
    }
}

/// A portfolio with the most occurrences in every iteration, of sixteen groups in random order.
///
/// # Panics
/// Never: there are random portfolios whose occurrences are in random order.
pub fn most_interleaved_occurrences() -> Program {
    let component = |seed| Component {
        line: 0,
        index: None,
        same_rank: false,
        terms: Terms::NONE,
        amounts: AmountTable::Quantiles { segment_bits: 1, segments: AmountRecipe::Noise(seed).segments(1) },
    };
    let group = |number: u64| Group {
        counts: CountRecipe::Constant((MAX_COUNT / 16) as u32).count_table(),
        occurrence: Occurrence::Claim { pick: Some(CountTable { offset: 0, thresholds: vec![1 << 63] }) },
        components: vec![component(2 * number), component(2 * number + 1)],
    };
    let with_groups = |program| Program { groups: (0..16).map(group).collect(), ..program };
    (0..).map(random_portfolio).map(with_groups).find(Program::interleaves).expect("one of many")
}

/// Checks portfolios whose sums saturate, in all iterations or in few, by amounts and by factors of
/// an index, the most occurrences, also in random order, and shards of several leaves.
///
/// # Panics
/// If the backend differs from the scalar reference.
pub fn check_extreme_portfolios(backend: &dyn Backend) {
    let counts = [
        CountRecipe::Constant(600),
        CountRecipe::Block { at: u64::MAX - (1 << 57), count: 700 },
        CountRecipe::Constant(20),
    ];
    for (seed, counts) in (0..).zip(counts) {
        let largest_factors = AmountTable::Linear { thresholds: vec![], amounts: vec![MAX_AMOUNT; 2] };
        let recipes = [
            (AmountRecipe::Extreme(seed), None),
            (AmountRecipe::Largest, None),
            (AmountRecipe::Steep(seed), Some(largest_factors)),
        ];
        for (recipe, factors) in recipes {
            let mut program = random_portfolio(17 + seed);
            program.groups.truncate(2);
            let group = &mut program.groups[0];
            group.counts = counts.count_table();
            group.occurrence = Occurrence::Strike;
            for component in &mut group.components {
                component.amounts = AmountTable::Quantiles { segment_bits: 2, segments: recipe.segments(2) };
                component.terms = Terms::NONE;
                component.index = factors.is_some().then_some(0);
            }
            if let Some(factors) = factors {
                program.indices.truncate(1);
                program.indices.insert(0, factors);
            }
            if backend.supports(&program) {
                let shards = [sample_shard(0, seed, 700)];
                assert_agrees(backend, &program, &shards, &format!("{counts:?} of large amounts"));
            }
        }
    }
    // The most occurrences, of a mixture, in few iterations.
    let is_mixture = |program: &Program| {
        matches!(program.groups[0].occurrence, Occurrence::Claim { pick: Some(_) })
            && !program.treaties.is_empty()
    };
    for mut program in (0..).map(random_portfolio).filter(is_mixture).take(2) {
        program.groups.truncate(1);
        program.groups[0].counts =
            CountRecipe::Block { at: u64::MAX - (1 << 58), count: MAX_COUNT as u32 }.count_table();
        if backend.supports(&program) {
            let shards = [sample_shard(0, 1, 300)];
            assert_agrees(backend, &program, &shards, "a portfolio with the most occurrences");
        }
    }
    let program = most_interleaved_occurrences();
    if backend.supports(&program) {
        let shards = [sample_shard(0, 2, 17)];
        assert_agrees(backend, &program, &shards, "a portfolio with the most occurrences in random order");
    }
    let program = random_portfolio(3);
    if backend.supports(&program) {
        let shards = [sample_shard(1, 0, 2 * LEAF_ITERATIONS), sample_shard(2, 1, LEAF_ITERATIONS + 77)];
        assert_agrees(backend, &program, &shards, "a portfolio's shards of several leaves");
    }
}
