//! Statistics of a merged result: f64 operations in a fixed order on exact integers
//! (docs/determinism.md, section 9, which also cites the sources of the formulas). All amounts are
//! in minor units. Reordering an operation changes results.

use ethnum::U256;
use forge_contract::{
    distribution::Resolution,
    shard_result::{Distribution, ShardResult},
};

use crate::{double_double::power_of_two, normal};

/// A probability as an exact fraction, 0 < numerator < denominator ≤ 10^6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Numerator a of p = a / b.
    pub numerator: u64,
    /// Denominator b.
    pub denominator: u64,
}

impl Level {
    /// The level `numerator / denominator`.
    pub const fn new(numerator: u64, denominator: u64) -> Self {
        assert!(0 < numerator && numerator < denominator && denominator <= 1_000_000);
        Self { numerator, denominator }
    }

    /// The level as f64.
    pub fn to_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    fn complement(self) -> u64 {
        self.denominator - self.numerator
    }
}

/// `count` iterations, taken as spread evenly over the amounts from `low` to `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    low: u64,
    high: u64,
    count: u64,
}

impl Piece {
    /// The amount at rank `j` within the piece, counted from 1.
    fn value_at(&self, j: u64) -> f64 {
        let width = (self.high - self.low) as f64;
        self.low as f64 + width * (2 * j - 1) as f64 / (2 * self.count) as f64
    }
}

/// Pieces in ascending order.
#[derive(Debug, Clone, Default)]
struct PieceList {
    pieces: Vec<Piece>,
    /// For each piece, the number of iterations up to and including it.
    ranks: Vec<u64>,
    /// For each piece, Σ count · (low + high) over the pieces after it.
    sums_above: Vec<u128>,
}

impl PieceList {
    fn push(&mut self, low: u64, high: u64, count: u64) {
        if count > 0 {
            self.ranks.push(self.len() + count);
            self.pieces.push(Piece { low, high, count });
        }
    }

    /// Adds up the sums above, once all pieces are there.
    fn add_sums(&mut self) {
        let mut sum = 0;
        self.sums_above = vec![0; self.pieces.len()];
        for (slot, piece) in self.sums_above.iter_mut().zip(&self.pieces).rev() {
            *slot = sum;
            sum += u128::from(piece.count) * u128::from(piece.low + piece.high);
        }
    }

    fn len(&self) -> u64 {
        self.ranks.last().copied().unwrap_or(0)
    }

    /// The piece that contains `rank`, and the rank within that piece.
    fn locate(&self, rank: u64) -> (usize, u64) {
        let at = self.ranks.partition_point(|&last| last < rank);
        let before = if at == 0 { 0 } else { self.ranks[at - 1] };
        (at, rank - before)
    }

    fn value_at_rank(&self, rank: u64) -> f64 {
        let (at, j) = self.locate(rank);
        self.pieces[at].value_at(j)
    }

    /// The mean of the quantiles above the level, whose rank is `rank`.
    fn tvar(&self, level: Level, rank: u64) -> f64 {
        let n = u128::from(self.len());
        let (at, j) = self.locate(rank);
        let piece = self.pieces[at];
        let c = piece.count;
        let width = (piece.high - piece.low) as f64;
        let rest = u128::from(c - j);
        let own =
            (2 * rest * u128::from(piece.low)) as f64 + width * (rest * u128::from(c + j)) as f64 / c as f64;
        let tail = (self.sums_above[at] as f64 + own) / 2.0;
        let (a, b) = (u128::from(level.numerator), u128::from(level.denominator));
        let var = piece.value_at(j);
        let share = u128::from(rank) * b - n * a;
        let tvar = (share as f64 * var + b as f64 * tail) / (n * (b - a)) as f64;
        tvar.max(var)
    }
}

/// The order statistics of a distribution: an estimate of each, and bounds, to the resolution of
/// its histogram and exactly on its marks; all exactly, if its amounts are listed.
///
/// An atom that no mark names hides within a bucket, at any amount of it. So intervals are made of
/// the bounds, and estimates lie within them.
#[derive(Debug, Clone)]
pub struct OrderStatistics {
    /// Iterations that are on no mark are spread evenly over their bucket.
    estimate: PieceList,
    /// Iterations that are on no mark are at the lower end of their bucket.
    lower: PieceList,
    /// Iterations that are on no mark are at the upper end of their bucket.
    upper: PieceList,
}

impl OrderStatistics {
    /// The order statistics of a distribution of at least one iteration, with the buckets of the
    /// total; `marks` are those of the program.
    pub fn new(distribution: &Distribution, marks: &[u64]) -> Self {
        Self::with_resolution(distribution, marks, Resolution::FINE)
    }

    /// The order statistics of a distribution of at least one iteration; `marks` are those of its
    /// quantity.
    pub fn with_resolution(distribution: &Distribution, marks: &[u64], resolution: Resolution) -> Self {
        let empty = PieceList::default;
        let mut ordered = Self { estimate: empty(), lower: empty(), upper: empty() };
        for &(amount, iterations) in &distribution.listed {
            ordered.add_atom(amount, iterations);
        }
        let histogram = if distribution.listed.is_empty() { &distribution.histogram[..] } else { &[] };
        let mut marked = marks.iter().copied().zip(distribution.at_marks.iter().copied()).peekable();
        for &(bucket, count) in histogram {
            let (low, high) = resolution.bounds(bucket as usize);
            let (low, high) = (low.max(distribution.min), high.min(distribution.max));
            let mut marks_in_bucket = Vec::new();
            while let Some((mark, at)) = marked.next_if(|&(mark, _)| mark <= high) {
                if mark >= low && at > 0 {
                    marks_in_bucket.push((mark, at));
                }
            }
            ordered.add_bucket((low, high), count, &marks_in_bucket);
        }
        for list in [&mut ordered.estimate, &mut ordered.lower, &mut ordered.upper] {
            list.add_sums();
        }
        ordered
    }

    fn add_atom(&mut self, amount: u64, iterations: u64) {
        for list in [&mut self.estimate, &mut self.lower, &mut self.upper] {
            list.push(amount, amount, iterations);
        }
    }

    /// Adds the pieces of a bucket: `marks` are pairs of a mark in it and the iterations exactly on
    /// it.
    fn add_bucket(&mut self, (low, high): (u64, u64), count: u64, marks: &[(u64, u64)]) {
        let rest = count.saturating_sub(marks.iter().map(|&(_, at)| at).sum());
        self.lower.push(low, low, rest);
        let (mut start, mut before) = (low, 0);
        for &(mark, at) in marks {
            let below = (u128::from(rest) * u128::from(mark - low)).checked_div(u128::from(high - low));
            let below = below.unwrap_or(0) as u64;
            self.estimate.push(start, mark, below - before);
            self.add_atom(mark, at);
            (start, before) = (mark, below);
        }
        self.estimate.push(start, high, rest - before);
        self.upper.push(high, high, rest);
    }

    /// Number of iterations.
    pub fn len(&self) -> u64 {
        self.estimate.len()
    }

    /// Whether the distribution holds no iteration.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `rank`-th smallest amount, estimated; `rank` is 1 to the number of iterations.
    pub fn value_at_rank(&self, rank: u64) -> f64 {
        self.estimate.value_at_rank(rank)
    }

    /// What the `rank`-th smallest amount is at least and at most.
    pub fn bounds_at_rank(&self, rank: u64) -> (f64, f64) {
        (self.lower.value_at_rank(rank), self.upper.value_at_rank(rank))
    }

    /// The rank of the quantile: ⌈n·p⌉.
    fn rank(&self, level: Level) -> u64 {
        let product = u128::from(self.len()) * u128::from(level.numerator);
        product.div_ceil(u128::from(level.denominator)) as u64
    }

    /// Value at risk: the smallest amount such that at least the fraction `level` of iterations is
    /// at or below it.
    pub fn var(&self, level: Level) -> f64 {
        self.value_at_rank(self.rank(level))
    }

    /// Distribution-free confidence interval of the quantile. An end is `None` if no order
    /// statistic gives it.
    pub fn var_interval(&self, level: Level, confidence: f64) -> (Option<f64>, Option<f64>) {
        let (low, high) = interval_ranks(self.len(), level, confidence);
        let low = low.map(|rank| self.lower.value_at_rank(rank));
        (low, high.map(|rank| self.upper.value_at_rank(rank)))
    }

    /// Tail value at risk: the mean of the quantiles above the level. An atom at the quantile
    /// counts with the part of its probability that lies above the level.
    pub fn tvar(&self, level: Level) -> f64 {
        self.estimate.tvar(level, self.rank(level))
    }

    /// What the tail value of these iterations is at least and at most, wherever in its bucket each
    /// is.
    pub fn tvar_bounds(&self, level: Level) -> (f64, f64) {
        let rank = self.rank(level);
        (self.lower.tvar(level, rank), self.upper.tvar(level, rank))
    }

    /// Confidence interval of the tail value: `z` standard errors beyond its bounds, but not below
    /// the lower bound of the quantile.
    pub fn tvar_interval(&self, level: Level, z: f64) -> (f64, f64) {
        let (tvar, (lower, upper)) = (self.tvar(level), self.tvar_bounds(level));
        let reach = z * self.tvar_std_error(level);
        let least = self.lower.value_at_rank(self.rank(level));
        ((lower.min(tvar) - reach).max(least), upper.max(tvar) + reach)
    }

    /// Half the width of that interval, if it may lie below the quantile.
    pub fn tvar_half_width(&self, level: Level, z: f64) -> f64 {
        let (lower, upper) = self.tvar_bounds(level);
        z * self.tvar_std_error(level) + (upper - lower) / 2.0
    }

    /// The standard error of the tail value, from the variance in the tail.
    fn tvar_std_error(&self, level: Level) -> f64 {
        let (n, rank) = (self.len(), self.rank(level));
        let (at, j) = self.estimate.locate(rank);
        let mut squares = 0.0;
        for (i, piece) in self.estimate.pieces.iter().enumerate().skip(at) {
            let count = if i == at { piece.count - j + 1 } else { piece.count };
            let middle = (piece.low + piece.high) as f64 / 2.0;
            squares += count as f64 * (middle * middle);
        }
        let (var, tvar) = (self.var(level), self.tvar(level));
        let variance = (squares / (n - rank + 1) as f64 - tvar * tvar).max(0.0);
        let above = n as f64 * (level.complement() as f64 / level.denominator as f64);
        let excess = tvar - var;
        ((variance + level.to_f64() * (excess * excess)) / above).sqrt()
    }

    /// The fraction of iterations above an amount. Within a bucket, iterations are taken as spread
    /// evenly.
    pub fn fraction_above(&self, amount: u64) -> f64 {
        let mut above = 0.0;
        for piece in self.estimate.pieces.iter().filter(|piece| piece.high > amount) {
            let part = if piece.low > amount {
                1.0
            } else {
                (piece.high - amount) as f64 / (piece.high - piece.low) as f64
            };
            above += piece.count as f64 * part;
        }
        above / self.len() as f64
    }

    /// The mean of a function of the amount, from its value in the middle of each part of a bucket.
    pub fn mean_of(&self, function: impl Fn(f64) -> f64) -> f64 {
        let mut sum = 0.0;
        for piece in &self.estimate.pieces {
            sum += piece.count as f64 * function((piece.low + piece.high) as f64 / 2.0);
        }
        sum / self.len() as f64
    }
}

/// Mean, variance and standard error of the total.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// Mean of the total.
    pub mean: f64,
    /// Unbiased sample variance; `None` for a single iteration.
    pub variance: Option<f64>,
    /// Standard error of the mean; `None` for a single iteration.
    pub std_error: Option<f64>,
}

impl Moments {
    /// The moments of the total of a result of at least one iteration.
    pub fn new(result: &ShardResult) -> Self {
        Self::of_sums(result.iterations, result.sum, result.sum_squares)
    }

    /// The moments of an amount whose sum and sum of squares over `n` iterations, at least one, are
    /// given.
    pub fn of_sums(n: u64, sum: u128, sum_squares: U256) -> Self {
        let mean = sum as f64 / n as f64;
        let spread = U256::from(n) * sum_squares - U256::from(sum) * U256::from(sum);
        let variance = (n > 1).then(|| to_f64(spread) / n as f64 / (n - 1) as f64);
        let std_error = variance.map(|v| v.sqrt() / (n as f64).sqrt());
        Self { mean, variance, std_error }
    }
}

/// The f64 nearest to an integer, ties to even.
fn to_f64(value: U256) -> f64 {
    let shift = (256 - value.leading_zeros()).saturating_sub(64);
    let top = (value >> shift).as_u64();
    // A sticky bit for the discarded bits makes the single rounding below correct.
    let sticky = u64::from((value & ((U256::ONE << shift) - 1)) != U256::ZERO);
    (top | sticky) as f64 * power_of_two(shift as i32)
}

/// z with P(|Z| ≤ z) = `confidence` for a standard normal Z, as the nearest f64.
pub fn two_sided_z(confidence: f64) -> f64 {
    normal::quantile(0.5 + confidence * 0.5).to_f64()
}

/// Largest variance of the rank for which the exact binomial is used; above it, the normal
/// approximation.
const MAX_BINOMIAL_VARIANCE: u128 = 1_000_000;
/// Binomial weights below this fraction of the largest are omitted.
const NEGLIGIBLE_WEIGHT: f64 = 1.0 / (1u64 << 60) as f64;

/// Ranks l and h such that x(l) to x(h) covers the quantile with this confidence, from K ~
/// Binomial(n, p). A rank is `None` if it does not exist among n.
pub fn interval_ranks(n: u64, level: Level, confidence: f64) -> (Option<u64>, Option<u64>) {
    let (a, b) = (u128::from(level.numerator), u128::from(level.denominator));
    if u128::from(n) * a * (b - a) <= MAX_BINOMIAL_VARIANCE * b * b {
        return binomial_ranks(n, level, confidence);
    }
    let (n_f64, a, b) = (n as f64, level.numerator as f64, level.denominator as f64);
    let centre = n_f64 * a / b;
    let reach = two_sided_z(confidence) * (centre * (level.complement() as f64 / b)).sqrt();
    let (low, high) = ((centre - reach).floor(), (centre + reach).ceil() + 1.0);
    ((low >= 1.0).then_some(low as u64), (high <= n_f64).then_some(high as u64))
}

fn binomial_ranks(n: u64, level: Level, confidence: f64) -> (Option<u64>, Option<u64>) {
    let (a, b_minus_a) = (level.numerator as f64, level.complement() as f64);
    let mode = (u128::from(n) * u128::from(level.numerator) / u128::from(level.denominator)) as u64;
    let mut weights = Vec::new();
    let (mut k, mut weight) = (mode, 1.0);
    while k > 0 {
        weight = weight * (k as f64 * b_minus_a) / ((n - k + 1) as f64 * a);
        if weight < NEGLIGIBLE_WEIGHT {
            break;
        }
        weights.push(weight);
        k -= 1;
    }
    let first = mode - weights.len() as u64;
    weights.reverse();
    weights.push(1.0);
    (k, weight) = (mode, 1.0);
    while k < n {
        weight = weight * ((n - k) as f64 * a) / ((k + 1) as f64 * b_minus_a);
        if weight < NEGLIGIBLE_WEIGHT {
            break;
        }
        weights.push(weight);
        k += 1;
    }
    let total = weights.iter().fold(0.0, |sum, w| sum + w);
    let half = (1.0 - confidence) / 2.0;
    let (mut sum, mut low, mut high) = (0.0, first, None);
    for (k, weight) in (first..).zip(&weights) {
        sum += weight;
        if sum <= half * total {
            low = k + 1;
        }
        if high.is_none() && sum >= (1.0 - half) * total {
            high = Some(k + 1);
        }
    }
    ((low >= 1).then_some(low), high.filter(|&h| h <= n))
}

#[cfg(test)]
mod tests;
