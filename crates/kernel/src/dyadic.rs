//! Exact numbers: dyadic ones, which every f64 is, and fractions. For the entries of tables whose
//! floor an approximation cannot decide.

use dashu_int::{
    IBig, Sign, UBig,
    ops::{BitTest, DivEuclid, Gcd, UnsignedAbs},
};

use crate::double_double::{DoubleDouble, power_of_two};

/// A number that is not negative: mantissa / 2^shift, in lowest terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dyadic {
    pub mantissa: UBig,
    pub shift: usize,
}

impl Dyadic {
    /// Exactly `x`.
    ///
    /// # Panics
    /// When `x` is negative or not finite.
    pub fn new(x: f64) -> Self {
        assert!(x >= 0.0 && x.is_finite(), "a parameter must be finite and not negative");
        let bits = x.to_bits();
        let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
        let (mantissa, exponent) =
            if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
        Self::scaled(mantissa.into(), exponent)
    }

    /// `mantissa` · 2^`exponent`.
    fn scaled(mantissa: UBig, exponent: i32) -> Self {
        let zeros = mantissa.trailing_zeros().unwrap_or(0);
        let (mantissa, exponent) = (mantissa >> zeros, exponent + zeros as i32);
        if mantissa == UBig::ZERO {
            Self { mantissa, shift: 0 }
        } else if exponent > 0 {
            Self { mantissa: mantissa << exponent as usize, shift: 0 }
        } else {
            Self { mantissa, shift: -exponent as usize }
        }
    }

    /// 1 in the units of the mantissa.
    pub fn one(&self) -> UBig {
        UBig::ONE << self.shift
    }
}

/// The f64 nearest to an integer, ties to even.
pub fn nearest(value: IBig) -> f64 {
    let (sign, magnitude) = value.into_parts();
    let shift = magnitude.bit_len().saturating_sub(64);
    let top = u64::try_from(&magnitude >> shift).expect("64 bits");
    // A sticky bit for the discarded bits makes the single rounding below correct.
    let sticky = u64::from(magnitude.trailing_zeros().is_some_and(|zeros| zeros < shift));
    let magnitude = (top | sticky) as f64 * power_of_two(shift as i32);
    if sign == Sign::Negative { -magnitude } else { magnitude }
}

/// The f64 nearest to the exact sum of numbers from 0 to 2^53, ties to even. Numbers above 0 are at
/// least 2^-500.
pub fn nearest_sum(numbers: &[f64]) -> f64 {
    let numbers: Vec<Dyadic> = numbers.iter().map(|&x| Dyadic::new(x)).collect();
    let shift = numbers.iter().map(|x| x.shift).max().unwrap_or(0);
    let sum = numbers.into_iter().fold(UBig::ZERO, |sum, x| sum + (x.mantissa << (shift - x.shift)));
    nearest(sum.into()) * power_of_two(-(shift as i32))
}

/// A fraction, not necessarily in lowest terms.
#[derive(Debug, Clone)]
pub struct Fraction {
    numerator: IBig,
    denominator: UBig,
}

/// Roots of a higher degree than this are irrational, or beyond all amounts, for every probability
/// at a node: its binary exponent is at most 65, and its odd part below 2^74.
const MAX_ROOT: u64 = 75;
/// Powers beyond this are above all amounts or below the smallest one.
const MAX_POWER: u64 = 2 * MAX_ROOT;

impl Fraction {
    /// Exactly `x`, which is finite.
    pub fn new(x: f64) -> Self {
        let magnitude = Dyadic::new(x.abs());
        let numerator = IBig::from(magnitude.mantissa.clone());
        Self { numerator: if x < 0.0 { -numerator } else { numerator }, denominator: magnitude.one() }
    }

    /// Exactly `x`.
    pub fn of_double_double(x: DoubleDouble) -> Self {
        let (hi, lo) = x.parts();
        Self::new(hi) + Self::new(lo)
    }

    /// `integer` · 2^`exponent`.
    pub fn of_integer(integer: i64, exponent: i32) -> Self {
        let (up, down) = (exponent.max(0) as usize, (-exponent).max(0) as usize);
        Self { numerator: IBig::from(integer) << up, denominator: UBig::ONE << down }
    }

    /// The number of successes is at least `successes` in `trials` trials with this probability.
    pub fn binomial_tail(&self, successes: u32, trials: u32) -> Self {
        let p = self.numerator.clone().unsigned_abs();
        let q = &self.denominator - &p;
        let (mut term, mut sum) = (q.pow(trials as usize), UBig::ZERO);
        for k in 0..=trials {
            if k >= successes {
                sum += &term;
            }
            if k < trials {
                term = term * (trials - k) * &p / (&q * (k + 1));
            }
        }
        Self { numerator: sum.into(), denominator: self.denominator.pow(trials as usize) }
    }

    /// Whether this is above 0 and below 1.
    pub fn is_probability(&self) -> bool {
        self.numerator > IBig::ZERO && self.numerator < IBig::from(self.denominator.clone())
    }

    /// Whether the numbers are equal.
    pub fn is(&self, other: &Self) -> bool {
        self.lowest_terms() == other.lowest_terms()
    }

    /// 1 / self, for a number that is not 0.
    pub fn inverse(self) -> Self {
        let numerator = IBig::from(self.denominator);
        let numerator = if self.numerator < IBig::ZERO { -numerator } else { numerator };
        Self { numerator, denominator: self.numerator.unsigned_abs() }
    }

    /// self^exponent, for a positive number, where that is rational and neither the power nor the
    /// root is too high to matter.
    pub fn power(&self, exponent: &Self) -> Option<Self> {
        if self.numerator == IBig::from(self.denominator.clone()) {
            return Some(self.clone());
        }
        let (p, q) = exponent.lowest_terms();
        let (p, negative) = (p.clone().unsigned_abs(), p < IBig::ZERO);
        let power = u64::try_from(p).ok().filter(|&p| p <= MAX_POWER * MAX_ROOT)? as usize;
        let root = u64::try_from(q).ok().filter(|&q| q <= MAX_ROOT)? as usize;
        let (numerator, denominator) = self.lowest_terms();
        let exact_root = |x: UBig| {
            let found = x.nth_root(root);
            (found.pow(root) == x).then(|| found.pow(power))
        };
        let (numerator, denominator) = (exact_root(numerator.unsigned_abs())?, exact_root(denominator)?);
        let power = Self { numerator: numerator.into(), denominator };
        Some(if negative { power.inverse() } else { power })
    }

    fn lowest_terms(&self) -> (IBig, UBig) {
        let divisor = (&self.denominator).gcd(self.numerator.clone().unsigned_abs());
        (&self.numerator / IBig::from(divisor.clone()), &self.denominator / divisor)
    }

    /// `⌊self / 2^exponent⌋`.
    pub fn floor_scaled(&self, exponent: i32) -> IBig {
        let (mut numerator, mut denominator) = (self.numerator.clone(), self.denominator.clone());
        if exponent < 0 {
            numerator <<= -exponent as usize;
        } else {
            denominator <<= exponent as usize;
        }
        numerator.div_euclid(IBig::from(denominator))
    }
}

impl std::ops::Add for Fraction {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let numerator = self.numerator * IBig::from(other.denominator.clone())
            + other.numerator * IBig::from(self.denominator.clone());
        Self { numerator, denominator: self.denominator * other.denominator }
    }
}

impl std::ops::Mul for Fraction {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self {
            numerator: self.numerator * other.numerator,
            denominator: self.denominator * other.denominator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fraction(numerator: i32, denominator: i32) -> Fraction {
        Fraction::new(f64::from(numerator)) * Fraction::new(f64::from(denominator)).inverse()
    }

    #[test]
    fn powers_are_found_where_they_are_rational() {
        let cube_root_squared = fraction(27, 8).power(&fraction(-2, 3)).unwrap();
        assert!(Fraction::is(&cube_root_squared, &fraction(4, 9)));
        assert!(fraction(2, 1).power(&fraction(1, 2)).is_none());
        assert!(Fraction::is(&fraction(1, 7).power(&fraction(3, 1)).unwrap(), &fraction(1, 343)));
        assert!(Fraction::is(&fraction(3, 3).power(&Fraction::new(0.55)).unwrap(), &fraction(1, 1)));
        // A root of a high degree, and a power that is too high to matter.
        assert!(fraction(2, 1).power(&Fraction::new(0.55)).is_none());
        assert!(fraction(2, 1).power(&Fraction::new(1e300)).is_none());
    }

    #[test]
    fn floors_of_negative_numbers_round_down() {
        assert_eq!(fraction(-7, 2).floor_scaled(0), IBig::from(-4));
        assert_eq!(fraction(7, 2).floor_scaled(-2), IBig::from(14));
        assert_eq!(fraction(7, 2).floor_scaled(1), IBig::from(1));
        assert_eq!(Fraction::new(-0.75).floor_scaled(-2), IBig::from(-3));
    }

    #[test]
    fn binomial_tails_are_exact() {
        // 1 − 0.75³ − 3 · 0.25 · 0.75² = 10/64.
        assert!(fraction(1, 4).binomial_tail(2, 3).is(&fraction(5, 32)));
        assert!(fraction(1, 3).binomial_tail(0, 5).is(&fraction(1, 1)));
    }

    #[test]
    fn double_doubles_are_exact() {
        let x = DoubleDouble::ONE - DoubleDouble::from(1.0 / (1u64 << 60) as f64);
        let expected = fraction(1, 1) + fraction(-1, 1 << 30) * fraction(1, 1 << 30);
        assert!(Fraction::is(&Fraction::of_double_double(x), &expected));
    }
}
