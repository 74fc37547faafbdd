//! What the result of a portfolio holds beyond the total: figures of its groups and treaties, the
//! distributions of its quantities, and the parts that make up the total.

use ethnum::U256;

use crate::{
    amount::MAX_AMOUNT,
    distribution::{Distribution, Resolution},
    listed_amounts,
    program::{MAX_COUNT, Program},
    treaty::{Treaty, TreatyTerms},
    wire::{DecodeError, WireReader, WireWriter},
};

/// An amount of each iteration, whose distribution a result holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// The sum of all lines before treaties.
    Gross,
    /// A line before treaties.
    GrossLine(usize),
    /// The sum of all lines after this many steps; one less than there are, because the total is
    /// after the last step.
    NetAfterSteps(usize),
    /// What a treaty pays.
    Ceded(usize),
    /// The largest occurrence of one of [`Program::occurrence_subjects`].
    LargestOccurrence(usize),
}

impl Program {
    /// The distinct steps of the treaties, ascending.
    pub fn steps(&self) -> Vec<u32> {
        let mut steps: Vec<u32> = self.treaties.iter().map(|treaty| treaty.step).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// The quantities whose distributions a result holds besides the total and the largest
    /// occurrence; none without `details`.
    pub fn quantities(&self) -> Vec<Quantity> {
        if !self.details {
            return Vec::new();
        }
        let lines = (0..self.lines as usize).map(Quantity::GrossLine);
        let steps = (1..self.steps().len()).map(Quantity::NetAfterSteps);
        let treaties = (0..self.treaties.len()).map(Quantity::Ceded);
        let subjects = 0..self.occurrence_subjects().len();
        let amounts = std::iter::once(Quantity::Gross).chain(lines).chain(steps).chain(treaties);
        amounts.chain(subjects.map(Quantity::LargestOccurrence)).collect()
    }
}

/// Sums over the iterations of a quantity, and its distribution with [`Resolution::COARSE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantityResult {
    /// Sum of the amounts, in minor units.
    pub sum: u128,
    /// Sum of the squared amounts, in minor units squared.
    pub sum_squares: U256,
    /// Distribution of the amounts.
    pub distribution: Distribution,
}

/// Sums over the iterations of what one group does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupTally {
    /// Sum of the numbers of occurrences.
    pub occurrences: u64,
    /// Sum of the squared numbers of occurrences.
    pub squared_occurrences: u128,
    /// Iterations without a loss from the group.
    pub without_loss: u64,
    /// Sum of the group's gross totals.
    pub sum: u128,
    /// Sum of the squared gross totals.
    pub sum_squares: U256,
}

/// Sums over the iterations of what one treaty does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreatyTally {
    /// Occurrences that reach the attachment.
    pub attached: u64,
    /// Occurrences that reach the top of the layer.
    pub exhausted: u64,
    /// Iterations in which the year's limit is used up.
    pub used_up: u64,
    /// For each reinstatement, the sum of the reinstated amounts of the whole layer.
    pub reinstated: Vec<u128>,
    /// Sum of the reinstatement premiums.
    pub premiums: u128,
    /// Sum of the squared reinstatement premiums.
    pub squared_premiums: U256,
}

impl TreatyTally {
    /// The tally of a treaty over no iterations.
    pub fn of(treaty: &Treaty) -> Self {
        let reinstatements = match &treaty.terms {
            TreatyTerms::OccurrenceXl(layer) => layer.reinstatements.len(),
            _ => 0,
        };
        Self { reinstated: vec![0; reinstatements], ..Self::default() }
    }
}

/// The parts that make up the totals of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationClass {
    /// The class, as [`total_classes`](crate::shard_result::ShardResult::total_classes) has it: a
    /// total, if these are listed, else a bucket of totals.
    pub number: u64,
    /// For each line its gross amounts, then for each treaty its payments, summed over the
    /// iterations of the class.
    pub sums: Vec<u128>,
}

/// The result of a program with `details`, beyond the total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultDetails {
    /// One tally for each group.
    pub groups: Vec<GroupTally>,
    /// One tally for each treaty.
    pub treaties: Vec<TreatyTally>,
    /// One result for each of [`Program::quantities`].
    pub quantities: Vec<QuantityResult>,
    /// The parts of the total, in ascending order of the classes; empty without `allocation`.
    pub allocation: Vec<AllocationClass>,
}

impl ResultDetails {
    /// Encodes the details of a result with these distributions of the total and of the largest
    /// occurrence.
    pub(crate) fn encode(&self, distributions: [&Distribution; 2], writer: &mut WireWriter) {
        writer.varint(self.groups.len() as u64);
        for group in &self.groups {
            writer.varint(group.occurrences);
            writer.u128(group.squared_occurrences);
            writer.varint(group.without_loss);
            writer.u128(group.sum);
            writer.u256(group.sum_squares);
        }
        writer.varint(self.treaties.len() as u64);
        for treaty in &self.treaties {
            writer.varint(treaty.attached);
            writer.varint(treaty.exhausted);
            writer.varint(treaty.used_up);
            writer.varint(treaty.reinstated.len() as u64);
            treaty.reinstated.iter().for_each(|&sum| writer.u128(sum));
            writer.u128(treaty.premiums);
            writer.u256(treaty.squared_premiums);
        }
        writer.varint(self.quantities.len() as u64);
        for quantity in &self.quantities {
            writer.u128(quantity.sum);
            writer.u256(quantity.sum_squares);
            writer.varint(quantity.distribution.at_marks.len() as u64);
            quantity.distribution.encode(writer);
            listed_amounts::encode(&quantity.distribution.listed, writer);
        }
        distributions.iter().for_each(|distribution| listed_amounts::encode(&distribution.listed, writer));
        writer.varint(self.allocation.len() as u64);
        let mut next = 0;
        for part in &self.allocation {
            writer.varint(part.number - next);
            writer.varint(part.sums.len() as u64);
            part.sums.iter().for_each(|&sum| writer.varint128(sum));
            next = part.number + 1;
        }
    }

    /// Decodes the details of a result that has this number of iterations. The listed amounts of
    /// the total and of the largest occurrence go into their distributions.
    pub(crate) fn decode(
        reader: &mut WireReader<'_>,
        iterations: u64,
        distributions: [&mut Distribution; 2],
    ) -> Result<Self, DecodeError> {
        let groups = (0..reader.list_length()?).map(|_| decode_group(reader)).collect::<Result<_, _>>()?;
        let treaties = (0..reader.list_length()?).map(|_| decode_treaty(reader)).collect::<Result<_, _>>()?;
        let quantities = (0..reader.list_length()?).map(|_| decode_quantity(reader, iterations));
        let quantities = quantities.collect::<Result<_, _>>()?;
        for distribution in distributions {
            listed_amounts::decode_into(distribution, Resolution::FINE, reader)?;
        }
        let length = reader.list_length()?;
        let mut next = 0;
        let class = |_| {
            let number = reader.varint()?.saturating_add(next);
            if number > MAX_AMOUNT {
                return Err(DecodeError::invalid("a class of the total is out of range"));
            }
            next = number + 1;
            let parts = reader.list_length()?;
            let sums = (0..parts).map(|_| reader.varint128()).collect::<Result<_, _>>()?;
            Ok(AllocationClass { number, sums })
        };
        let allocation = (0..length).map(class).collect::<Result<_, _>>()?;
        Ok(Self { groups, treaties, quantities, allocation })
    }

    /// Checks that no figure is impossible for this many iterations.
    pub(crate) fn validate(&self, iterations: u64) -> Result<(), DecodeError> {
        let largest_sum = u128::from(iterations) * u128::from(MAX_AMOUNT);
        let sums = |sum: u128, squares: U256| {
            sum <= largest_sum
                && squares <= U256::from(largest_sum) * u128::from(MAX_AMOUNT)
                && U256::from(sum) * U256::from(sum) <= squares * u128::from(iterations)
        };
        let most = u128::from(iterations) * u128::from(MAX_COUNT);
        let group = |g: &GroupTally| {
            g.without_loss <= iterations
                && u128::from(g.occurrences) <= most
                && g.squared_occurrences <= most * u128::from(MAX_COUNT)
                && sums(g.sum, g.sum_squares)
                && sums(g.occurrences.into(), g.squared_occurrences.into())
        };
        let treaty = |t: &TreatyTally| {
            t.exhausted <= t.attached
                && u128::from(t.attached) <= most
                && t.used_up <= iterations
                && t.reinstated.iter().all(|&sum| sum <= largest_sum)
                && sums(t.premiums, t.squared_premiums)
        };
        let quantity = |q: &QuantityResult| {
            let (min, max) = (u128::from(q.distribution.min), u128::from(q.distribution.max));
            let n = u128::from(iterations);
            let in_range = if n == 0 { q.sum == 0 } else { (min * n..=max * n).contains(&q.sum) };
            in_range && sums(q.sum, q.sum_squares)
        };
        let allocation = |a: &AllocationClass| a.sums.iter().all(|&sum| sum <= largest_sum);
        let holds = self.groups.iter().all(group)
            && self.treaties.iter().all(treaty)
            && self.quantities.iter().all(quantity)
            && self.allocation.iter().all(allocation);
        if holds { Ok(()) } else { Err(DecodeError::invalid("the sums of a portfolio are impossible")) }
    }
}

fn decode_group(reader: &mut WireReader<'_>) -> Result<GroupTally, DecodeError> {
    Ok(GroupTally {
        occurrences: reader.varint()?,
        squared_occurrences: reader.u128()?,
        without_loss: reader.varint()?,
        sum: reader.u128()?,
        sum_squares: reader.u256()?,
    })
}

fn decode_treaty(reader: &mut WireReader<'_>) -> Result<TreatyTally, DecodeError> {
    let (attached, exhausted, used_up) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let reinstatements = reader.list_length()?;
    let reinstated = (0..reinstatements).map(|_| reader.u128()).collect::<Result<_, _>>()?;
    let (premiums, squared_premiums) = (reader.u128()?, reader.u256()?);
    Ok(TreatyTally { attached, exhausted, used_up, reinstated, premiums, squared_premiums })
}

fn decode_quantity(reader: &mut WireReader<'_>, iterations: u64) -> Result<QuantityResult, DecodeError> {
    let (sum, sum_squares) = (reader.u128()?, reader.u256()?);
    let marks = reader.list_length()?;
    let mut distribution = Distribution::decode(reader, Resolution::COARSE, marks, iterations)?;
    listed_amounts::decode_into(&mut distribution, Resolution::COARSE, reader)?;
    Ok(QuantityResult { sum, sum_squares, distribution })
}
