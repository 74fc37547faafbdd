//! Count tables: the distribution of the number of occurrences in an iteration, as the thresholds
//! `⌊2^64 · CDF(k)⌋` (docs/determinism.md, section 5.1).
//!
//! The weights of a law follow from that of its mode by the ratio of neighbours, which is rational
//! in the parameters, so no exponential and no gamma function is needed. They are computed in fixed
//! point, with a bound of the error: a threshold is used only when the bound decides its floor.
//! Sources of the laws and of their ratios: Klugman, Panjer, Willmot, "Loss Models", 4th ed.,
//! chapter 6 and appendix B; Johnson, Kemp, Kotz, "Univariate Discrete Distributions", 3rd ed.

use dashu_int::{UBig, ops::BitTest};
use forge_contract::program::{CountTable, MAX_COUNT};

use crate::{dyadic::Dyadic, tables::UndecidedFloor};

/// A law of the number of occurrences. Parameters are exactly the f64 given.
#[derive(Debug, Clone, PartialEq)]
pub enum CountLaw {
    /// Always this number.
    Constant(u32),
    /// One with this probability (0 to 1), else none.
    Bernoulli(f64),
    /// Poisson with this mean.
    Poisson(f64),
    /// Number of successes in independent trials.
    Binomial {
        /// Number of trials.
        trials: u32,
        /// Probability of success, 0 to 1.
        probability: f64,
    },
    /// Negative binomial, as a Poisson law whose mean is gamma distributed.
    NegativeBinomial {
        /// Mean m.
        mean: f64,
        /// Contagion c, the squared coefficient of variation of the gamma law: the variance is m·(1
        /// + c·m).
        contagion: f64,
    },
    /// Negative binomial in the parameters of Loss Models: mean r·β, variance r·β·(1 + β).
    NegativeBinomialShape {
        /// Shape r.
        r: f64,
        /// Scale β.
        beta: f64,
    },
    /// Geometric on 0, 1, 2, …, with this mean.
    Geometric(f64),
    /// Probabilities of 0, 1, 2, …, in proportion to these weights.
    Discrete(Vec<f64>),
}

/// Why a law has no count table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CountTableError {
    /// A draw may give more occurrences than an iteration can have.
    #[error(
        "leads to more than {MAX_COUNT} occurrences with a probability above 2^-64; lower the mean or the variance"
    )]
    TooMany,
    /// A threshold cannot be decided.
    #[error(transparent)]
    Undecided(#[from] UndecidedFloor),
}

impl CountLaw {
    /// The count table of the law.
    ///
    /// # Errors
    /// [`CountTableError`].
    ///
    /// # Panics
    /// When a parameter is negative or not finite, a probability is above 1, or no weight of a
    /// discrete law is positive.
    pub fn table(&self) -> Result<CountTable, CountTableError> {
        self.modified_table(None)
    }

    /// The count table of the law with the probability of 0 set to `zero_probability`, and the
    /// probabilities of the other counts in their proportions (zero-modified law, Loss Models,
    /// section 6.6).
    ///
    /// # Errors
    /// [`CountTableError`].
    ///
    /// # Panics
    /// As [`CountLaw::table`], and when the law has no other count than 0.
    pub fn zero_modified_table(&self, zero_probability: f64) -> Result<CountTable, CountTableError> {
        self.modified_table(Some(zero_probability))
    }

    fn modified_table(&self, zero_probability: Option<f64>) -> Result<CountTable, CountTableError> {
        let zero = zero_probability.map(Dyadic::new);
        let quick = thresholds(&self.weights(FRACTION_BITS)?, zero.as_ref(), |_| false);
        if quick != Err(UndecidedFloor.into()) {
            return quick;
        }
        // A threshold may be an integer: with these bits, one of a small enough denominator is
        // known to be.
        let shift = zero.as_ref().map_or(0, |zero| zero.shift);
        let is_integer =
            |k| self.denominator_bits(k).is_some_and(|bits| bits + shift as u64 <= MAX_DENOMINATOR_BITS);
        thresholds(&self.weights(MAX_DENOMINATOR_BITS as usize + 3 * ERROR_BITS)?, zero.as_ref(), is_integer)
    }

    /// The weights of all counts that matter, in units that make the largest 2^`bits`.
    fn weights(&self, bits: usize) -> Result<Weights, CountTableError> {
        match self {
            Self::Constant(count) => Ok(Weights::exact(u64::from(*count), vec![UBig::ONE])),
            Self::Bernoulli(probability) => {
                let p = Dyadic::new(*probability);
                Ok(Weights::exact(0, vec![p.one() - &p.mantissa, p.mantissa]))
            }
            Self::Discrete(probabilities) => {
                let all: Vec<Dyadic> = probabilities.iter().map(|&p| Dyadic::new(p)).collect();
                let shift = all.iter().map(|p| p.shift).max().unwrap_or(0);
                Ok(Weights::exact(0, all.into_iter().map(|p| p.mantissa << (shift - p.shift)).collect()))
            }
            Self::Poisson(mean) => Weights::from_ratios(bits, *mean, &poisson(*mean)),
            Self::Binomial { trials, probability } => {
                let mode = f64::from(*trials) * probability;
                Weights::from_ratios(bits, mode, &binomial(*trials, *probability))
            }
            Self::NegativeBinomial { mean, contagion } => {
                Weights::from_ratios(bits, mean - contagion * mean, &negative_binomial(*mean, *contagion))
            }
            Self::NegativeBinomialShape { r, beta } => {
                Weights::from_ratios(bits, (r - 1.0) * beta, &negative_binomial_shape(*r, *beta))
            }
            Self::Geometric(mean) => Weights::from_ratios(bits, 0.0, &negative_binomial_shape(1.0, *mean)),
        }
    }

    /// Bits that a denominator of CDF(k) has at most, also after a modification of the probability
    /// of 0 (without that probability's own). `None` where CDF(k) is not rational.
    fn denominator_bits(&self, k: u64) -> Option<u64> {
        let shape = |r: &Dyadic, beta: &Dyadic| {
            let base = (beta.one() + &beta.mantissa).bit_len() as u64;
            let roots = (&r.mantissa >> r.shift).try_into().unwrap_or(u64::MAX).saturating_add(1);
            let step = base + r.shift as u64 + 17;
            roots.saturating_mul(2 * base).saturating_add(k.saturating_mul(step))
        };
        match self {
            Self::Constant(_) | Self::Bernoulli(_) | Self::Discrete(_) => Some(0),
            Self::Poisson(_) => None,
            Self::Binomial { trials, probability } => {
                Some(2 * u64::from(*trials) * Dyadic::new(*probability).shift as u64)
            }
            Self::NegativeBinomialShape { r, beta } => Some(shape(&Dyadic::new(*r), &Dyadic::new(*beta))),
            Self::Geometric(mean) => Some(shape(&Dyadic::new(1.0), &Dyadic::new(*mean))),
            Self::NegativeBinomial { mean, contagion } => {
                let (m, c) = (Dyadic::new(*mean), Dyadic::new(*contagion));
                // The shape 1 / c is binary only where c is a power of two.
                let is_power = c.mantissa == UBig::ONE && c.shift < 32;
                let beta = Dyadic { mantissa: m.mantissa * c.mantissa, shift: m.shift + c.shift };
                is_power.then(|| shape(&Dyadic::new((1u64 << c.shift) as f64), &beta))
            }
        }
    }
}

/// Fraction bits of the weights: the error of a threshold stays below 2^-125.
const FRACTION_BITS: usize = 256;
/// Sums of weights are exact to 2^64 units.
const ERROR_BITS: usize = 64;
/// Weights below this many bits are left out: together they are less than 2^63 units.
const NEGLIGIBLE_BITS: usize = 40;
/// A rational number is recognised as an integer up to a denominator of this many bits.
const MAX_DENOMINATOR_BITS: u64 = 1 << 14;
/// Counts looked at before a law is refused.
const MAX_WEIGHTS: u64 = 16 * MAX_COUNT;

/// The ratio w(k + 1) / w(k) as numerator and denominator.
type Ratio = dyn Fn(u64) -> (UBig, UBig);

fn poisson(mean: f64) -> Box<Ratio> {
    let mean = Dyadic::new(mean);
    Box::new(move |k| (mean.mantissa.clone(), mean.one() * (k + 1)))
}

fn binomial(trials: u32, probability: f64) -> Box<Ratio> {
    let p = Dyadic::new(probability);
    let q = p.one() - &p.mantissa;
    Box::new(move |k| (&p.mantissa * u64::from(trials).saturating_sub(k), &q * (k + 1)))
}

/// m·(1 + k·c) / ((1 + m·c)·(k + 1)).
fn negative_binomial(mean: f64, contagion: f64) -> Box<Ratio> {
    let (m, c) = (Dyadic::new(mean), Dyadic::new(contagion));
    let denominator = (UBig::ONE << (m.shift + c.shift)) + &m.mantissa * &c.mantissa;
    Box::new(move |k| (&m.mantissa * (c.one() + &c.mantissa * k), &denominator * (k + 1)))
}

/// (r + k)·β / ((1 + β)·(k + 1)).
fn negative_binomial_shape(r: f64, beta: f64) -> Box<Ratio> {
    let (r, beta) = (Dyadic::new(r), Dyadic::new(beta));
    let denominator = (beta.one() + &beta.mantissa) << r.shift;
    Box::new(move |k| ((&r.mantissa + r.one() * k) * &beta.mantissa, &denominator * (k + 1)))
}

/// The weights of the counts `first`, `first + 1`, …
struct Weights {
    first: u64,
    values: Vec<UBig>,
    /// A sum of weights is the exact one, or less by at most this.
    error: UBig,
}

impl Weights {
    fn exact(first: u64, values: Vec<UBig>) -> Self {
        Self { first, values, error: UBig::ZERO }
    }

    /// Weights from the ratios of neighbours. `mode` is a guess of the most likely count.
    ///
    /// From the mode outwards every ratio is at most 1, so the weight of a count is at most one
    /// unit a step below the exact one.
    fn from_ratios(bits: usize, mode: f64, ratio: &Ratio) -> Result<Self, CountTableError> {
        let rises = |k: u64| {
            let (numerator, denominator) = ratio(k);
            numerator > denominator
        };
        let mut mode = mode.clamp(0.0, MAX_WEIGHTS as f64) as u64;
        while rises(mode) {
            mode += 1;
        }
        while mode > 0 && !rises(mode - 1) {
            mode -= 1;
        }
        let top = UBig::ONE << bits;
        let mut values = Vec::new();
        let mut weight = top.clone();
        let mut first = mode;
        while first > 0 && weight.bit_len() > NEGLIGIBLE_BITS {
            let (numerator, denominator) = ratio(first - 1);
            weight = weight * denominator / numerator;
            values.push(weight.clone());
            first -= 1;
        }
        values.reverse();
        values.push(top.clone());
        weight = top;
        for k in mode.. {
            let (numerator, denominator) = ratio(k);
            if numerator == UBig::ZERO {
                break;
            }
            weight = weight * numerator / denominator;
            if weight.bit_len() <= NEGLIGIBLE_BITS {
                break;
            }
            values.push(weight.clone());
            if values.len() as u64 > MAX_WEIGHTS {
                return Err(CountTableError::TooMany);
            }
        }
        Ok(Self { first, values, error: UBig::ONE << ERROR_BITS })
    }
}

/// The count table of weights, or of their modification by the probability of 0. A threshold
/// between whose bounds one integer lies is that integer if `is_integer` says so for its count.
fn thresholds(
    weights: &Weights,
    zero: Option<&Dyadic>,
    is_integer: impl Fn(u64) -> bool,
) -> Result<CountTable, CountTableError> {
    let mut values: Vec<(u64, &UBig)> = (weights.first..).zip(&weights.values).collect();
    let nothing = UBig::ZERO;
    let base = match zero {
        None => Dyadic::new(0.0),
        Some(zero) => {
            values.retain(|&(k, _)| k > 0);
            // Every count below the first one has the threshold of 0.
            values.splice(0..0, (0..weights.first.max(1)).map(|k| (k, &nothing)));
            Dyadic { mantissa: zero.mantissa.clone(), shift: zero.shift }
        }
    };
    let total: UBig = values.iter().map(|(_, weight)| *weight).sum();
    assert!(total > UBig::ZERO, "a law must have a positive weight");
    let rest = base.one() - &base.mantissa;
    // 2^64 · (p₀ + (1 − p₀) · part / whole)
    let floor =
        |part: &UBig, whole: &UBig| ((&base.mantissa * whole + &rest * part) << 64) / (whole << base.shift);
    let end = UBig::from(u64::MAX);
    let largest_total = &total + &weights.error;
    let mut table =
        CountTable { offset: values.first().map_or(0, |&(k, _)| k) as u32, thresholds: Vec::new() };
    let mut sum = UBig::ZERO;
    for (k, weight) in values {
        sum += weight;
        let error = if sum == UBig::ZERO { UBig::ZERO } else { weights.error.clone() };
        let (low, high) = (floor(&sum, &largest_total), floor(&(&sum + error), &total));
        if low < end && low != high && !is_integer(k) {
            return Err(UndecidedFloor.into());
        }
        // Between bounds that differ, only the upper one can be the integer.
        if high >= end {
            break;
        }
        let threshold = u64::try_from(high).expect("a threshold below the end");
        if threshold == 0 && table.thresholds.is_empty() {
            table.offset += 1;
        } else {
            table.thresholds.push(threshold);
        }
        if u64::from(table.offset) + table.thresholds.len() as u64 > MAX_COUNT {
            return Err(CountTableError::TooMany);
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CDF(k) of a law by its table, for comparison with published figures.
    fn cdf(table: &CountTable, k: u32) -> f64 {
        let at = |i: u32| table.thresholds.get(i as usize).map_or(1.0, |&t| t as f64 / (1u128 << 64) as f64);
        k.checked_sub(table.offset).map_or(0.0, at)
    }

    fn halves(numerators: &[u64], denominator_bits: u32) -> Vec<u64> {
        numerators.iter().map(|n| n << (64 - denominator_bits)).collect()
    }

    #[test]
    fn laws_of_dyadic_probabilities_are_exact() {
        let three = CountLaw::Binomial { trials: 3, probability: 0.5 };
        assert_eq!(three.table().unwrap().thresholds, halves(&[1, 4, 7], 3));
        // The distribution function of an odd number of coins is 1/2 in the middle.
        let coins = CountLaw::Binomial { trials: 801, probability: 0.5 }.table().unwrap();
        assert_eq!(coins.thresholds[400 - coins.offset as usize], 1 << 63);
        let geometric: Vec<u64> = (1..64).map(|k| u64::MAX - ((1 << (64 - k)) - 1)).collect();
        assert_eq!(CountLaw::Geometric(1.0).table().unwrap().thresholds, geometric);
        for law in [
            CountLaw::NegativeBinomialShape { r: 1.0, beta: 1.0 },
            CountLaw::NegativeBinomial { mean: 1.0, contagion: 1.0 },
        ] {
            assert_eq!(law.table().unwrap().thresholds, geometric);
        }
        // (1 + 3)^(-1/2) is 1/2.
        let root = CountLaw::NegativeBinomialShape { r: 0.5, beta: 3.0 }.table().unwrap();
        assert_eq!(root.thresholds[0], 1 << 63);
        // Half of the mass at 0, the rest as after the first failure.
        let modified = CountLaw::Geometric(1.0).zero_modified_table(0.5).unwrap();
        assert_eq!(modified.thresholds, geometric);
    }

    #[test]
    fn constants_and_bernoulli_laws_are_discrete_laws() {
        assert_eq!(CountLaw::Constant(7).table().unwrap(), CountTable { offset: 7, thresholds: vec![] });
        assert_eq!(
            CountLaw::Constant(2).zero_modified_table(0.25).unwrap(),
            CountTable { offset: 0, thresholds: vec![1 << 62, 1 << 62] }
        );
        for p in [0.0, 0.02, 0.5, 1e-30, 1.0] {
            let discrete = CountLaw::Discrete(vec![1.0 - p, p]).table();
            // 1 − 0.02 and 1 − 1e-30 are rounded to an f64, which the Bernoulli law does not do.
            if p == 0.0 || p == 0.5 || p == 1.0 {
                assert_eq!(CountLaw::Bernoulli(p).table(), discrete);
            }
        }
        assert_eq!(CountLaw::Bernoulli(1.0).table().unwrap(), CountTable { offset: 1, thresholds: vec![] });
        let fair = CountLaw::Discrete(vec![0.0, 1.0, 1.0, 1.0, 1.0]).table().unwrap();
        assert_eq!((fair.offset, fair.thresholds), (1, halves(&[1, 2, 3], 2)));
    }

    #[test]
    fn bernoulli_thresholds_are_exact() {
        let thresholds = |p| CountLaw::Bernoulli(p).table().unwrap().thresholds;
        // 0.02 is 5764607523034235 · 2^-58, so 2^64·p = 5764607523034235 · 64 exactly.
        assert_eq!(thresholds(0.02), [(1u128 << 64).wrapping_sub(5_764_607_523_034_235 * 64) as u64]);
        assert!(thresholds(1e-30).is_empty());
        // The smallest probability that can strike: the draw 2^64 − 1 is above 2^64 − 2.
        assert_eq!(thresholds(1.0 / (1u64 << 63) as f64), [u64::MAX - 1]);
    }

    #[test]
    fn tables_match_published_figures() {
        // Loss Models, exercise 9.58: negative binomial with r = 6 and β = 0.5 has P(0) = 1.5^-6.
        let table = CountLaw::NegativeBinomialShape { r: 6.0, beta: 0.5 }.table().unwrap();
        assert!((cdf(&table, 0) - 64.0 / 729.0).abs() < 1e-15);
        // 6 · 1.5^-6 · (1/3) more for 1.
        assert!((cdf(&table, 1) - 192.0 / 729.0).abs() < 1e-15);
        let poisson = CountLaw::Poisson(2.0).table().unwrap();
        // 2^64·e^-2 and 2^64·3e^-2, to the last digit.
        assert_eq!(poisson.thresholds[..2], [2_496_495_334_008_788_799, 7_489_486_002_026_366_399]);
    }

    #[test]
    fn both_forms_of_the_negative_binomial_agree() {
        // Mean 8 with contagion 1/4: r = 4, β = 2.
        let by_mean = CountLaw::NegativeBinomial { mean: 8.0, contagion: 0.25 }.table().unwrap();
        assert_eq!(by_mean, CountLaw::NegativeBinomialShape { r: 4.0, beta: 2.0 }.table().unwrap());
        assert_eq!(
            CountLaw::NegativeBinomial { mean: 3.5, contagion: 0.0 }.table(),
            CountLaw::Poisson(3.5).table()
        );
    }

    #[test]
    fn extreme_parameters_end_quickly() {
        let none = CountTable { offset: 0, thresholds: vec![] };
        for law in [
            CountLaw::Poisson(0.0),
            CountLaw::Poisson(5e-324),
            CountLaw::Geometric(0.0),
            CountLaw::NegativeBinomial { mean: 1e-300, contagion: 1e300 },
            CountLaw::Binomial { trials: 32_768, probability: 5e-324 },
            CountLaw::Binomial { trials: 0, probability: 0.5 },
        ] {
            assert_eq!(law.table().unwrap(), none, "{law:?}");
        }
        let all = CountLaw::Binomial { trials: 9, probability: 1.0 }.table().unwrap();
        assert_eq!(all, CountTable { offset: 9, thresholds: vec![] });
        for law in [
            CountLaw::Poisson(40_000.0),
            CountLaw::Geometric(1e6),
            CountLaw::NegativeBinomial { mean: 10_000.0, contagion: 10.0 },
            CountLaw::NegativeBinomialShape { r: 1e-18, beta: 1e12 },
        ] {
            assert_eq!(law.table(), Err(CountTableError::TooMany), "{law:?}");
        }
        let large = CountLaw::Poisson(10_000.0).table().unwrap();
        assert!((9_000..9_200).contains(&large.offset) && large.thresholds.is_sorted());
        assert_eq!(large.count(1 << 63), 10_000);
    }
}
