//! Distributions of few distinct amounts, which are kept as they are: no bucket blurs them
//! (docs/determinism.md, section 8.1).

use std::collections::BTreeMap;

use crate::{
    distribution::{Distribution, Resolution},
    wire::{DecodeError, WireReader, WireWriter},
};

/// Most distinct amounts of a distribution that are listed.
pub const MAX_LISTED_AMOUNTS: usize = 256;

/// Distinct amounts with the number of iterations that have each, until there are too many.
#[derive(Debug, Clone)]
pub struct ListedAmounts {
    is_complete: bool,
    amounts: Vec<u64>,
    counts: Vec<u64>,
}

impl ListedAmounts {
    /// The list of no iterations; if not `is_kept`, one that stays empty.
    pub fn new(is_kept: bool) -> Self {
        Self { is_complete: is_kept, amounts: Vec::new(), counts: Vec::new() }
    }

    /// Whether every amount so far is listed.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Adds iterations with an amount.
    pub fn add(&mut self, amount: u64, iterations: u64) {
        if !self.is_complete {
            return;
        }
        match self.amounts.binary_search(&amount) {
            Ok(at) => self.counts[at] += iterations,
            Err(at) if self.amounts.len() < MAX_LISTED_AMOUNTS => {
                self.amounts.insert(at, amount);
                self.counts.insert(at, iterations);
            }
            Err(_) => *self = Self::new(false),
        }
    }

    /// Adds the iterations of a distribution.
    pub fn merge(&mut self, added: &Distribution) {
        if added.listed.is_empty() && !added.histogram.is_empty() {
            *self = Self::new(false);
        }
        added.listed.iter().for_each(|&(amount, iterations)| self.add(amount, iterations));
    }

    /// The amounts in ascending order, each with its iterations; none if there were too many.
    pub fn list(&self) -> Vec<(u64, u64)> {
        self.amounts.iter().copied().zip(self.counts.iter().copied()).collect()
    }
}

/// Figures of iterations by the class of an amount: the amount itself as long as there are at most
/// [`MAX_LISTED_AMOUNTS`] distinct ones, else its coarse bucket.
#[derive(Debug, Clone)]
pub struct AmountClasses<T> {
    is_listed: bool,
    classes: BTreeMap<u64, T>,
}

impl<T: Default> AmountClasses<T> {
    /// The classes of no iterations.
    pub fn new() -> Self {
        Self { is_listed: true, classes: BTreeMap::new() }
    }

    /// Whether the classes are amounts.
    pub fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// The figures of an amount's class. `merge` adds figures to others, where amounts become
    /// buckets.
    pub fn of_amount(&mut self, amount: u64, merge: impl Fn(&mut T, T)) -> &mut T {
        let is_new = self.is_listed && !self.classes.contains_key(&amount);
        if is_new && self.classes.len() == MAX_LISTED_AMOUNTS {
            self.drop_amounts(merge);
        }
        let number = if self.is_listed { amount } else { bucket_of(amount) };
        self.classes.entry(number).or_default()
    }

    /// The figures of a coarse bucket, which makes all classes buckets.
    pub fn of_bucket(&mut self, bucket: u64, merge: impl Fn(&mut T, T)) -> &mut T {
        self.drop_amounts(merge);
        self.classes.entry(bucket).or_default()
    }

    fn drop_amounts(&mut self, merge: impl Fn(&mut T, T)) {
        if std::mem::take(&mut self.is_listed) {
            for (amount, figures) in std::mem::take(&mut self.classes) {
                merge(self.classes.entry(bucket_of(amount)).or_default(), figures);
            }
        }
    }

    /// Adds the figures of other iterations.
    pub fn merge(&mut self, other: Self, merge: impl Fn(&mut T, T)) {
        for (number, figures) in other.classes {
            let class = match other.is_listed {
                true => self.of_amount(number, &merge),
                false => self.of_bucket(number, &merge),
            };
            merge(class, figures);
        }
    }

    /// The classes in ascending order, each with its number: the amount, or the bucket.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.classes.iter().map(|(&number, figures)| (number, figures))
    }
}

impl<T: Default> Default for AmountClasses<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds sums to as many others, or to none yet.
pub fn add_sums(sums: &mut Vec<u128>, added: impl ExactSizeIterator<Item = u128>) {
    sums.resize(added.len(), 0);
    sums.iter_mut().zip(added).for_each(|(sum, added)| *sum += added);
}

fn bucket_of(amount: u64) -> u64 {
    Resolution::COARSE.bucket_of(amount) as u64
}

/// Encodes listed amounts.
pub(crate) fn encode(listed: &[(u64, u64)], writer: &mut WireWriter) {
    writer.varint(listed.len() as u64);
    let mut next = 0;
    for &(amount, iterations) in listed {
        writer.varint(amount - next);
        writer.varint(iterations);
        next = amount + 1;
    }
}

/// Decodes the listed amounts of a distribution into it.
///
/// # Errors
/// [`DecodeError`] when they are not those of its iterations.
pub(crate) fn decode_into(
    distribution: &mut Distribution,
    resolution: Resolution,
    reader: &mut WireReader<'_>,
) -> Result<(), DecodeError> {
    let length = reader.list_length()?;
    let (mut listed, mut next) = (Vec::with_capacity(length.min(MAX_LISTED_AMOUNTS)), 0u64);
    for _ in 0..length {
        let amount = next.saturating_add(reader.varint()?);
        listed.push((amount, reader.varint()?));
        next = amount.saturating_add(1);
    }
    let mut buckets: Vec<(u32, u64)> = Vec::new();
    for &(amount, iterations) in &listed {
        let bucket = resolution.bucket_of(amount.min(distribution.max)) as u32;
        match buckets.last_mut() {
            Some((last, sum)) if *last == bucket => *sum = sum.saturating_add(iterations),
            _ => buckets.push((bucket, iterations)),
        }
    }
    let bounds = (listed.first().map(|first| first.0), listed.last().map(|last| last.0));
    let matches = listed.len() <= MAX_LISTED_AMOUNTS
        && listed.iter().all(|&(_, iterations)| iterations > 0)
        && bounds == (Some(distribution.min), Some(distribution.max))
        && buckets == distribution.histogram;
    if !listed.is_empty() && !matches {
        return Err(DecodeError::invalid("the listed amounts do not match the histogram"));
    }
    distribution.listed = listed;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_listed_until_there_are_too_many() {
        let mut listed = ListedAmounts::new(true);
        (0..512).for_each(|number| listed.add(number % 256 * 3, 1));
        assert_eq!(listed.list().len(), 256);
        assert_eq!((listed.list()[1], listed.list()[255]), ((3, 2), (765, 2)));
        listed.add(1, 1);
        assert!(!listed.is_complete() && listed.list().is_empty());
        listed.add(3, 1);
        assert!(listed.list().is_empty());
    }

    #[test]
    fn classes_do_not_depend_on_how_iterations_are_grouped() {
        let add = |sum: &mut u64, added: u64| *sum += added;
        let of = |amounts: &[u64]| {
            let mut classes = AmountClasses::new();
            amounts.iter().for_each(|&amount| *classes.of_amount(amount, add) += amount);
            classes
        };
        for distinct in [200, 256, 257, 400] {
            let amounts: Vec<u64> = (0..1000).map(|number| 1_000_000 + number % distinct).collect();
            let whole: Vec<_> = of(&amounts).iter().map(|(number, &sum)| (number, sum)).collect();
            assert_eq!(whole.len() as u64, if distinct <= 256 { distinct } else { 1 });
            for cut in [0, 1, 100, 300, 999] {
                let (first, second) = amounts.split_at(cut);
                let (mut ab, mut ba) = (of(first), of(second));
                ba.merge(ab.clone(), add);
                ab.merge(of(second), add);
                for merged in [ab, ba] {
                    assert_eq!(merged.iter().map(|(number, &sum)| (number, sum)).collect::<Vec<_>>(), whole);
                }
            }
        }
    }
}
