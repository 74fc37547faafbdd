//! Recipes: programs described by a few numbers, so that a failing one can be printed and shrunk.

use forge_contract::{
    plain_program::plain_program,
    program::{CountTable, MAX_AMOUNT, OCTAVES, Program, SEGMENT_LEFT_BITS, Segment},
};
use proptest::prelude::*;

use crate::{counts::CountLaw, double_double::DoubleDouble, standard_quantiles, tables};

/// Describes a program.
#[derive(Debug, Clone)]
pub struct ProgramRecipe {
    /// 1 to 8; at least 4 for [`AmountRecipe::LogNormal`].
    pub segment_bits: u32,
    /// Base: the amount that every total starts from.
    pub base: u64,
    /// Cap of the total.
    pub cap: u64,
    /// 1 to 16 components.
    pub components: Vec<ComponentRecipe>,
}

/// Describes a component.
#[derive(Debug, Clone)]
pub struct ComponentRecipe {
    /// The count table.
    pub counts: CountRecipe,
    /// The quantile table.
    pub amounts: AmountRecipe,
    /// Cap of the amounts.
    pub cap: u64,
}

/// Describes a count table.
#[derive(Debug, Clone)]
pub enum CountRecipe {
    /// This count in every iteration.
    Constant(u32),
    /// One occurrence with this probability.
    Bernoulli(f64),
    /// A Poisson distribution with this mean.
    Poisson(f64),
    /// A table with this offset and these thresholds.
    Thresholds(u32, Vec<u64>),
    /// Random thresholds.
    Dense {
        /// Number of thresholds.
        thresholds: u32,
        /// Seed of the thresholds.
        seed: u64,
    },
    /// `count` occurrences for draws of at least `at`, none below.
    Block {
        /// The smallest such draw.
        at: u64,
        /// Number of occurrences.
        count: u32,
    },
}

/// Describes a quantile table.
#[derive(Debug, Clone)]
pub enum AmountRecipe {
    /// The same `left` and `shift` in every segment, without slope.
    Flat(i32, u32),
    /// The table of a lognormal distribution with this mu and sigma.
    LogNormal(f64, f64),
    /// Random segments of all kinds, some of them negative, from this seed.
    Noise(u64),
    /// Random segments, neither negative nor too large, so steep that the last bit of a position
    /// changes the amount.
    Steep(u64),
    /// Random segments at the limits of [`Program::validate`], mostly steep and with small shifts.
    Extreme(u64),
    /// The largest valid segments, all above the largest amount.
    Largest,
}

/// The generator SplitMix64 (Steele, Lea and Flood 2014).
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number from `-limit` to `limit`; one of the two with probability 1/2.
    fn near(&mut self, limit: i32) -> i32 {
        let magnitude = if self.below(2) == 0 { limit } else { self.below(limit as u64 + 1) as i32 };
        if self.below(2) == 0 { magnitude } else { -magnitude }
    }
}

/// Largest |left|.
const MAX_LEFT: i32 = (1 << SEGMENT_LEFT_BITS) - 1;
/// Largest |slope| + |curve|.
const MAX_RISE: i32 = (3 << 29) - 1;

impl AmountRecipe {
    pub(super) fn segments(&self, segment_bits: u32) -> Vec<Segment> {
        let length = (2 * OCTAVES) << segment_bits;
        let many = |make: &mut dyn FnMut() -> Segment| (0..length).map(|_| make()).collect();
        match *self {
            Self::Flat(left, shift) => vec![Segment { left, slope: 0, curve: 0, shift }; length],
            Self::Largest => vec![Segment { left: MAX_LEFT, slope: MAX_RISE, curve: 0, shift: 5 }; length],
            Self::LogNormal(mu, sigma) => {
                let amount = |z: DoubleDouble| {
                    (DoubleDouble::from(mu) + z * DoubleDouble::from(sigma)).exp() * DoubleDouble::from(100.0)
                };
                tables::quantile_table(standard_quantiles::normal(segment_bits), &amount)
                    .expect("every floor is decided")
            }
            Self::Noise(seed) => {
                let mut random = SplitMix64(seed);
                many(&mut || {
                    let mut word = |bits: u32| random.next() as i32 >> (31 - bits);
                    let (left, slope, curve) = (word(28), word(29), word(29));
                    let negative = left < 0 && left % 3 != 0;
                    Segment {
                        left: if negative { -left } else { left },
                        slope,
                        curve,
                        shift: 20 + random.below(42) as u32,
                    }
                })
            }
            Self::Steep(seed) => {
                let mut random = SplitMix64(seed);
                many(&mut || {
                    let mut word = |bits: u32| (1 << bits) + random.below(1 << bits) as i32;
                    let (left, slope, curve) = (word(28), word(27), word(26));
                    let [slope, curve] = [slope, curve].map(|x| if random.below(2) == 0 { x } else { -x });
                    Segment { left, slope, curve, shift: 9 + random.below(12) as u32 }
                })
            }
            Self::Extreme(seed) => {
                let mut random = SplitMix64(seed);
                many(&mut || {
                    let slope = random.near(MAX_RISE);
                    let curve = random.near(MAX_RISE - slope.abs());
                    let shift = if random.below(2) == 0 { 5 } else { 5 + random.below(57) as u32 };
                    Segment { left: random.near(MAX_LEFT), slope, curve, shift }
                })
            }
        }
    }
}

impl CountRecipe {
    pub(super) fn count_table(&self) -> CountTable {
        let table = |law: &CountLaw| law.table().expect("a law with a table");
        match self {
            Self::Constant(count) => table(&CountLaw::Constant(*count)),
            Self::Bernoulli(probability) => table(&CountLaw::Bernoulli(*probability)),
            Self::Poisson(mean) => table(&CountLaw::Poisson(*mean)),
            Self::Thresholds(offset, thresholds) => {
                CountTable { offset: *offset, thresholds: thresholds.clone() }
            }
            Self::Dense { thresholds, seed } => {
                let mut random = SplitMix64(*seed);
                let mut thresholds: Vec<_> = (0..*thresholds).map(|_| random.next()).collect();
                thresholds.sort_unstable();
                CountTable { offset: 0, thresholds }
            }
            Self::Block { at, count } => CountTable { offset: 0, thresholds: vec![*at; *count as usize] },
        }
    }
}

impl ComponentRecipe {
    /// A component without a cap.
    pub fn new(counts: CountRecipe, amounts: AmountRecipe) -> Self {
        Self { counts, amounts, cap: MAX_AMOUNT }
    }
}

impl ProgramRecipe {
    /// A capped and an uncapped lognormal component and a cap of the total, as in `insurance.v1`.
    pub fn typical() -> Self {
        let claims = ComponentRecipe {
            cap: 100_000,
            ..ComponentRecipe::new(CountRecipe::Poisson(2.0), AmountRecipe::LogNormal(6.0, 1.0))
        };
        let catastrophe =
            ComponentRecipe::new(CountRecipe::Bernoulli(0.2), AmountRecipe::LogNormal(8.0, 1.5));
        Self { segment_bits: 6, base: 0, cap: 1_000_000, components: vec![claims, catastrophe] }
    }

    /// The program.
    pub fn program(&self) -> Program {
        let component = |recipe: &ComponentRecipe| {
            (recipe.counts.count_table(), recipe.amounts.segments(self.segment_bits), recipe.cap)
        };
        plain_program(100, self.base, self.cap, self.segment_bits, self.components.iter().map(component))
    }
}

/// Caps and bases of all sizes, often the largest or next to it.
fn any_amount() -> impl Strategy<Value = u64> {
    let any_size = (1..=MAX_AMOUNT, 0..53u32).prop_map(|(amount, shift)| (amount >> shift).max(1));
    prop_oneof![3 => any_size, 2 => Just(MAX_AMOUNT), 1 => Just(MAX_AMOUNT - 1), 1 => Just(1)]
}

fn any_counts() -> impl Strategy<Value = CountRecipe> {
    let thresholds =
        prop::collection::vec(prop_oneof![4 => any::<u64>(), 1 => Just(0), 1 => Just(u64::MAX)], 0..20);
    prop_oneof![
        (0..12u32).prop_map(CountRecipe::Constant),
        (0.0..=1.0).prop_map(CountRecipe::Bernoulli),
        (0.0..20.0).prop_map(CountRecipe::Poisson),
        (0..3u32, thresholds).prop_map(|(offset, mut thresholds)| {
            thresholds.sort_unstable();
            CountRecipe::Thresholds(offset, thresholds)
        }),
        (0..200u32, any::<u64>()).prop_map(|(thresholds, seed)| CountRecipe::Dense { thresholds, seed }),
        (any::<u64>(), 0..100u32).prop_map(|(at, count)| CountRecipe::Block { at, count }),
    ]
}

fn any_amounts(segment_bits: u32) -> impl Strategy<Value = AmountRecipe> {
    let flat =
        (-MAX_LEFT..=MAX_LEFT, 5..=61u32).prop_map(|(left, shift)| AmountRecipe::Flat(left, shift)).boxed();
    // Lognormal tables need at least 4 segment bits, and large ones take long to compute.
    let lognormal = if (4..=6).contains(&segment_bits) {
        (-5.0..30.0, 0.01..8.0).prop_map(|(mu, sigma)| AmountRecipe::LogNormal(mu, sigma)).boxed()
    } else {
        flat.clone()
    };
    prop_oneof![
        1 => flat,
        1 => lognormal,
        2 => any::<u64>().prop_map(AmountRecipe::Noise),
        4 => any::<u64>().prop_map(AmountRecipe::Steep),
        2 => any::<u64>().prop_map(AmountRecipe::Extreme),
        1 => Just(AmountRecipe::Largest),
    ]
}

/// Generates recipes of valid programs.
pub fn any_recipe() -> impl Strategy<Value = ProgramRecipe> {
    let segment_bits = prop_oneof![3 => 1..=4u32, 1 => 5..=8u32];
    segment_bits.prop_flat_map(|segment_bits| {
        let part = (any_counts(), any_amounts(segment_bits), any_amount());
        let components = prop::collection::vec(
            part.prop_map(|(counts, amounts, cap)| ComponentRecipe { counts, amounts, cap }),
            1..=16,
        );
        let base = prop_oneof![3 => Just(0), 1 => any_amount()];
        (components, base, any_amount()).prop_map(move |(components, base, cap)| ProgramRecipe {
            segment_bits,
            base,
            cap,
            components,
        })
    })
}
