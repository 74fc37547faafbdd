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

/// The order statistics of a distribution, to the resolution of its histogram and exactly on its
/// marks.
#[derive(Debug, Clone)]
pub struct OrderStatistics {
    pieces: Vec<Piece>,
    /// For each piece, the number of iterations up to and including it.
    ranks: Vec<u64>,
    /// For each piece, Σ count · (low + high) over the pieces after it.
    sums_above: Vec<u128>,
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
        let mut pieces = Vec::with_capacity(distribution.histogram.len() + 2 * marks.len());
        let mut marked = marks.iter().copied().zip(distribution.at_marks.iter().copied()).peekable();
        for &(bucket, count) in &distribution.histogram {
            let (low, high) = resolution.bounds(bucket as usize);
            let (low, high) = (low.max(distribution.min), high.min(distribution.max));
            let mut marks_in_bucket = Vec::new();
            while let Some((mark, at)) = marked.next_if(|&(mark, _)| mark <= high) {
                if mark >= low && at > 0 {
                    marks_in_bucket.push((mark, at));
                }
            }
            split_bucket(low, high, count, &marks_in_bucket, &mut pieces);
        }
        let mut rank = 0;
        let ranks = pieces.iter().map(|p| {
            rank += p.count;
            rank
        });
        let ranks = ranks.collect();
        let mut sum = 0;
        let mut sums_above = vec![0; pieces.len()];
        for (slot, piece) in sums_above.iter_mut().zip(&pieces).rev() {
            *slot = sum;
            sum += u128::from(piece.count) * u128::from(piece.low + piece.high);
        }
        Self { pieces, ranks, sums_above }
    }

    /// Number of iterations.
    pub fn len(&self) -> u64 {
        self.ranks.last().copied().unwrap_or(0)
    }

    /// Whether the distribution holds no iteration.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The piece that contains `rank`, and the rank within that piece.
    fn locate(&self, rank: u64) -> (usize, u64) {
        let at = self.ranks.partition_point(|&last| last < rank);
        let before = if at == 0 { 0 } else { self.ranks[at - 1] };
        (at, rank - before)
    }

    /// The `rank`-th smallest amount; `rank` is 1 to the number of iterations.
    pub fn value_at_rank(&self, rank: u64) -> f64 {
        let (at, j) = self.locate(rank);
        self.pieces[at].value_at(j)
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

    /// Tail value at risk: the mean of the quantiles above the level. An atom at the quantile
    /// counts with the part of its probability that lies above the level.
    pub fn tvar(&self, level: Level) -> f64 {
        let (n, rank) = (u128::from(self.len()), self.rank(level));
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

    /// Half the width of the tail value's confidence interval: `z` standard errors, from the
    /// variance in the tail.
    pub fn tvar_half_width(&self, level: Level, z: f64) -> f64 {
        let (n, rank) = (self.len(), self.rank(level));
        let (at, j) = self.locate(rank);
        let mut squares = 0.0;
        for (i, piece) in self.pieces.iter().enumerate().skip(at) {
            let count = if i == at { piece.count - j + 1 } else { piece.count };
            let middle = (piece.low + piece.high) as f64 / 2.0;
            squares += count as f64 * (middle * middle);
        }
        let (var, tvar) = (self.var(level), self.tvar(level));
        let variance = (squares / (n - rank + 1) as f64 - tvar * tvar).max(0.0);
        let above = n as f64 * (level.complement() as f64 / level.denominator as f64);
        let excess = tvar - var;
        z * ((variance + level.to_f64() * (excess * excess)) / above).sqrt()
    }

    /// The fraction of iterations above an amount. Within a bucket, iterations are taken as spread
    /// evenly.
    pub fn fraction_above(&self, amount: u64) -> f64 {
        let mut above = 0.0;
        for piece in self.pieces.iter().filter(|piece| piece.high > amount) {
            let part = if piece.low > amount {
                1.0
            } else {
                (piece.high - amount) as f64 / (piece.high - piece.low) as f64
            };
            above += piece.count as f64 * part;
        }
        above / self.len() as f64
    }

    /// Distribution-free confidence interval of the quantile. A bound is `None` if no order
    /// statistic gives it.
    pub fn var_interval(&self, level: Level, confidence: f64) -> (Option<f64>, Option<f64>) {
        let (low, high) = interval_ranks(self.len(), level, confidence);
        (low.map(|rank| self.value_at_rank(rank)), high.map(|rank| self.value_at_rank(rank)))
    }
}

/// Splits a bucket into pieces at the marks in it: `marks` are pairs of a mark and the iterations
/// exactly on it.
fn split_bucket(low: u64, high: u64, count: u64, marks: &[(u64, u64)], pieces: &mut Vec<Piece>) {
    let mut push = |low, high, count| {
        if count > 0 {
            pieces.push(Piece { low, high, count });
        }
    };
    let rest = count.saturating_sub(marks.iter().map(|&(_, at)| at).sum());
    let (mut start, mut before) = (low, 0);
    for &(mark, at) in marks {
        let below = (u128::from(rest) * u128::from(mark - low)).checked_div(u128::from(high - low));
        let below = below.unwrap_or(0) as u64;
        push(start, mark, below - before);
        push(mark, mark, at);
        (start, before) = (mark, below);
    }
    push(start, high, rest - before);
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
mod tests {
    use super::*;

    fn distribution(amounts: &[u64], marks: &[u64]) -> Distribution {
        let mut counts = std::collections::BTreeMap::new();
        for &amount in amounts {
            *counts.entry(forge_contract::shard_result::bucket_of(amount) as u32).or_insert(0) += 1;
        }
        Distribution {
            min: *amounts.iter().min().unwrap(),
            max: *amounts.iter().max().unwrap(),
            at_marks: marks.iter().map(|m| amounts.iter().filter(|a| *a == m).count() as u64).collect(),
            histogram: counts.into_iter().collect(),
        }
    }

    #[test]
    fn order_statistics_of_small_amounts_are_exact() {
        let ordered = OrderStatistics::new(&distribution(&[5, 1, 3, 3, 900], &[]), &[]);
        assert_eq!(
            (1..=5).map(|r| ordered.value_at_rank(r)).collect::<Vec<_>>(),
            [1.0, 3.0, 3.0, 5.0, 900.0]
        );
        assert_eq!(ordered.var(Level::new(1, 2)), 3.0);
        // Above 0.5: half of the third, then 5 and 900: (0.5·3 + 5 + 900) / 2.5.
        assert_eq!(ordered.tvar(Level::new(1, 2)), 362.6);
    }

    #[test]
    fn quantiles_in_an_atom_on_a_mark_are_exact() {
        let mut amounts = vec![25_000_000; 50];
        amounts.extend((0..950).map(|i| 20_000_000 + i * 5_260));
        let marks = [5_000_000, 25_000_000];
        let ordered = OrderStatistics::new(&distribution(&amounts, &marks), &marks);
        for level in [Level::new(96, 100), Level::new(99, 100), Level::new(999, 1000)] {
            assert_eq!((ordered.var(level), ordered.tvar(level)), (25_000_000.0, 25_000_000.0));
        }
        assert!(ordered.var(Level::new(94, 100)) < 25_000_000.0);
    }

    #[test]
    fn interpolation_error_is_below_a_tenth_of_a_percent() {
        let amounts: Vec<u64> = (0..10_000u64).map(|i| 3_000 + i * i).collect();
        let ordered = OrderStatistics::new(&distribution(&amounts, &[]), &[]);
        for (rank, &amount) in (1..).zip(&amounts) {
            assert!((ordered.value_at_rank(rank) / amount as f64 - 1.0).abs() < 1e-3);
        }
        let exact = amounts[9_900..].iter().sum::<u64>() as f64 / 100.0;
        assert!((ordered.tvar(Level::new(99, 100)) / exact - 1.0).abs() < 1e-5);
    }

    #[test]
    fn single_iteration_is_every_quantile() {
        let ordered = OrderStatistics::new(&distribution(&[123_456_789], &[]), &[]);
        assert_eq!(ordered.var(Level::new(1, 1000)), 123_456_789.0);
        assert_eq!(ordered.tvar(Level::new(999, 1000)), 123_456_789.0);
        assert_eq!(ordered.var_interval(Level::new(1, 2), 0.95), (None, None));
    }

    #[test]
    fn interval_ranks_match_published_tables() {
        // Median, n = 10: (2, 9) has coverage 97.85%, the usual table value; n = 100: (40, 61).
        assert_eq!(interval_ranks(10, Level::new(1, 2), 0.95), (Some(2), Some(9)));
        assert_eq!(interval_ranks(100, Level::new(1, 2), 0.95), (Some(40), Some(61)));
        // No upper bound for the 99.9% quantile from 1,000 iterations.
        assert_eq!(interval_ranks(1_000, Level::new(999, 1000), 0.95).1, None);
    }

    #[test]
    fn binomial_and_normal_interval_ranks_agree() {
        // n·p·(1−p) = 10^6 on one side and just above it on the other.
        let level = Level::new(1, 2);
        let exact = interval_ranks(4_000_000, level, 0.95);
        let normal = interval_ranks(4_000_002, level, 0.95);
        assert!(exact.0.unwrap().abs_diff(normal.0.unwrap()) <= 2);
        assert!(exact.1.unwrap().abs_diff(normal.1.unwrap()) <= 2);
    }

    #[test]
    fn conversion_to_f64_rounds_once() {
        assert_eq!(to_f64(U256::ZERO), 0.0);
        assert_eq!(to_f64(U256::from(u64::MAX)), u64::MAX as f64);
        let tie = (U256::ONE << 120u32) + (U256::ONE << 67u32);
        assert_eq!(to_f64(tie), power_of_two(120));
        assert_eq!(to_f64(tie + 1), power_of_two(120) + power_of_two(68));
    }
}
