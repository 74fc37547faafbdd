//! Moments of what tables give, over all 2^64 draws of each: what the figures of a long run are
//! compared with (docs/determinism.md, section 11.2). Sums are exact integers; central moments are
//! the f64 nearest to quotients of them.

use dashu_int::{IBig, UBig};
use ethnum::U256;
use forge_contract::{
    program::{AmountTable, Component, CountTable, MAX_AMOUNT},
    table::OCTAVES,
};

use crate::{backend::scalar::amount_in_table, double_double::power_of_two, dyadic::nearest};

/// Number of draws.
const DRAWS: u128 = 1 << 64;
/// log2 of the number of cells in an octave of a quantile table.
const CELL_BITS: u32 = 8;
/// Cells in a piece of a linear table.
const CELLS_PER_PIECE: u128 = 64;
/// Cells of equal width that are added up before they are multiplied by the width.
const MAX_CELLS_TOGETHER: u32 = 1 << 12;

/// The sums Σ w·x, Σ w·x², Σ w·x³ and Σ w·x⁴ over the values x of a distribution, whose weights w
/// add up to 2^bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerSums {
    bits: usize,
    sums: [UBig; 4],
}

/// Mean and central moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CentralMoments {
    /// Mean.
    pub mean: f64,
    /// Variance.
    pub second: f64,
    /// Third central moment.
    pub third: f64,
    /// Fourth central moment.
    pub fourth: f64,
}

impl PowerSums {
    /// Sums of no values, whose weights will add up to 2^bits.
    fn new(bits: usize) -> Self {
        Self { bits, sums: [UBig::ZERO, UBig::ZERO, UBig::ZERO, UBig::ZERO] }
    }

    /// The mixture of distributions with weights that add up to 2^64.
    pub fn mixture(parts: impl IntoIterator<Item = (u128, Self)>) -> Self {
        let mut mixture = Self::new(128);
        for (weight, part) in parts {
            assert_eq!(part.bits, 64, "a part is over all draws");
            for (sum, more) in mixture.sums.iter_mut().zip(part.sums) {
                *sum += more * UBig::from(weight);
            }
        }
        mixture
    }

    /// Mean and central moments.
    pub fn central(&self) -> CentralMoments {
        let [a1, a2, a3, a4] = self.sums.each_ref().map(|sum| IBig::from(sum.clone()));
        let v = IBig::ONE << self.bits;
        let square = &a1 * &a1;
        let second = &v * &a2 - &square;
        let third = &v * &v * &a3 - &v * &a1 * &a2 * IBig::from(3) + &square * &a1 * IBig::from(2);
        let fourth = &v * &v * &v * &a4 - &v * &v * &a1 * &a3 * IBig::from(4)
            + &v * &square * &a2 * IBig::from(6)
            - &square * &square * IBig::from(3);
        let over = |sum: IBig, power: usize| nearest(sum) * power_of_two(-((power * self.bits) as i32));
        CentralMoments {
            mean: over(a1, 1),
            second: over(second, 2),
            third: over(third, 3),
            fourth: over(fourth, 4),
        }
    }
}

impl CentralMoments {
    /// Those of 0.
    pub const ZERO: Self = Self { mean: 0.0, second: 0.0, third: 0.0, fourth: 0.0 };

    /// Those of the sum of two independent amounts.
    pub fn plus(self, other: Self) -> Self {
        Self {
            mean: self.mean + other.mean,
            second: self.second + other.second,
            third: self.third + other.third,
            fourth: self.fourth + other.fourth + 6.0 * self.second * other.second,
        }
    }

    /// Those of the sum of a random number of such amounts, which are independent of each other and
    /// of their number: of its mean, its variance and its fourth central moment (the third is not
    /// needed, and 0).
    pub fn compound(self, count: Self) -> Self {
        let square = self.mean * self.mean;
        let second = count.mean * self.second + count.second * square;
        // With Y the sum less its mean given the number, and Z that mean less the mean of all:
        // E(Y⁴) + 4·E(Y³·Z) + 6·E(Y²·Z²) + E(Z⁴).
        let pairs = count.second + count.mean * count.mean - count.mean;
        let within = count.mean * self.fourth + 3.0 * pairs * (self.second * self.second);
        let skewed = 4.0 * self.mean * self.third * count.second;
        let mixed = 6.0 * square * self.second * (count.third + count.mean * count.second);
        let between = square * square * count.fourth;
        Self { mean: count.mean * self.mean, second, third: 0.0, fourth: within + skewed + mixed + between }
    }
}

/// For each count of a table, from the smallest one on, the number of its draws.
pub fn count_weights(table: &CountTable) -> Vec<u128> {
    let ends = table.thresholds.iter().map(|&threshold| u128::from(threshold)).chain([DRAWS]);
    let mut before = 0;
    ends.map(|end| end - std::mem::replace(&mut before, end)).collect()
}

/// The sums of the counts of a table.
pub fn count_sums(table: &CountTable) -> PowerSums {
    let mut sums = PowerSums::new(64);
    for (count, weight) in (u64::from(table.offset)..).zip(count_weights(table)) {
        let mut power = UBig::from(weight);
        for sum in &mut sums.sums {
            power *= UBig::from(count);
            *sum += &power;
        }
    }
    sums
}

/// Components that are drawn together: without an index, and all with the draw of the first one.
#[derive(Debug, Clone, Copy)]
pub struct DrawnTogether<'a>(pub &'a [Component]);

impl DrawnTogether<'_> {
    /// What all of them pay for a draw.
    fn paid(self, draw: u64) -> u64 {
        self.0.iter().map(|component| component.terms.paid(amount_in_table(&component.amounts, draw))).sum()
    }

    /// The number of draws for which all of them together pay at most this amount.
    pub fn draws_up_to(self, amount: u64) -> u128 {
        first_draw(|draw| self.paid(draw) > amount)
    }

    /// The sums of what they pay together: the draws are cut into cells, in each of which the
    /// amount is taken as that of the middle draw.
    pub fn sums(self) -> PowerSums {
        let mut sums = PowerSums::new(64);
        let edges = self.edges();
        let mut cells = edges.windows(2).map(|edge| (edge[0], edge[1] - edge[0])).peekable();
        while let Some((start, width)) = cells.next() {
            let mut together = [U256::ZERO; 4];
            let mut add = |start: u128| {
                let x = U256::from(self.paid((start + width / 2) as u64));
                let square = x * x;
                for (sum, power) in together.iter_mut().zip([x, square, square * x, square * square]) {
                    *sum += power;
                }
            };
            add(start);
            let mut count = 1;
            while count < MAX_CELLS_TOGETHER
                && let Some((start, _)) = cells.next_if(|cell| cell.1 == width)
            {
                add(start);
                count += 1;
            }
            for (sum, more) in sums.sums.iter_mut().zip(together) {
                let (high, low) = more.into_words();
                *sum += ((UBig::from(high) << 128) + UBig::from(low)) * UBig::from(width);
            }
        }
        sums
    }

    /// The edges of the cells, ascending, from 0 to the number of draws: those of the tables, and
    /// where a component begins to pay and where it reaches its limit.
    fn edges(self) -> Vec<u128> {
        let mut edges = vec![0, DRAWS];
        for Component { terms, amounts, .. } in self.0 {
            push_table_edges(amounts, &mut edges);
            edges.push(first_draw(|draw| terms.paid(amount_in_table(amounts, draw)) > 0));
            if terms.limit < MAX_AMOUNT {
                let limited = |draw| terms.limited(amount_in_table(amounts, draw).min(MAX_AMOUNT));
                edges.push(first_draw(|draw| limited(draw) >= terms.limit));
            }
        }
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}

fn push_table_edges(table: &AmountTable, edges: &mut Vec<u128>) {
    match table {
        AmountTable::Quantiles { .. } => {
            let cells = 1 << CELL_BITS;
            let lower: Vec<u128> = (0..2 * cells)
                .chain((CELL_BITS + 1..OCTAVES as u32 - 1).flat_map(|octave| {
                    let width = 1 << (octave - CELL_BITS);
                    (0..cells).map(move |cell| (1 << octave) + cell * width)
                }))
                .collect();
            edges.extend(lower.iter().map(|edge| DRAWS - edge));
            edges.extend(lower);
            edges.push(DRAWS / 2);
        }
        AmountTable::Steps { thresholds, .. } => edges.extend(thresholds.iter().map(|&t| u128::from(t))),
        AmountTable::Linear { thresholds, .. } => {
            let mut start = 0;
            for end in thresholds.iter().map(|&threshold| u128::from(threshold)).chain([DRAWS]) {
                let edge = |cell| start + (end - start) * cell / CELLS_PER_PIECE;
                edges.extend((1..=CELLS_PER_PIECE).map(edge));
                start = end;
            }
        }
    }
}

/// The first draw that has a property, by bisection: the property is taken to hold from some draw
/// on. The number of draws if none has it.
fn first_draw(has: impl Fn(u64) -> bool) -> u128 {
    let (mut low, mut high) = (0, DRAWS);
    while low < high {
        let middle = (low + high) / 2;
        if has(middle as u64) { high = middle } else { low = middle + 1 }
    }
    low
}
