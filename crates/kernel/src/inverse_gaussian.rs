//! The inverse Gaussian quantile function of mean 1, at the nodes of the quantile tables.
//!
//! Taylor steps (`quantile_steps`) solve the equation of y = ln w: with the shape φ = λ / μ, y″ =
//! (1/2 + φ/2·(w − 1/w))·y′². At a far end, Newton's method solves for the quantile with the normal
//! tails of its distribution function (Johnson, Kotz, Balakrishnan, "Continuous Univariate
//! Distributions", vol. 1, section 15.6), in the form of Mills ratios, so that nothing overflows.

use crate::{
    double_double::{DoubleDouble, power_of_two},
    gamma::LN_ROOT_TAU,
    quantile_steps::{INVERSES, QuantileEquation, Series, State, exp, newton, nodes, product},
    standard_quantiles::{self, StandardQuantiles},
};

/// Smallest shape φ: below, the two terms of the upper tail cancel.
pub const MIN_SHAPE: f64 = 1e-3;
/// Largest shape φ.
pub const MAX_SHAPE: f64 = 1e6;

fn dd(x: f64) -> DoubleDouble {
    DoubleDouble::from(x)
}

/// A half of the law of mean 1, seen from its far end.
struct InverseGaussianHalf {
    shape: DoubleDouble,
    root_of_shape: DoubleDouble,
    is_upper: bool,
}

/// P(Z > x) / φ(x) of a standard normal Z, for x ≥ 2: 1 / (x + 1 / (x + 2 / (x + …))), by Lentz's
/// method.
fn mills_ratio(x: DoubleDouble) -> DoubleDouble {
    let mut d = DoubleDouble::ONE / x;
    let (mut c, mut fraction) = (dd(power_of_two(200)), d);
    for n in 1u32.. {
        let n = dd(f64::from(n));
        d = DoubleDouble::ONE / (n * d + x);
        c = x + n / c;
        let change = c * d;
        fraction = fraction * change;
        if (change - DoubleDouble::ONE).abs().to_f64() < power_of_two(-103) {
            break;
        }
    }
    fraction
}

impl InverseGaussianHalf {
    fn new(shape: f64, is_upper: bool) -> Self {
        Self { shape: dd(shape), root_of_shape: dd(shape).sqrt(), is_upper }
    }

    /// √φ·(√w − 1/√w), which is normal but for a reflection.
    fn deviation(&self, y: DoubleDouble) -> DoubleDouble {
        let root = exp(y.scale(0.5));
        self.root_of_shape * (root - DoubleDouble::ONE / root)
    }

    /// ln of w·f(w).
    fn ln_density(&self, y: DoubleDouble) -> DoubleDouble {
        let deviation = self.deviation(y);
        (self.shape.ln() - y).scale(0.5) - LN_ROOT_TAU - (deviation * deviation).scale(0.5)
    }

    /// ln of the probability beyond y, at the far end.
    fn ln_tail(&self, y: DoubleDouble) -> DoubleDouble {
        let root = exp(y.scale(0.5));
        let deviation = self.deviation(y);
        let reflected = mills_ratio(self.root_of_shape * (root + DoubleDouble::ONE / root));
        let ratio = if self.is_upper {
            mills_ratio(deviation) - reflected
        } else {
            mills_ratio(-deviation) + reflected
        };
        ratio.ln() - LN_ROOT_TAU - (deviation * deviation).scale(0.5)
    }
}

impl QuantileEquation for InverseGaussianHalf {
    fn far_end(&self) -> DoubleDouble {
        let target = dd(power_of_two(-65)).ln();
        // Beyond this deviation even twice the normal tail is smaller.
        let k = dd(9.4) / self.root_of_shape;
        let root = (k + (k * k + dd(4.0)).sqrt()).scale(0.5);
        let y = root.ln().scale(2.0);
        newton(if self.is_upper { y } else { -y }, |y| {
            let tail = self.ln_tail(y);
            let rate = exp(self.ln_density(y) - tail);
            (tail - target, if self.is_upper { -rate } else { rate })
        })
    }

    fn slope(&self, y: DoubleDouble) -> DoubleDouble {
        let slope = exp(-self.ln_density(y));
        if self.is_upper { -slope } else { slope }
    }

    /// The functions are w and 1 / w.
    fn start(&self, y: DoubleDouble) -> State {
        State::new(exp(y), exp(-y))
    }

    /// g(y) = 1/2 + φ/2·(w − 1/w).
    fn factor(&self, n: usize, slopes: &Series, state: &mut State) -> DoubleDouble {
        let half = self.shape.scale(0.5);
        if n == 0 {
            return dd(0.5) + half * (state.first[0] - state.second[0]);
        }
        state.first[n] = product(&state.first, slopes, n - 1) * INVERSES[n - 1];
        state.second[n] = -product(&state.second, slopes, n - 1) * INVERSES[n - 1];
        half * (state.first[n] - state.second[n])
    }

    fn quantile(&self, y: DoubleDouble) -> DoubleDouble {
        exp(y)
    }
}

/// The quantile of the inverse Gaussian law of mean 1 and shape φ = λ / μ, with relative error
/// below 2^-85.
///
/// # Panics
/// When `shape` is outside [`MIN_SHAPE`] to [`MAX_SHAPE`], or `segment_bits` outside 4 to 8.
pub fn quantiles(shape: f64, segment_bits: u32) -> StandardQuantiles {
    assert!((MIN_SHAPE..=MAX_SHAPE).contains(&shape), "the shape must be from 0.001 to 10^6");
    assert!((4..=8).contains(&segment_bits), "tables have 4 to 8 segment bits");
    let per_octave = 2 << segment_bits;
    StandardQuantiles {
        distances: standard_quantiles::uniform(segment_bits).distances.clone(),
        lower: nodes(&InverseGaussianHalf::new(shape, false), per_octave),
        upper: nodes(&InverseGaussianHalf::new(shape, true), per_octave),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_meet_in_the_middle() {
        for shape in [1e-3, 0.02, 0.5, 1.0, 4.0, 100.0, 1e4, 1e6] {
            let q = quantiles(shape, 4);
            let (lower, upper) = (*q.lower.last().unwrap(), *q.upper.last().unwrap());
            let gap = ((lower - upper) / upper).abs().to_f64();
            assert!(gap < power_of_two(-86), "shape {shape}: {gap:e}");
            assert!(q.lower.windows(2).all(|w| w[0].is_less_than(w[1])), "shape {shape}");
            assert!(q.upper.windows(2).all(|w| w[1].is_less_than(w[0])), "shape {shape}");
        }
    }

    #[test]
    fn mills_ratio_matches_published_figures() {
        // Φ(−3) = 0.001349898031630095 and φ(3) = 0.004431848411938008.
        let ratio = 0.001_349_898_031_630_094_5 / 0.004_431_848_411_938_007;
        assert!((mills_ratio(dd(3.0)).to_f64() / ratio - 1.0).abs() < 1e-14);
    }
}
