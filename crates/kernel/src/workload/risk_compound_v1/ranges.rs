//! What can be said about the amounts of a component without a run: medians, existence of moments,
//! smallest and largest amounts.

use forge_contract::program::MAX_AMOUNT;

use super::portfolio::{ComponentSeverity, PortfolioComponent};
use crate::{
    beta, double_double::DoubleDouble, gamma, inverse_gaussian, severities::SeverityLaw,
    standard_quantiles::StandardQuantiles, workload::to_minor_units,
};

fn dd(x: f64) -> DoubleDouble {
    DoubleDouble::from(x)
}

/// e^x, cut to what is certainly too small or too large for an amount.
fn exp(x: DoubleDouble) -> f64 {
    if x.to_f64().abs() > 500.0 {
        dd(500.0_f64.copysign(x.to_f64())).exp().to_f64()
    } else {
        x.exp().to_f64()
    }
}

/// ln 2, the standard exponential median.
fn ln_2() -> DoubleDouble {
    dd(2.0).ln()
}

/// The median, in units of the args, or a figure near it that is cheaper: of gamma, beta and
/// inverse Gaussian laws the mean.
pub fn typical_amount(law: &SeverityLaw) -> f64 {
    match *law {
        SeverityLaw::Lognormal { mu, .. } => exp(dd(mu)),
        SeverityLaw::Normal { mean, .. } | SeverityLaw::InverseGaussian { mean, .. } => mean,
        SeverityLaw::Exponential { mean } => mean * ln_2().to_f64(),
        SeverityLaw::Weibull { shape, scale } => scale * exp(ln_2().ln() / dd(shape)),
        SeverityLaw::Pareto { threshold, alpha } => threshold * exp(ln_2() / dd(alpha)),
        SeverityLaw::Lomax { alpha, scale } => scale * excess(alpha),
        SeverityLaw::Gpd { threshold, scale, xi: 0.0 } => threshold + scale * ln_2().to_f64(),
        SeverityLaw::Gpd { threshold, scale, xi } => {
            threshold + scale * ((ln_2() * dd(xi)).exp_m1() / dd(xi)).to_f64()
        }
        SeverityLaw::Burr { alpha, scale, gamma } => scale * exp(dd(excess(alpha)).ln() / dd(gamma)),
        SeverityLaw::Gamma { shape, scale } => shape * scale,
        SeverityLaw::Beta { a, b, scale } => scale * (a / (a + b)),
        SeverityLaw::Uniform { low, high } => low + (high - low) / 2.0,
    }
}

impl ComponentSeverity {
    /// The typical amount in minor units: that of the law, or the mean of listed amounts. Of an
    /// index, `units` are [`INDEX_UNITS`](super::portfolio::INDEX_UNITS).
    pub fn typical_amount(&self, units: u32) -> f64 {
        match self {
            Self::Law(law) => typical_amount(law) * f64::from(units),
            Self::Constant(amount) => *amount as f64,
            Self::Discrete { amounts, weights } => {
                let total: f64 = weights.iter().sum();
                amounts.iter().zip(weights).map(|(&amount, weight)| amount as f64 * weight).sum::<f64>()
                    / total
            }
            Self::Piecewise { amounts, probabilities } => {
                let pieces = amounts.windows(2).zip(probabilities.windows(2));
                pieces.map(|(a, p)| (a[0] as f64 + a[1] as f64) / 2.0 * (p[1] - p[0])).sum()
            }
        }
    }
}

/// 2^(1/alpha) − 1.
fn excess(alpha: f64) -> f64 {
    (ln_2() / dd(alpha)).exp_m1().to_f64()
}

/// The median, in units of the args.
pub fn median(law: &SeverityLaw) -> f64 {
    let middle = |quantiles: StandardQuantiles| quantiles.lower.last().map_or(0.0, |median| median.to_f64());
    match *law {
        SeverityLaw::Gamma { shape, scale } => scale * middle(gamma::quantiles(shape, 4)),
        SeverityLaw::Beta { a, b, scale } => scale * middle(beta::quantiles(a, b, 4)),
        SeverityLaw::InverseGaussian { mean, shape } => mean * middle(inverse_gaussian::quantiles(shape, 4)),
        _ => typical_amount(law),
    }
}

impl ComponentSeverity {
    /// The exponent α of the tail, in proportion to x^−α; `None` where every moment exists.
    pub fn tail_index(&self) -> Option<f64> {
        match self {
            Self::Law(law) => tail_index(law),
            Self::Constant(_) | Self::Discrete { .. } | Self::Piecewise { .. } => None,
        }
    }
}

fn tail_index(law: &SeverityLaw) -> Option<f64> {
    match *law {
        SeverityLaw::Pareto { alpha, .. } | SeverityLaw::Lomax { alpha, .. } => Some(alpha),
        SeverityLaw::Gpd { xi, .. } if xi > 0.0 => Some(1.0 / xi),
        SeverityLaw::Burr { alpha, gamma, .. } => Some(alpha * gamma),
        _ => None,
    }
}

/// Smallest and largest amount, in units of the args; infinity without a largest one.
fn support(law: &SeverityLaw) -> (f64, f64) {
    match *law {
        SeverityLaw::Pareto { threshold, .. } => (threshold, f64::INFINITY),
        SeverityLaw::Gpd { threshold, scale, xi } if xi < 0.0 => (threshold, threshold - scale / xi),
        SeverityLaw::Gpd { threshold, .. } => (threshold, f64::INFINITY),
        SeverityLaw::Beta { scale, .. } => (0.0, scale),
        SeverityLaw::Uniform { low, high } => (low, high),
        _ => (0.0, f64::INFINITY),
    }
}

/// Smallest and largest amount, in minor units. A largest amount of [`MAX_AMOUNT`] or more stands
/// for no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmountRange {
    /// Smallest amount.
    pub min: u64,
    /// Largest amount.
    pub max: u64,
}

impl PortfolioComponent {
    /// The amounts of the component after its policy terms.
    pub fn range(&self, units: u32) -> AmountRange {
        let (min, max) = match &self.severity {
            ComponentSeverity::Constant(amount) => (*amount, *amount),
            ComponentSeverity::Discrete { amounts, weights } => {
                let possible = || amounts.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
                let amount = |(amount, _): (&u64, &f64)| *amount;
                (possible().map(amount).min().unwrap_or(0), possible().map(amount).max().unwrap_or(0))
            }
            ComponentSeverity::Piecewise { amounts, .. } => {
                (amounts.first().copied().unwrap_or(0), amounts.last().copied().unwrap_or(0))
            }
            ComponentSeverity::Law(law) => {
                let (min, max) = support(law);
                let largest = MAX_AMOUNT as f64 / f64::from(units);
                let max = if max < largest { to_minor_units(max, units) } else { MAX_AMOUNT };
                (to_minor_units(min, units), max)
            }
        };
        // The factor of an index can be any.
        let (min, max) = match self.index {
            Some(_) => (0, if max > 0 { MAX_AMOUNT } else { 0 }),
            None => (min, max),
        };
        AmountRange { min: self.after_terms(min), max: self.after_terms(max) }
    }

    /// An amount after the policy terms. [`MAX_AMOUNT`] stands for no bound, also afterwards.
    fn after_terms(&self, amount: u64) -> u64 {
        if amount == MAX_AMOUNT && self.limit == MAX_AMOUNT {
            return MAX_AMOUNT;
        }
        let paid = if amount < self.franchise { 0 } else { amount - self.deductible.min(amount) };
        self.share.of(paid.min(self.limit))
    }
}
