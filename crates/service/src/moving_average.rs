//! An exponential moving average of durations.

use std::time::Duration;

/// Weight of the newest sample.
const NEWEST_WEIGHT: f64 = 1.0 / 8.0;

/// Averages durations; each sample weighs 1/8 and the average of all earlier ones 7/8. The first
/// sample is the average.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MovingAverage {
    seconds: Option<f64>,
}

impl MovingAverage {
    /// Adds a sample.
    pub fn add(&mut self, sample: Duration) {
        let sample = sample.as_secs_f64();
        self.seconds = Some(self.seconds.map_or(sample, |mean| mean + (sample - mean) * NEWEST_WEIGHT));
    }

    /// Returns the average; `None` before the first sample.
    pub fn mean(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs_f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_sample_weighs_an_eighth() {
        let (mut average, second) = (MovingAverage::default(), Duration::from_secs(1));
        assert_eq!(average.mean(), None);
        average.add(8 * second);
        assert_eq!(average.mean(), Some(8 * second));
        average.add(16 * second);
        assert_eq!(average.mean(), Some(9 * second));
    }
}
