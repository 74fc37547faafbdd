//! Severities: the laws of an occurrence's amount, as quantile tables (docs/determinism.md, section
//! 5.2).
//!
//! A law is a function of one of the standard quantiles, which are tabulated once: the normal, the
//! exponential and the uniform one. Parameters follow Klugman, Panjer,
//! Willmot, "Loss Models", 4th ed., appendix A, except where a field says otherwise.

use forge_contract::program::Segment;

use crate::{
    double_double::{DoubleDouble, power_of_two},
    dyadic::Fraction,
    standard_quantiles,
    tables::{self, Node, QuantileFunction, UndecidedFloor},
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
    /// The quantile table of the law, with `units` minor units in a unit of the args.
    ///
    /// # Errors
    /// [`UndecidedFloor`], when the floor of an entry cannot be decided.
    ///
    /// # Panics
    /// When `segment_bits` is below 4 or above 8.
    pub fn table(&self, units: u32, segment_bits: u32) -> Result<Vec<Segment>, UndecidedFloor> {
        let standard = match self {
            Self::Lognormal { .. } | Self::Normal { .. } => standard_quantiles::normal(segment_bits),
            Self::Uniform { .. } => standard_quantiles::uniform(segment_bits),
            _ => standard_quantiles::exponential(segment_bits),
        };
        tables::quantile_table(standard, &InMinorUnits { law: *self, units: f64::from(units) })
    }
}

use SeverityLaw::{Burr, Exponential, Gpd, Lognormal, Lomax, Normal, Pareto, Uniform, Weibull};

/// A law in minor units.
struct InMinorUnits {
    law: SeverityLaw,
    units: f64,
}

impl QuantileFunction for InMinorUnits {
    fn near(&self, x: DoubleDouble) -> Node {
        let dd = DoubleDouble::from;
        let units = dd(self.units);
        let amount = match self.law {
            Lognormal { mu, sigma } => exp(dd(mu) + x * dd(sigma)),
            Normal { mean, std_dev } => {
                let deviation = x * dd(std_dev);
                let value = (dd(mean) + deviation) * units;
                return Node { value, scale: (dd(mean).abs() + deviation.abs()) * units };
            }
            Uniform { low, high } => dd(low) + x * (dd(high) - dd(low)),
            Exponential { mean } => x * dd(mean),
            Weibull { shape, scale } => exp(x.ln() / dd(shape)) * dd(scale),
            Pareto { threshold, alpha } => exp(x / dd(alpha)) * dd(threshold),
            Lomax { alpha, scale } => exp_m1(x / dd(alpha)) * dd(scale),
            Gpd { threshold, scale, xi } => dd(threshold) + generalised_excess(x, xi) * dd(scale),
            Burr { alpha, scale, gamma } => exp(exp_m1(x / dd(alpha)).ln() / dd(gamma)) * dd(scale),
        };
        Node::from(amount * units)
    }

    /// The laws of powers are rational where the root of the probability is. Those of logarithms
    /// are not: the logarithm of a rational number other than 1 is transcendental.
    fn exact(&self, survival: &Fraction) -> Option<Fraction> {
        let number = Fraction::new;
        let minus_one = || number(-1.0);
        let power = |exponent: Fraction| survival.power(&(minus_one() * exponent));
        let amount = match self.law {
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
            _ => return None,
        };
        Some(number(self.units) * amount)
    }
}

/// (e^(ξ·x) − 1) / ξ, which is x for ξ = 0.
fn generalised_excess(x: DoubleDouble, xi: f64) -> DoubleDouble {
    let xi_x = x * DoubleDouble::from(xi);
    // Below this, the two parts of ξ·x would lose digits; the difference is below 2^-100 of x.
    if xi.abs() < power_of_two(-106) { x } else { exp_m1(xi_x) / DoubleDouble::from(xi) }
}
