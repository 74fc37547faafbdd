//! The gamma quantile function, at the nodes of the quantile tables.
//!
//! Taylor steps (`quantile_steps`) solve the equation of y = ln w, because w itself spans hundreds
//! of octaves at a small shape: with the shape a, y″ = (e^y − a)·y′². At a far end, Newton's method
//! solves for the quantile with the series and the continued fraction of the incomplete gamma
//! function (DLMF 8.7.1 and 8.9.2).

use crate::{
    double_double::{DoubleDouble, power_of_two},
    quantile_steps::{INVERSES, QuantileEquation, Series, State, exp, newton, nodes, product},
    standard_quantiles::{self, StandardQuantiles},
};

/// ln √(2π).
pub(crate) const LN_ROOT_TAU: DoubleDouble =
    DoubleDouble::new(0.918_938_533_204_672_8, -3.878_294_158_067_241e-17);
/// Coefficients of Stirling's series, B_2k / (2k·(2k − 1)), as fractions (DLMF 5.11.1).
const STIRLING: [(f64, f64); 13] = [
    (1.0, 12.0),
    (-1.0, 360.0),
    (1.0, 1260.0),
    (-1.0, 1680.0),
    (1.0, 1188.0),
    (-691.0, 360_360.0),
    (1.0, 156.0),
    (-3617.0, 122_400.0),
    (43_867.0, 244_188.0),
    (-174_611.0, 125_400.0),
    (77_683.0, 5796.0),
    (-236_364_091.0, 1_506_960.0),
    (657_931.0, 300.0),
];
/// Stirling's series is accurate to 2^-119 from here on.
const STIRLING_START: f64 = 32.0;
/// Smallest shape: below, the far end of the lower half cannot be represented.
pub const MIN_SHAPE: f64 = 0.01;
/// Largest shape: above, the exponent of the density loses too many digits.
pub const MAX_SHAPE: f64 = 1e6;

fn dd(x: f64) -> DoubleDouble {
    DoubleDouble::from(x)
}

/// ln Γ(x) for 0 < x ≤ 2^30, with absolute error below 2^-95·max(1, |ln Γ|).
pub fn ln_gamma(x: DoubleDouble) -> DoubleDouble {
    // Γ(x) = Γ(x + n) / (x·(x + 1)·…·(x + n − 1))
    let (mut z, mut product) = (x, DoubleDouble::ONE);
    while z.to_f64() < STIRLING_START {
        product = product * z;
        z = z + DoubleDouble::ONE;
    }
    let inverse = DoubleDouble::ONE / z;
    let square = inverse * inverse;
    let series = STIRLING.iter().rev().fold(DoubleDouble::ZERO, |sum, &(numerator, denominator)| {
        sum * square + dd(numerator) / dd(denominator)
    });
    (z - dd(0.5)) * z.ln() - z + LN_ROOT_TAU + series * inverse - product.ln()
}

/// A gamma law of scale 1.
struct Gamma {
    shape: DoubleDouble,
    ln_gamma: DoubleDouble,
}

#[derive(Clone, Copy, PartialEq)]
enum Half {
    Lower,
    Upper,
}

impl Gamma {
    /// ln of w·f(w), at y = ln w.
    fn ln_density(&self, y: DoubleDouble) -> DoubleDouble {
        self.shape * y - exp(y) - self.ln_gamma
    }

    /// ln of the probability beyond y = ln w, at the far end of a half.
    fn ln_tail(&self, half: Half, y: DoubleDouble) -> DoubleDouble {
        let w = exp(y);
        self.ln_density(y)
            + match half {
                Half::Lower => self.lower_series(w).ln() - self.shape.ln(),
                Half::Upper => self.upper_fraction(w).ln(),
            }
    }

    /// Σ wⁿ / ((a + 1)·…·(a + n)).
    fn lower_series(&self, w: DoubleDouble) -> DoubleDouble {
        let (mut term, mut sum, mut factor) = (DoubleDouble::ONE, DoubleDouble::ONE, self.shape);
        while term.to_f64() > sum.to_f64() * power_of_two(-108) {
            factor = factor + DoubleDouble::ONE;
            term = term * w / factor;
            sum = sum + term;
        }
        sum
    }

    /// The continued fraction of Γ(a, w)·e^w·w^−a, by Lentz's method.
    fn upper_fraction(&self, w: DoubleDouble) -> DoubleDouble {
        let mut b = w + DoubleDouble::ONE - self.shape;
        let mut d = DoubleDouble::ONE / b;
        let (mut c, mut fraction) = (dd(power_of_two(200)), d);
        for i in 1u32.. {
            let i = dd(f64::from(i));
            let a = i * (self.shape - i);
            b = b + dd(2.0);
            d = DoubleDouble::ONE / (a * d + b);
            c = b + a / c;
            let change = c * d;
            fraction = fraction * change;
            if (change - DoubleDouble::ONE).abs().to_f64() < power_of_two(-102) {
                break;
            }
        }
        fraction
    }
}

/// A half of the distribution, seen from its far end: the equation of y = ln w.
struct GammaHalf<'a>(&'a Gamma, Half);

impl QuantileEquation for GammaHalf<'_> {
    /// Both guesses lie beyond the quantile: F(w) ≤ w^a / Γ(a + 1), and the bound of Boucheron,
    /// Lugosi, Massart, "Concentration inequalities" (2013), section 2.4. The logarithm of a tail
    /// has no inflection there, so Newton's method stays on one side.
    fn far_end(&self) -> DoubleDouble {
        let Self(gamma, half) = self;
        let (shape, target) = (gamma.shape, dd(power_of_two(-65)).ln());
        let guess = match half {
            Half::Lower => (target + gamma.ln_gamma + shape.ln()) / shape,
            Half::Upper => {
                let root = (shape * -target).scale(2.0).ln().scale(0.5).exp();
                (shape - target + root).ln()
            }
        };
        newton(guess, |y| {
            let tail = gamma.ln_tail(*half, y);
            let rate = exp(gamma.ln_density(y) - tail);
            (tail - target, if *half == Half::Lower { rate } else { -rate })
        })
    }

    fn slope(&self, y: DoubleDouble) -> DoubleDouble {
        let slope = exp(-self.0.ln_density(y));
        if self.1 == Half::Lower { slope } else { -slope }
    }

    fn start(&self, y: DoubleDouble) -> State {
        State::new(exp(y), DoubleDouble::ZERO)
    }

    /// g(y) = e^y − a, and (e^y)′ = e^y·y′.
    fn factor(&self, n: usize, slopes: &Series, state: &mut State) -> DoubleDouble {
        if n == 0 {
            return state.first[0] - self.0.shape;
        }
        state.first[n] = product(&state.first, slopes, n - 1) * INVERSES[n - 1];
        state.first[n]
    }

    fn quantile(&self, y: DoubleDouble) -> DoubleDouble {
        exp(y)
    }
}

/// The gamma quantile of this shape and of scale 1, with relative error below 2^-85.
///
/// # Panics
/// When `shape` is outside [`MIN_SHAPE`] to [`MAX_SHAPE`], or `segment_bits` outside 4 to 8.
pub fn quantiles(shape: f64, segment_bits: u32) -> StandardQuantiles {
    assert!((MIN_SHAPE..=MAX_SHAPE).contains(&shape), "the shape must be from 0.01 to 10^6");
    assert!((4..=8).contains(&segment_bits), "tables have 4 to 8 segment bits");
    let gamma = Gamma { shape: dd(shape), ln_gamma: ln_gamma(dd(shape)) };
    let per_octave = 2 << segment_bits;
    StandardQuantiles {
        distances: standard_quantiles::uniform(segment_bits).distances.clone(),
        lower: nodes(&GammaHalf(&gamma, Half::Lower), per_octave),
        upper: nodes(&GammaHalf(&gamma, Half::Upper), per_octave),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relative(a: DoubleDouble, b: DoubleDouble) -> f64 {
        ((a - b) / b).abs().to_f64()
    }

    #[test]
    fn ln_gamma_matches_factorials_and_the_root_of_pi() {
        assert!(ln_gamma(DoubleDouble::ONE).abs().to_f64() < power_of_two(-95));
        assert!(relative(ln_gamma(dd(11.0)), dd(3_628_800.0).ln()) < power_of_two(-95));
        // Γ(1/2) is the root of π.
        let ln_root_pi = LN_ROOT_TAU - dd(2.0).ln().scale(0.5);
        assert!(relative(ln_gamma(dd(0.5)), ln_root_pi) < power_of_two(-95));
    }

    #[test]
    fn both_halves_meet_in_the_middle() {
        for shape in [0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 3.7, 25.0, 400.0, 1e4, 1e6] {
            let q = quantiles(shape, 4);
            let (lower, upper) = (q.lower.last().unwrap(), q.upper.last().unwrap());
            let gap = relative(*lower, *upper);
            assert!(gap < power_of_two(-86), "shape {shape}: 2^{}", -86.0 * gap / power_of_two(-86));
            assert!(q.lower.windows(2).all(|w| !w[1].is_less_than(w[0])), "shape {shape}");
            assert!(q.upper.windows(2).all(|w| w[1].is_less_than(w[0])), "shape {shape}");
        }
    }

    #[test]
    fn shape_one_is_exponential() {
        let (gamma, exponential) = (quantiles(1.0, 5), standard_quantiles::exponential(5));
        for (found, expected) in [(&gamma.lower, &exponential.lower), (&gamma.upper, &exponential.upper)] {
            for (&found, &expected) in found.iter().zip(expected) {
                assert!(relative(found, expected) < power_of_two(-88), "{expected:?}");
            }
        }
    }

    #[test]
    fn quantiles_match_published_figures() {
        // Chi-squared quantiles at 1/2, half of them here: 1, 2 and 10 degrees of freedom.
        for (shape, median) in [
            (0.5, 0.454_936_423_119_572_8),
            (1.0, std::f64::consts::LN_2 * 2.0),
            (5.0, 9.341_817_765_591_966),
        ] {
            let found = quantiles(shape, 4).lower.last().unwrap().scale(2.0).to_f64();
            assert!((found / median - 1.0).abs() < 1e-15, "{shape}: {found}");
        }
    }
}
