//! How a mean and a coefficient of variation become a family's own parameters.
//!
//! Conversions are normative: f64 steps, each rounded to the nearest f64, in the order that their
//! documentation writes. f64(x) is the f64 nearest to the real number x.

use super::families::ParameterError;
use crate::{
    double_double::{DoubleDouble, power_of_two},
    gamma::ln_gamma,
    severities::SeverityLaw,
};

/// Smallest shape of gamma and beta laws whose tables are accurate: their quantile is nearly the
/// power 1 / shape of the distance from the end, and a table has at most 256 segments an octave.
pub(super) const MIN_SHAPE: f64 = 0.05;
/// What the error of a logarithm is relative to the logarithm: 2^-90.
const LOGARITHM_ERROR: f64 = 1.0 / (1_u128 << 90) as f64;
/// What the errors of a Weibull law's shape and scale are relative to them: 2^-78. A small shape's
/// inverse is the root of a difference of logarithms of Γ, which is as small as its square.
const WEIBULL_ERROR: f64 = 1.0 / (1_u128 << 78) as f64;
/// Halvings after which an interval from 2^-7 to 16 is below 2^-100 of its ends.
const HALVINGS: usize = 112;

/// The f64 nearest to a number that is known up to a relative error. `None` where that does not
/// decide which one it is.
fn nearest(x: DoubleDouble, relative_error: f64) -> Option<f64> {
    let error = DoubleDouble::from(x.to_f64() * relative_error);
    let (low, high) = ((x - error).to_f64(), (x + error).to_f64());
    (low == high).then_some(x.to_f64())
}

/// The error where [`nearest`] has no answer.
fn undecided(parameter: &'static str) -> ParameterError {
    let message = "leads to a parameter too close to the middle of two numbers to be rounded reliably; change its \
                   last digit";
    ParameterError { parameter, message: message.to_owned() }
}

/// ln(1 + x), x ≥ 0. The series of `ln_1p` keeps the digits of a small number.
pub(super) fn ln_1p(x: f64) -> DoubleDouble {
    let x = DoubleDouble::from(x);
    if x.to_f64() < 0.5 { x.ln_1p() } else { (DoubleDouble::ONE + x).ln() }
}

/// v = f64(ln(1 + cv × cv)) where cv × cv is a f64 step and the rest is exact; sigma = √v; mu =
/// f64(ln mean) − v ÷ 2.
pub(super) fn lognormal_of_mean(mean: f64, cv: f64) -> Result<SeverityLaw, ParameterError> {
    let variance = nearest(ln_1p(cv * cv), LOGARITHM_ERROR).ok_or_else(|| undecided("cv"))?;
    let ln_mean = nearest(DoubleDouble::from(mean).ln(), LOGARITHM_ERROR).ok_or_else(|| undecided("mean"))?;
    Ok(SeverityLaw::Lognormal { mu: ln_mean - variance / 2.0, sigma: variance.sqrt() })
}

/// shape = f64(x), where Γ(1 + 2/x) = (1 + cv × cv) · Γ(1 + 1/x)², cv × cv is a f64 step and the
/// rest is exact; scale = f64(mean / Γ(1 + 1/shape)). cv is from 0.013 to 429.
pub(super) fn weibull_of_mean(mean: f64, cv: f64) -> Result<SeverityLaw, ParameterError> {
    let ln_gamma_1p = |x: DoubleDouble| ln_gamma(DoubleDouble::ONE + x);
    let target = ln_1p(cv * cv);
    // The difference ascends with the inverse of the shape.
    let (mut low, mut high) = (DoubleDouble::from(power_of_two(-7)), DoubleDouble::from(16.0));
    for _ in 0..HALVINGS {
        let middle = (low + high).scale(0.5);
        let difference = ln_gamma_1p(middle.scale(2.0)) - ln_gamma_1p(middle).scale(2.0);
        if difference.is_less_than(target) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let shape = nearest(DoubleDouble::ONE / high, WEIBULL_ERROR).ok_or_else(|| undecided("cv"))?;
    let gamma = ln_gamma_1p(DoubleDouble::ONE / DoubleDouble::from(shape)).exp();
    let scale = nearest(DoubleDouble::from(mean) / gamma, WEIBULL_ERROR).ok_or_else(|| undecided("mean"))?;
    Ok(SeverityLaw::Weibull { shape, scale })
}

/// q = cv × cv, alpha = 2 × q ÷ (q − 1), scale = mean × (alpha − 1). cv is above 1.
pub(super) fn lomax_of_mean(mean: f64, cv: f64) -> SeverityLaw {
    let square = cv * cv;
    let alpha = 2.0 * square / (square - 1.0);
    SeverityLaw::Lomax { alpha, scale: mean * (alpha - 1.0) }
}

/// m = mean − threshold, c = mean × cv ÷ m, xi = (1 − 1 ÷ (c × c)) ÷ 2, scale = m × (1 − xi).
pub(super) fn gpd_of_mean(mean: f64, cv: f64, threshold: f64) -> Result<SeverityLaw, ParameterError> {
    if mean <= threshold {
        let message = format!("must be above the threshold, {threshold}; it is {mean}");
        return Err(ParameterError { parameter: "mean", message });
    }
    let excess = mean - threshold;
    let variation = mean * cv / excess;
    let xi = (1.0 - 1.0 / (variation * variation)) / 2.0;
    let limit = match xi {
        xi if xi < -5.0 => "it must be at least 0.3016 times that, where xi is -5",
        xi if xi >= 0.5 => "xi would be 0.5, from where on there is no variance",
        _ => return Ok(SeverityLaw::Gpd { threshold, scale: excess * (1.0 - xi), xi }),
    };
    let message = format!(
        "makes the standard deviation {variation} times the mean of the excess over the threshold, {excess}: {limit}"
    );
    Err(ParameterError { parameter: "cv", message })
}

/// w = mean × (cv × √3), low = mean − w, high = mean + w. cv is below 1/√3.
pub(super) fn uniform_of_mean(mean: f64, cv: f64) -> SeverityLaw {
    let half_width = mean * (cv * 3.0_f64.sqrt());
    SeverityLaw::Uniform { low: mean - half_width, high: mean + half_width }
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
        let nearest = |x| nearest(x, LOGARITHM_ERROR);
        assert_eq!(nearest(DoubleDouble::new(1.0, half_ulp * 0.99)), Some(1.0));
        assert_eq!(nearest(DoubleDouble::new(1.0, half_ulp * (1.0 - 1e-12))), None);
        assert_eq!(nearest(DoubleDouble::ZERO), Some(0.0));
    }

    /// The figures have 17 digits of a solution with 60 digits, by mpmath 1.3.
    #[test]
    fn weibull_parameters_are_the_nearest_numbers_to_the_exact_ones() {
        for (mean, cv, shape, scale) in [
            (1.0, 0.013, 97.93462732563397, 1.0058254610981026),
            (1e6, 0.02, 63.40858357997826, 1008939.8336502338),
            (1000.0, 0.25, 4.542213092139039, 1095.208538849919),
            (1000.0, 0.5, 2.1013490946885436, 1129.063389539609),
            (1000.0, 1.0, 1.0, 1000.0),
            (1000.0, 2.0, 0.5426925612864534, 575.2495548555175),
            (3.0, 5.0, 0.31134072842432564, 0.3807595563855413),
            (250_000.0, 100.0, 0.1280466299225738, 9.299205075057676),
            (1000.0, 429.0, 0.1000289574608909, 0.0002774556143128967),
        ] {
            assert_eq!(
                weibull_of_mean(mean, cv).unwrap(),
                SeverityLaw::Weibull { shape, scale },
                "{mean} {cv}"
            );
        }
    }

    #[test]
    fn parameters_give_the_mean_and_the_variation() {
        let is_close = |a: f64, b: f64| (a / b - 1.0).abs() < 2e-12;
        for (mean, cv) in [(1000.0, 1.0011), (1000.0, 1.5), (0.25, 3.0), (1e9, 100.0), (1.0, 1e6)] {
            let SeverityLaw::Lomax { alpha, scale } = lomax_of_mean(mean, cv) else { panic!() };
            assert!((2.0..=1000.0).contains(&alpha), "{alpha}");
            assert!(is_close(scale / (alpha - 1.0), mean), "{mean} {cv}");
            // cv² = α / (α − 2); near 2, α keeps fewer digits of the difference.
            assert!((alpha - 2.0 - 2.0 / (cv * cv - 1.0)).abs() < 1e-12 * alpha, "{mean} {cv}");
        }
        for (threshold, mean, cv) in [
            (0.0, 1000.0, 0.302),
            (0.0, 1000.0, 1.0),
            (500.0, 800.0, 0.375),
            (500.0, 800.0, 3.0),
            (1e6, 1.5e6, 0.2),
        ] {
            let Ok(SeverityLaw::Gpd { threshold: start, scale, xi }) = gpd_of_mean(mean, cv, threshold)
            else {
                panic!("{threshold} {mean} {cv}")
            };
            assert_eq!(start, threshold);
            let excess = scale / (1.0 - xi);
            assert!(is_close(threshold + excess, mean), "{threshold} {mean} {cv}");
            assert!(is_close(excess / (1.0 - 2.0 * xi).sqrt(), mean * cv), "{threshold} {mean} {cv}");
        }
        // An excess as variable as it is large is exponential.
        let exponential = SeverityLaw::Gpd { threshold: 500.0, scale: 300.0, xi: 0.0 };
        assert_eq!(gpd_of_mean(800.0, 0.375, 500.0).unwrap(), exponential);
        for (mean, cv) in [(1000.0, 0.3), (7.0, 1e-9), (1000.0, 0.57735)] {
            let SeverityLaw::Uniform { low, high } = uniform_of_mean(mean, cv) else { panic!() };
            assert!(0.0 <= low && low < high, "{low} {high}");
            assert!(is_close((low + high) / 2.0, mean));
            assert!(((high - low) / 12.0_f64.sqrt() - mean * cv).abs() < 1e-15 * mean, "{mean} {cv}");
        }
    }
}
