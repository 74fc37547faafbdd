//! How a mean and a coefficient of variation become a family's own parameters.
//!
//! Conversions are normative: f64 steps, each rounded to the nearest f64, in the order that their
//! documentation writes. f64(x) is the f64 nearest to the real number x.

use super::families::ParameterError;
use crate::{double_double::DoubleDouble, severities::SeverityLaw};

/// Smallest shape of gamma and beta laws whose tables are accurate: their quantile is nearly the
/// power 1 / shape of the distance from the end, and a table has at most 256 segments an octave.
pub(super) const MIN_SHAPE: f64 = 0.05;
/// What the error of a logarithm is relative to the logarithm: 2^-90.
const LOGARITHM_ERROR: f64 = 1.0 / (1_u128 << 90) as f64;

/// The f64 nearest to a number that is known up to [`LOGARITHM_ERROR`]. `None` where that does not
/// decide which one it is.
fn nearest(x: DoubleDouble) -> Option<f64> {
    let error = DoubleDouble::from(x.to_f64() * LOGARITHM_ERROR);
    let (low, high) = ((x - error).to_f64(), (x + error).to_f64());
    (low == high).then_some(x.to_f64())
}

/// v = f64(ln(1 + cv × cv)) where cv × cv is a f64 step and the rest is exact; sigma = √v; mu =
/// f64(ln mean) − v ÷ 2.
pub(super) fn lognormal_of_mean(mean: f64, cv: f64) -> Result<SeverityLaw, ParameterError> {
    let square = DoubleDouble::from(cv * cv);
    // The series of ln_1p keeps the digits of a small square.
    let is_small = square.to_f64() < 0.5;
    let variance = nearest(if is_small { square.ln_1p() } else { (DoubleDouble::ONE + square).ln() });
    let ln_mean = nearest(DoubleDouble::from(mean).ln());
    let undecided = |parameter| ParameterError {
        parameter,
        message:
            "has a logarithm too close to the middle of two numbers to be rounded reliably; change its last \
                  digit"
                .to_owned(),
    };
    let variance = variance.ok_or_else(|| undecided("cv"))?;
    let mu = ln_mean.ok_or_else(|| undecided("mean"))? - variance / 2.0;
    Ok(SeverityLaw::Lognormal { mu, sigma: variance.sqrt() })
}

/// q = cv × cv, shape = 1 ÷ q, scale = mean × q.
pub(super) fn gamma_of_mean(mean: f64, cv: f64) -> SeverityLaw {
    let square = cv * cv;
    SeverityLaw::Gamma { shape: 1.0 / square, scale: mean * square }
}

/// shape = 1 ÷ (cv × cv).
pub(super) fn inverse_gaussian_of_cv(mean: f64, cv: f64) -> SeverityLaw {
    SeverityLaw::InverseGaussian { mean, shape: 1.0 / (cv * cv) }
}

/// shape = lambda ÷ mean.
pub(super) fn inverse_gaussian(mean: f64, lambda: f64) -> Result<SeverityLaw, ParameterError> {
    let shape = lambda / mean;
    if (1e-3..=1e6).contains(&shape) {
        return Ok(SeverityLaw::InverseGaussian { mean, shape });
    }
    Err(ParameterError {
        parameter: "lambda",
        message: format!("must be from 0.001 to 1000000 times the mean; it is {shape} times the mean"),
    })
}

/// m = mean ÷ scale, r = 1 − m, n = r ÷ (m × (cv × cv)) − 1, a = m × n, b = r × n.
pub(super) fn beta_of_mean(mean: f64, cv: f64, scale: f64) -> Result<SeverityLaw, ParameterError> {
    if mean >= scale {
        let message = format!("must be below the scale, {scale}; it is {mean}");
        return Err(ParameterError { parameter: "mean", message });
    }
    let m = mean / scale;
    let rest = 1.0 - m;
    let n = rest / (m * (cv * cv)) - 1.0;
    let (a, b) = (m * n, rest * n);
    let shapes = MIN_SHAPE..=1e5;
    if shapes.contains(&a) && shapes.contains(&b) {
        return Ok(SeverityLaw::Beta { a, b, scale });
    }
    let message = format!("leads to the shapes a = {a} and b = {b}: they must be from 0.05 to 100000");
    Err(ParameterError { parameter: "cv", message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_near_the_middle_of_two_f64_are_undecided() {
        let half_ulp = f64::EPSILON / 2.0;
        assert_eq!(nearest(DoubleDouble::new(1.0, half_ulp * 0.99)), Some(1.0));
        assert_eq!(nearest(DoubleDouble::new(1.0, half_ulp * (1.0 - 1e-12))), None);
        assert_eq!(nearest(DoubleDouble::ZERO), Some(0.0));
    }
}
