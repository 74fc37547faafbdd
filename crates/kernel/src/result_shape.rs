//! The shape of a program's results: how many figures of each kind they hold.

use forge_contract::{
    program::Program,
    result_details::{ResultDetails, TreatyTally},
    shard_result::ShardResult,
};

/// The number of figures of each kind in the results of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultShape {
    components: usize,
    /// Marks of the total, and of the largest occurrence.
    marks: [usize; 2],
    details: Option<DetailsShape>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct DetailsShape {
    lines: usize,
    groups: usize,
    /// For each treaty, the number of reinstatements.
    reinstatements: Vec<usize>,
    /// For each quantity, the number of marks.
    marks: Vec<usize>,
    /// Position of what the first treaty pays among the quantities.
    first_ceded: usize,
    /// Lines and treaties that the total is allocated to; 0 without an allocation.
    parts: usize,
}

/// The result has another shape than the program, so it belongs to another run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the result has {found}, but the program has {expected}")]
pub struct ShapeMismatch {
    found: String,
    expected: String,
}

impl ResultShape {
    /// The shape of the results of a program.
    pub fn new(program: &Program) -> Self {
        let reinstatements = |treaty| TreatyTally::of(treaty).reinstated.len();
        let parts = program.lines as usize + program.treaties.len();
        let details = || DetailsShape {
            lines: program.lines as usize,
            groups: program.groups.len(),
            reinstatements: program.treaties.iter().map(reinstatements).collect(),
            marks: program.quantities().into_iter().map(|q| program.marks_of(q).len()).collect(),
            // Before it are the sum of all lines, each line, and the sums after all steps but one.
            first_ceded: program.lines as usize + program.steps().len().max(1),
            parts: if program.allocation { parts } else { 0 },
        };
        Self {
            components: program.component_count(),
            marks: [program.marks().len(); 2],
            details: program.details.then(details),
        }
    }

    /// Checks that a result has this shape.
    ///
    /// # Errors
    /// [`ShapeMismatch`].
    pub fn check(&self, result: &ShardResult) -> Result<(), ShapeMismatch> {
        let found = Self {
            components: result.components.len(),
            marks: [result.total.at_marks.len(), result.largest.at_marks.len()],
            details: result.details.as_ref().map(|details| self.details_shape(details)),
        };
        if found != *self {
            return Err(found.difference_from(self));
        }
        match (&self.details, &result.details) {
            (Some(shape), Some(details)) => shape.check_allocation(result, details),
            _ => Ok(()),
        }
    }

    fn details_shape(&self, details: &ResultDetails) -> DetailsShape {
        // An allocation without classes, of a result of no iterations, has every shape.
        let expected = self.details.as_ref().map_or(0, |details| details.parts);
        let mut parts = details.allocation.iter().map(|class| class.sums.len());
        DetailsShape {
            lines: self.details.as_ref().map_or(0, |details| details.lines),
            groups: details.groups.len(),
            reinstatements: details.treaties.iter().map(|treaty| treaty.reinstated.len()).collect(),
            marks: details.quantities.iter().map(|q| q.distribution.at_marks.len()).collect(),
            first_ceded: self.details.as_ref().map_or(0, |details| details.first_ceded),
            parts: parts.find(|&parts| parts != expected).unwrap_or(expected),
        }
    }

    /// The first figure in which this shape, that of a result, differs from that of the program.
    fn difference_from(&self, expected: &Self) -> ShapeMismatch {
        let [found, expected] = [self, expected].map(Self::described_parts);
        let different = found.into_iter().zip(expected).find(|(found, expected)| found != expected);
        let (found, expected) = different.unwrap_or_default();
        ShapeMismatch { found, expected }
    }

    /// The numbers of figures in words, in a fixed order.
    fn described_parts(&self) -> Vec<String> {
        let mut parts = vec![
            format!("{} components", self.components),
            format!("{} marks of the total", self.marks[0]),
            format!("{} marks of the largest occurrence", self.marks[1]),
        ];
        let Some(details) = &self.details else {
            parts.push("no details".to_owned());
            return parts;
        };
        parts.push("details".to_owned());
        parts.push(format!("{} groups", details.groups));
        parts.push(format!("{} treaties", details.reinstatements.len()));
        let treaties = details.reinstatements.iter().enumerate();
        parts.extend(treaties.map(|(at, number)| format!("{number} reinstatements of treaty {at}")));
        parts.push(format!("{} quantities", details.marks.len()));
        let quantities = details.marks.iter().enumerate();
        parts.extend(quantities.map(|(at, number)| format!("{number} marks of quantity {at}")));
        parts.push(format!("an allocation to {} lines and treaties", details.parts));
        parts
    }
}

impl DetailsShape {
    /// Checks that the classes of an allocation are those of the total, and that its sums add up to
    /// those of the quantities: an honest execution cannot give others, and the report divides by
    /// the years of a class.
    fn check_allocation(&self, result: &ShardResult, details: &ResultDetails) -> Result<(), ShapeMismatch> {
        let mismatch = |found: &str, expected: &str| {
            Err(ShapeMismatch { found: found.to_owned(), expected: expected.to_owned() })
        };
        let classes = if self.parts > 0 { result.total_classes() } else { Vec::new() };
        if !details.allocation.iter().map(|part| part.number).eq(classes.iter().map(|class| class.0)) {
            return mismatch("an allocation by other amounts", "that of the total");
        }
        if self.parts == 0 {
            return Ok(());
        }
        // The first quantity is the sum of all lines, the next ones are the lines.
        let lines = 1..=self.lines;
        let ceded = self.first_ceded..self.first_ceded + self.reinstatements.len();
        for (part, quantity) in lines.chain(ceded).enumerate() {
            let sum =
                details.allocation.iter().fold(0u128, |sum, class| sum.saturating_add(class.sums[part]));
            if sum != details.quantities[quantity].sum {
                return mismatch("an allocation of other sums", "those of its lines and treaties");
            }
        }
        Ok(())
    }
}
