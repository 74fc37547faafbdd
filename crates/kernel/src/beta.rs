//! The beta quantile function, at the nodes of the quantile tables.
//!
//! Taylor steps (`quantile_steps`) solve the equation of y = ln(x / (1 − x)), which keeps the
//! digits of x and of 1 − x: y″ = ((a + b)·x − a)·y′². At a far end, Newton's method solves for the
//! quantile with the series of the incomplete beta function (DLMF 8.17.8). The upper half is the
//! lower one of the law with a and b exchanged.

use crate::{
    double_double::{DoubleDouble, power_of_two},
    gamma::ln_gamma,
    quantile_steps::{
        INVERSES, QuantileEquation, STEPS_PER_OCTAVE, Series, State, exp, newton, nodes, product, square,
    },
    standard_quantiles::{self, StandardQuantiles},
};

/// Smallest shape.
pub const MIN_SHAPE: f64 = 0.01;
/// Largest shape.
pub const MAX_SHAPE: f64 = 1e5;
/// 2^-79: the beta function of a small and a large shape loses digits.
pub const RELATIVE_ERROR: f64 = 1.0 / (1u128 << 79) as f64;

fn dd(x: f64) -> DoubleDouble {
    DoubleDouble::from(x)
}

/// The lower half of a beta law.
struct BetaHalf {
    a: DoubleDouble,
    b: DoubleDouble,
    /// ln B(a, b).
    ln_beta: DoubleDouble,
    /// Whether the half stands for the upper one of the exchanged law, whose quantile is 1 − x.
    is_exchanged: bool,
}

impl BetaHalf {
    fn new(a: f64, b: f64, is_exchanged: bool) -> Self {
        let ln_beta = ln_gamma(dd(a)) + ln_gamma(dd(b)) - ln_gamma(dd(a) + dd(b));
        Self { a: dd(a), b: dd(b), ln_beta, is_exchanged }
    }

    /// ln of x·(1 − x)·f(x).
    fn ln_density(&self, y: DoubleDouble) -> DoubleDouble {
        self.a * ln_logistic(y) + self.b * ln_logistic(-y) - self.ln_beta
    }

    /// ln F.
    fn ln_tail(&self, y: DoubleDouble) -> DoubleDouble {
        let (x, one) = (logistic(y), DoubleDouble::ONE);
        let (mut term, mut sum, mut n) = (one, one, DoubleDouble::ZERO);
        while term.to_f64() > sum.to_f64() * power_of_two(-108) {
            n = n + one;
            term = term * x * (self.a + self.b + n - one) / (self.a + n);
            sum = sum + term;
        }
        self.ln_density(y) + sum.ln() - self.a.ln()
    }
}

/// 1 / (1 + e^−y), without loss of digits for negative y.
fn logistic(y: DoubleDouble) -> DoubleDouble {
    if y.to_f64() < 0.0 {
        let e = exp(y);
        return e / (DoubleDouble::ONE + e);
    }
    DoubleDouble::ONE / (DoubleDouble::ONE + exp(-y))
}

/// ln(1 / (1 + e^−y)).
fn ln_logistic(y: DoubleDouble) -> DoubleDouble {
    if y.to_f64() < 0.0 {
        return y + ln_logistic(-y);
    }
    let e = exp(-y);
    // ln_1p has digits for small arguments, and ln for large ones.
    -(if e.to_f64() < 0.25 { e.ln_1p() } else { (DoubleDouble::ONE + e).ln() })
}

impl QuantileEquation for BetaHalf {
    fn far_end(&self) -> DoubleDouble {
        let target = dd(power_of_two(-65)).ln();
        // F(x) is about x^a / (a·B); near 1, the guess is cut.
        let ln_x = (target + self.ln_beta + self.a.ln()) / self.a;
        let guess = if ln_x.to_f64() < -1e-3 { ln_x - (DoubleDouble::ONE - exp(ln_x)).ln() } else { dd(7.0) };
        newton(guess, |y| {
            let tail = self.ln_tail(y);
            (tail - target, exp(self.ln_density(y) - tail))
        })
    }

    fn slope(&self, y: DoubleDouble) -> DoubleDouble {
        exp(-self.ln_density(y))
    }

    /// x has poles at y = ±iπ. There ln t differs by iπ·a from its value on the real axis, so the
    /// pole is π·a of t away, or nearer for the smaller of the shapes. Where x is below 2^-110, it
    /// does not matter.
    fn steps_per_octave(&self, y: DoubleDouble) -> usize {
        let shape = self.a.to_f64().min(self.b.to_f64());
        let factor = (1.0 / (std::f64::consts::PI * shape)).ceil() as usize;
        if y.to_f64() > -76.0 { STEPS_PER_OCTAVE * factor.next_power_of_two() } else { STEPS_PER_OCTAVE }
    }

    /// The functions are x and x·(1 − x).
    fn start(&self, y: DoubleDouble) -> State {
        let x = logistic(y);
        State::new(x, x * logistic(-y))
    }

    /// g(y) = (a + b)·x − a, and x′ = x·(1 − x)·y′.
    fn factor(&self, n: usize, slopes: &Series, state: &mut State) -> DoubleDouble {
        let sum = self.a + self.b;
        if n == 0 {
            return sum * state.first[0] - self.a;
        }
        state.first[n] = product(&state.second, slopes, n - 1) * INVERSES[n - 1];
        state.second[n] = state.first[n] - square(&state.first, n);
        sum * state.first[n]
    }

    fn quantile(&self, y: DoubleDouble) -> DoubleDouble {
        logistic(if self.is_exchanged { -y } else { y })
    }
}

/// The beta quantile, with relative error below [`RELATIVE_ERROR`].
///
/// # Panics
/// When a shape is outside [`MIN_SHAPE`] to [`MAX_SHAPE`], or `segment_bits` outside 4 to 8.
pub fn quantiles(a: f64, b: f64, segment_bits: u32) -> StandardQuantiles {
    let range = MIN_SHAPE..=MAX_SHAPE;
    assert!(range.contains(&a) && range.contains(&b), "a shape must be from 0.01 to 10^5");
    assert!((4..=8).contains(&segment_bits), "tables have 4 to 8 segment bits");
    let per_octave = 2 << segment_bits;
    StandardQuantiles {
        distances: standard_quantiles::uniform(segment_bits).distances.clone(),
        lower: nodes(&BetaHalf::new(a, b, false), per_octave),
        upper: nodes(&BetaHalf::new(b, a, true), per_octave),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relative(a: DoubleDouble, b: DoubleDouble) -> f64 {
        ((a - b) / b).abs().to_f64()
    }

    #[test]
    fn both_halves_meet_in_the_middle() {
        let small = [(0.01, 0.01), (0.01, 1e5), (0.05, 0.3), (0.3, 40.0), (0.5, 0.5), (0.05, 2_000.0)];
        let large = [(1.0, 3.7), (2.0, 5.0), (40.0, 0.5), (2_000.0, 300.0), (1e5, 0.01), (1e5, 1e5)];
        for (a, b) in small.into_iter().chain(large) {
            let q = quantiles(a, b, 4);
            let gap = relative(*q.lower.last().unwrap(), *q.upper.last().unwrap());
            assert!(gap < power_of_two(-79), "beta({a}, {b}): {gap:e}");
            assert!(q.lower.windows(2).all(|w| !w[1].is_less_than(w[0])), "beta({a}, {b})");
            assert!(q.upper.windows(2).all(|w| !w[0].is_less_than(w[1])), "beta({a}, {b})");
        }
    }

    #[test]
    fn beta_laws_with_a_shape_of_one_are_powers() {
        let uniform = standard_quantiles::uniform(4);
        // F(x) = x^a.
        let q = quantiles(3.0, 1.0, 4);
        for (found, u) in q.lower.iter().chain(&q.upper).zip(uniform.lower.iter().chain(&uniform.upper)) {
            assert!(relative(*found, (u.ln() / dd(3.0)).exp()) < power_of_two(-88), "{u:?}");
        }
        let q = quantiles(1.0, 1.0, 4);
        for (found, u) in q.lower.iter().chain(&q.upper).zip(uniform.lower.iter().chain(&uniform.upper)) {
            assert!(relative(*found, *u) < power_of_two(-88), "{u:?}");
        }
    }

    #[test]
    fn quantiles_of_polynomials_are_met() {
        // F(x) = 3x² − 2x³ for a = b = 2: F(1/4) = 5/32.
        let q = quantiles(2.0, 2.0, 6);
        let node = 62 * 128 + 32;
        assert_eq!(q.distances[node], 5.0 / 32.0);
        assert!(relative(q.lower[node], dd(0.25)) < power_of_two(-88));
    }
}
