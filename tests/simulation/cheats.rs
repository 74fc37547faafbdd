//! How often lies of workers become part of a result, over many runs: not more often than the draw
//! of verified shards lets them.

/// Standard deviations beyond which a difference is no chance.
const MAX_DEVIATIONS: f64 = 5.0;
/// Results with lies below which nothing can be said.
const MIN_SHIPPED: u64 = 5;

/// Jobs whose results were verified in part, and contain lies or would have.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheatTally {
    /// Jobs that completed with a wrong result.
    pub shipped: u64,
    /// Jobs that completed after a refutation.
    pub found_out: u64,
    /// Sum of what each job adds to the difference between lies found out and expected: its mean is
    /// zero or less.
    excess: f64,
    /// Estimated variance of `excess`.
    variance: f64,
}

impl CheatTally {
    /// Counts a completed job: `wrong` of the `shards` in its result are lies, and `drawn` were
    /// drawn for verification.
    pub fn add(&mut self, wrong: u64, shards: u64, drawn: u64, is_found_out: bool) {
        if drawn == 0 || drawn >= shards {
            return;
        }
        // A job that ships stands for all jobs with as many lies, of which this share escapes.
        let excess = match wrong {
            0 if is_found_out => -1.0,
            0 => return,
            wrong => 1.0 / escape_probability(wrong, shards, drawn) - 1.0,
        };
        self.shipped += u64::from(wrong > 0);
        self.found_out += u64::from(wrong == 0);
        self.excess += excess;
        self.variance += excess * excess;
    }

    /// Adds the jobs of another run.
    pub fn merge(&mut self, other: Self) {
        self.shipped += other.shipped;
        self.found_out += other.found_out;
        self.excess += other.excess;
        self.variance += other.variance;
    }

    /// Whether fewer lies are found out than the draw should find.
    pub fn escapes_too_often(&self) -> bool {
        self.shipped >= MIN_SHIPPED && self.excess > MAX_DEVIATIONS * self.variance.sqrt()
    }
}

/// Probability that a draw of `drawn` of `shards` contains none of `wrong` shards.
fn escape_probability(wrong: u64, shards: u64, drawn: u64) -> f64 {
    let escapes = |number: u64| (shards - number).saturating_sub(drawn) as f64 / (shards - number) as f64;
    (0..wrong).map(escapes).product()
}

#[test]
fn lies_that_ship_too_often_are_noticed() {
    assert_eq!(escape_probability(2, 4, 1), 0.5);
    let (mut fair, mut biased) = (CheatTally::default(), CheatTally::default());
    for number in 0..200 {
        // One lie in four shards, two of which are drawn: half of the jobs are found out.
        let is_found_out = number % 2 == 0;
        fair.add(u64::from(!is_found_out), 4, 2, is_found_out);
        biased.add(u64::from(number % 10 > 0), 4, 2, number % 10 == 0);
    }
    assert!(!fair.escapes_too_often() && biased.escapes_too_often(), "{fair:?} {biased:?}");
}
