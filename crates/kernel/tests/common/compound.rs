//! The distribution of a year's total, computed without simulation: severities on a lattice,
//! Panjer's recursion, convolution (Klugman, Panjer, Willmot, "Loss Models", 4th ed., sections 9.6
//! to 9.8).
#![allow(clippy::disallowed_methods, reason = "references for statistics, not results")]

use super::gauss::LogNormal;

/// Probabilities of 0, h, 2h, …; the remaining probability lies beyond the last point.
#[derive(Debug, Clone)]
pub struct Lattice {
    pub step: f64,
    pub p: Vec<f64>,
}

/// One source of losses: a severity, cut at a limit.
#[derive(Debug, Clone, Copy)]
pub struct Severity {
    pub law: LogNormal,
    pub limit: f64,
}

impl Severity {
    pub fn unlimited(mu: f64, sigma: f64) -> Self {
        Self { law: LogNormal { mu, sigma }, limit: f64::INFINITY }
    }

    pub fn limited(mu: f64, sigma: f64, limit: f64) -> Self {
        Self { law: LogNormal { mu, sigma }, limit }
    }

    /// P(X ≤ x).
    pub fn cdf(self, x: f64) -> f64 {
        if x >= self.limit { 1.0 } else { self.law.cdf(x) }
    }

    /// E[X] and E[X²].
    pub fn moments(self) -> (f64, f64) {
        if self.limit.is_finite() {
            (self.law.limited_mean(self.limit), self.law.limited_second_moment(self.limit))
        } else {
            (self.law.mean(), self.law.second_moment())
        }
    }

    /// Discretises the severity so that the limited means at the lattice points are preserved
    /// (local moment matching, order 1).
    pub fn lattice(self, step: f64, points: usize) -> Lattice {
        let limited = |k: usize| self.law.limited_mean((k as f64 * step).min(self.limit));
        let mut p = vec![1.0 - limited(1) / step];
        p.extend((1..points).map(|k| (2.0 * limited(k) - limited(k - 1) - limited(k + 1)) / step));
        p.iter_mut().for_each(|p| *p = p.max(0.0));
        Lattice { step, p }
    }
}

impl Lattice {
    /// Distribution of the sum of a Poisson number of such losses: g(k) = λ/k · Σ j·f(j)·g(k − j),
    /// g(0) = e^(λ(f(0) − 1)).
    pub fn compound_poisson(&self, mean: f64) -> Self {
        let weights: Vec<f64> = self.p.iter().enumerate().map(|(j, f)| j as f64 * f).collect();
        let mut g = vec![(mean * (self.p[0] - 1.0)).exp()];
        for k in 1..self.p.len() {
            let sum: f64 = weights[1..=k].iter().zip(g.iter().rev()).map(|(w, g)| w * g).sum();
            g.push(mean / k as f64 * sum);
        }
        Self { step: self.step, p: g }
    }

    /// Distribution of a loss that occurs with the given probability and is 0 otherwise.
    pub fn with_probability(&self, probability: f64) -> Self {
        let mut p: Vec<f64> = self.p.iter().map(|p| p * probability).collect();
        p[0] += 1.0 - probability;
        Self { step: self.step, p }
    }

    /// Distribution of the sum of two independent losses.
    pub fn plus(&self, other: &Self) -> Self {
        let mut p = vec![0.0; self.p.len()];
        for (i, a) in self.p.iter().enumerate() {
            p[i..].iter_mut().zip(&other.p).for_each(|(p, b)| *p += a * b);
        }
        Self { step: self.step, p }
    }

    /// P(S ≤ x), with the probability of each lattice point spread evenly over the step around it,
    /// except that of 0.
    pub fn cdf(&self, x: f64) -> f64 {
        if x < 0.0 {
            return 0.0;
        }
        let at = x / self.step + 0.5;
        let (whole, part) = (at.floor() as usize, at.fract());
        let part = if whole == 0 { 1.0 } else { part };
        let all: f64 = self.p.iter().take(whole).sum();
        all + part * self.p.get(whole).copied().unwrap_or(0.0)
    }

    /// The last lattice point, which is exceeded with negligible probability.
    pub fn end(&self) -> f64 {
        let held: f64 = self.p.iter().sum();
        assert!((held - 1.0).abs() < 1e-8, "the lattice ends too early: it holds {held}");
        (self.p.len() - 1) as f64 * self.step
    }

    /// E[max(0, v − S)^power].
    pub fn shortfall(&self, v: f64, power: i32) -> f64 {
        let below = (0..).zip(&self.p).map(|(k, p)| (v - f64::from(k) * self.step, p));
        below.take_while(|(gap, _)| *gap > 0.0).map(|(gap, p)| gap.powi(power) * p).sum()
    }
}
