//! Severities: the laws of an occurrence's amount, as quantile tables (docs/determinism.md, section
//! 5.2).
//!
//! A law is a function of a standard quantile: the normal, the exponential or the uniform one,
//! which are tabulated once, or one of its own shape (gamma, beta, inverse Gaussian). Parameters
//! follow Klugman, Panjer, Willmot, "Loss Models", 4th ed., appendix A, except where a field says
//! otherwise.

use forge_contract::program::Segment;

use crate::{
    beta,
    double_double::{DoubleDouble, power_of_two},
    dyadic::Fraction,
    gamma, inverse_gaussian,
    standard_quantiles::{self, StandardQuantiles},
    tables::{self, QuantileFunction, QuantileNode, UndecidedFloor},
};

/// A law of the amount of an occurrence, in units of the args. Parameters are exactly the f64
/// given, all positive unless a field says otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SeverityLaw {
    /// The logarithm is normal.
    Lognormal {
        /// Mean of the logarithm; may be negative.
        mu: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Normal; negative amounts become 0.
    Normal {
        /// Mean; may be 0.
        mean: f64,
        /// Standard deviation.
        std_dev: f64,
    },
    /// Exponential.
    Exponential {
        /// Mean.
        mean: f64,
    },
    /// Weibull: 1 − exp(−(x / scale)^shape).
    Weibull {
        /// Shape τ.
        shape: f64,
        /// Scale θ.
        scale: f64,
    },
    /// Pareto of one parameter: 1 − (threshold / x)^alpha, above the threshold.
    Pareto {
        /// Smallest amount.
        threshold: f64,
        /// Tail index α.
        alpha: f64,
    },
    /// Pareto from 0 (Pareto II): 1 − (1 + x / scale)^−alpha.
    Lomax {
        /// Tail index α.
        alpha: f64,
        /// Scale θ.
        scale: f64,
    },
    /// Generalised Pareto: 1 − (1 + xi·(x − threshold) / scale)^(−1/xi).
    Gpd {
        /// Smallest amount; may be 0.
        threshold: f64,
        /// Scale σ.
        scale: f64,
        /// Shape ξ; may be 0 or negative.
        xi: f64,
    },
    /// Burr (XII): 1 − (1 + (x / scale)^gamma)^−alpha.
    Burr {
        /// Shape α.
        alpha: f64,
        /// Scale θ.
        scale: f64,
        /// Shape γ.
        gamma: f64,
    },
    /// Gamma.
    Gamma {
        /// Shape α, 0.01 to 10^6.
        shape: f64,
        /// Scale θ.
        scale: f64,
    },
    /// Beta, on amounts from 0 to a scale.
    Beta {
        /// Shape a, 0.01 to 10^5.
        a: f64,
        /// Shape b, 0.01 to 10^5.
        b: f64,
        /// Largest amount.
        scale: f64,
    },
    /// Inverse Gaussian.
    InverseGaussian {
        /// Mean μ.
        mean: f64,
        /// Shape φ = λ / μ, the inverse of the squared coefficient of variation; 0.001 to 10^6.
        shape: f64,
    },
    /// Uniform between two amounts.
    Uniform {
        /// Smallest amount; may be 0.
        low: f64,
        /// Largest amount.
        high: f64,
    },
}

/// Arguments of e^x beyond this give amounts that are cut to the largest one, or to 0.
const MAX_EXPONENT: f64 = 500.0;

fn cut(x: DoubleDouble) -> DoubleDouble {
    let limit = DoubleDouble::from(MAX_EXPONENT);
    let cut = if limit.is_less_than(x) { limit } else { x };
    if cut.is_less_than(-limit) { -limit } else { cut }
}

fn exp(x: DoubleDouble) -> DoubleDouble {
    cut(x).exp()
}

fn exp_m1(x: DoubleDouble) -> DoubleDouble {
    cut(x).exp_m1()
}

impl SeverityLaw {
    /// The number of segment bits with which the law's table is accurate: relative to the amount,
    /// to 10^−5. `None` where 8 bits, the most there are, are not enough.
    ///
    /// The quantile is nearly a power of the distance from each end of (0, 1): the larger the power
    /// in magnitude, the more segments an octave needs.
    pub fn segment_bits(&self) -> Option<u32> {
        let power = match *self {
            Self::Lognormal { sigma, .. } => return Some(if sigma <= 4.0 { 6 } else { 7 }),
            Self::Normal { .. } | Self::Exponential { .. } | Self::Uniform { .. } => return Some(6),
            Self::InverseGaussian { .. } => return Some(6),
            Self::Weibull { shape, .. } | Self::Gamma { shape, .. } => 1.0 / shape,
            Self::Pareto { alpha, .. } | Self::Lomax { alpha, .. } => 1.0 / alpha,
            Self::Gpd { xi, .. } => xi.abs(),
            Self::Burr { alpha, gamma, .. } => (1.0 / gamma).max(1.0 / (alpha * gamma)),
            Self::Beta { a, b, .. } => (1.0 / a).max(1.0 / b),
        };
        match power {
            power if power <= 4.0 => Some(6),
            power if power <= 9.0 => Some(7),
            power if power <= 20.0 => Some(8),
            _ => None,
        }
    }

    /// The quantile table of the law, with `units` minor units in a unit of the args.
    ///
    /// # Errors
    /// [`UndecidedFloor`], when the floor of an entry cannot be decided.
    ///
    /// # Panics
    /// When `segment_bits` is below 4 or above 8.
    pub fn table(&self, units: u32, segment_bits: u32) -> Result<Vec<Segment>, UndecidedFloor> {
        let law = InMinorUnits { law: *self, units: f64::from(units) };
        let table = |standard: &StandardQuantiles| tables::quantile_table(standard, &law);
        match *self {
            Self::Lognormal { .. } | Self::Normal { .. } => table(standard_quantiles::normal(segment_bits)),
            Self::Uniform { .. } => table(standard_quantiles::uniform(segment_bits)),
            Self::Gamma { shape, .. } => table(&gamma::quantiles(shape, segment_bits)),
            Self::Beta { a, b, .. } => table(&beta::quantiles(a, b, segment_bits)),
            Self::InverseGaussian { shape, .. } => table(&inverse_gaussian::quantiles(shape, segment_bits)),
            _ => table(standard_quantiles::exponential(segment_bits)),
        }
    }
}

use SeverityLaw::{
    Beta, Burr, Exponential, Gamma, Gpd, InverseGaussian, Lognormal, Lomax, Normal, Pareto, Uniform, Weibull,
};

/// A law in minor units.
struct InMinorUnits {
    law: SeverityLaw,
    units: f64,
}

impl QuantileFunction for InMinorUnits {
    fn near(&self, x: DoubleDouble) -> QuantileNode {
        let dd = DoubleDouble::from;
        let units = dd(self.units);
        let amount = match self.law {
            Lognormal { mu, sigma } => exp(dd(mu) + x * dd(sigma)),
            Normal { mean, std_dev } => {
                let deviation = x * dd(std_dev);
                let value = (dd(mean) + deviation) * units;
                return QuantileNode { value, scale: (dd(mean).abs() + deviation.abs()) * units };
            }
            Uniform { low, high } => dd(low) + x * (dd(high) - dd(low)),
            Gamma { scale, .. } => x * dd(scale),
            Beta { scale, .. } => {
                let value = x * dd(scale) * units;
                return QuantileNode {
                    value,
                    scale: value.scale(beta::RELATIVE_ERROR / tables::RELATIVE_ERROR),
                };
            }
            InverseGaussian { mean, .. } => x * dd(mean),
            Exponential { mean } => x * dd(mean),
            Weibull { shape, scale } => exp(x.ln() / dd(shape)) * dd(scale),
            Pareto { threshold, alpha } => exp(x / dd(alpha)) * dd(threshold),
            Lomax { alpha, scale } => exp_m1(x / dd(alpha)) * dd(scale),
            Gpd { threshold, scale, xi } => dd(threshold) + generalised_excess(x, xi) * dd(scale),
            Burr { alpha, scale, gamma } => exp(exp_m1(x / dd(alpha)).ln() / dd(gamma)) * dd(scale),
        };
        QuantileNode::from(amount * units)
    }

    fn exact(&self, survival: &Fraction, candidate: &Fraction) -> Option<Fraction> {
        let units = || Fraction::new(self.units);
        let amount = candidate.clone() * units().inverse();
        let (low, high) = self.law.bounds();
        if low.is_some_and(|low| amount.is(&low)) {
            // The quantile is above it, but by less than any entry resolves.
            return Some(candidate.clone());
        }
        if high.is_some_and(|high| amount.is(&high)) {
            // The quantile is below it, by less than any entry resolves.
            return Some(candidate.clone() + Fraction::of_integer(-1, -500));
        }
        Some(self.law.rational_quantile(survival, &amount)? * units())
    }
}

impl SeverityLaw {
    /// The infimum and the supremum of the amounts, where they are finite.
    fn bounds(&self) -> (Option<Fraction>, Option<Fraction>) {
        let number = Fraction::new;
        match *self {
            Normal { .. } => (None, None),
            Pareto { threshold, .. } => (Some(number(threshold)), None),
            Gpd { threshold, scale, xi } => {
                let width = || number(-scale) * number(xi).inverse();
                (Some(number(threshold)), (xi < 0.0).then(|| number(threshold) + width()))
            }
            Uniform { low, high } => (Some(number(low)), Some(number(high))),
            Beta { scale, .. } => (Some(number(0.0)), Some(number(scale))),
            _ => (Some(number(0.0)), None),
        }
    }

    /// The quantile at a probability of being exceeded, where it is known to be rational. It may be
    /// `candidate`.
    ///
    /// The laws of powers are rational where the root of the probability is. Those of logarithms
    /// and exponentials of rational numbers are not, but at the median of a normal law: they are
    /// transcendental. The distribution function of a beta law of integers is a polynomial.
    fn rational_quantile(&self, survival: &Fraction, candidate: &Fraction) -> Option<Fraction> {
        let number = Fraction::new;
        let minus_one = || number(-1.0);
        let power = |exponent: Fraction| survival.power(&(minus_one() * exponent));
        let is_median = survival.is(&number(0.5));
        let amount = match *self {
            Normal { mean, .. } if is_median => number(mean),
            Lognormal { mu: 0.0, .. } if is_median => number(1.0),
            Pareto { threshold, alpha } => number(threshold) * power(number(alpha).inverse())?,
            Lomax { alpha, scale } => number(scale) * (power(number(alpha).inverse())? + minus_one()),
            Gpd { threshold, scale, xi } if xi != 0.0 => {
                let excess = (power(number(xi))? + minus_one()) * number(xi).inverse();
                number(threshold) + number(scale) * excess
            }
            Burr { alpha, scale, gamma } => {
                let excess = power(number(alpha).inverse())? + minus_one();
                number(scale) * excess.power(&number(gamma).inverse())?
            }
            Uniform { low, high } => {
                let width = number(high) + minus_one() * number(low);
                number(high) + minus_one() * survival.clone() * width
            }
            Beta { a, b: 1.0, scale } => {
                number(scale) * (number(1.0) + minus_one() * survival.clone()).power(&number(a).inverse())?
            }
            Beta { a: 1.0, b, scale } => {
                number(scale) * (number(1.0) + minus_one() * survival.power(&number(b).inverse())?)
            }
            Beta { a, b, scale } if a == b && is_median => number(scale * 0.5),
            Beta { a, b, scale } if a + b < 200.0 && a as u32 as f64 == a && b as u32 as f64 == b => {
                let x = candidate.clone() * number(scale).inverse();
                let (a, trials) = (a as u32, (a + b) as u32 - 1);
                let is_quantile = x.is_probability()
                    && (number(1.0) + minus_one() * x.binomial_tail(a, trials)).is(survival);
                return is_quantile.then(|| candidate.clone());
            }
            _ => return None,
        };
        Some(amount)
    }
}

/// (e^(ξ·x) − 1) / ξ, which is x for ξ = 0.
fn generalised_excess(x: DoubleDouble, xi: f64) -> DoubleDouble {
    let xi_x = x * DoubleDouble::from(xi);
    // Below this, the two parts of ξ·x would lose digits; the difference is below 2^-100 of x.
    if xi.abs() < power_of_two(-106) { x } else { exp_m1(xi_x) / DoubleDouble::from(xi) }
}
