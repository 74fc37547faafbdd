//! The merged result of a portfolio, and the statistics of its amounts.

use forge_contract::{
    distribution::{Distribution, Resolution},
    occurrence_subject::OccurrenceSubject,
    program::Program,
    result_details::{Quantity, QuantityResult, ResultDetails},
    shard_result::ShardResult,
};

use super::{figures::QuantityStatistics, highest_moments::HighestMoments, portfolio::Portfolio};

/// The merged result of a portfolio, with what its figures need.
pub(super) struct Merged<'a> {
    pub(super) portfolio: &'a Portfolio,
    pub(super) program: &'a Program,
    pub(super) result: &'a ShardResult,
    pub(super) details: &'a ResultDetails,
    pub(super) moments: HighestMoments<'a>,
    quantities: Vec<Quantity>,
    subjects: Vec<OccurrenceSubject>,
}

impl<'a> Merged<'a> {
    /// # Panics
    /// When the result has no details, so that it is not of a portfolio.
    pub(super) fn new(portfolio: &'a Portfolio, program: &'a Program, result: &'a ShardResult) -> Self {
        Self {
            portfolio,
            program,
            result,
            details: result.details.as_ref().expect("the results of portfolios have details"),
            moments: HighestMoments::new(portfolio),
            quantities: program.quantities(),
            subjects: program.occurrence_subjects(),
        }
    }

    /// The statistics of the total, after all treaties.
    pub(super) fn total(&self) -> QuantityStatistics {
        QuantityStatistics::of_total(self.result, self.program, self.moments.net())
    }

    /// The statistics of a quantity.
    pub(super) fn statistics(&self, quantity: Quantity) -> QuantityStatistics {
        let highest = match quantity {
            Quantity::Gross => self.moments.gross(),
            Quantity::GrossLine(line) => self.moments.line(line),
            Quantity::NetAfterSteps(steps) => self.moments.after_step(self.program.steps()[steps - 1]),
            Quantity::Ceded(treaty) => self.moments.ceded(&self.portfolio.treaties[treaty]),
            Quantity::LargestOccurrence(at) => self.moments.largest(self.subjects[at]),
        };
        let result = self.result_of(quantity);
        QuantityStatistics::of_quantity(quantity, result, self.result.iterations, self.program, highest)
    }

    /// The statistics of the largest occurrence of a subject.
    pub(super) fn largest(&self, subject: OccurrenceSubject) -> QuantityStatistics {
        let at = self.position_of(subject);
        let quantity = Quantity::LargestOccurrence(at);
        if at > 0 {
            return self.statistics(quantity);
        }
        let highest = self.moments.largest(self.subjects[at]);
        QuantityStatistics::of_largest(self.result, self.result_of(quantity), self.program, highest)
    }

    /// The distribution of the largest occurrence of a subject, and the resolution of its buckets.
    pub(super) fn largest_distribution(&self, subject: OccurrenceSubject) -> (&Distribution, Resolution) {
        match self.position_of(subject) {
            0 => (&self.result.largest, Resolution::FINE),
            at => (&self.result_of(Quantity::LargestOccurrence(at)).distribution, Resolution::COARSE),
        }
    }

    /// The position of a subject among those of the program. That of all lines and groups, before
    /// treaties, is the first one, and has a finer distribution of its own.
    fn position_of(&self, subject: OccurrenceSubject) -> usize {
        let normal = self.program.normal_subject(subject);
        let position = self.subjects.iter().position(|other| *other == normal);
        position.expect("the program has the subject")
    }

    fn result_of(&self, quantity: Quantity) -> &QuantityResult {
        let found = self.quantities.iter().zip(&self.details.quantities).find(|(q, _)| **q == quantity);
        found.expect("the program has the quantity").1
    }
}
