//! Checks that the numbers of occurrences in a result agree with each other: those of components
//! with those of their groups, and those that reach a treaty with those of the groups it covers.

use forge_contract::{
    program::{Group, Occurrence, Program},
    shard_result::{ShardResult, Tally},
};

/// Numbers of occurrences that disagree. No execution gives such a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OccurrenceMismatch {
    /// The program has more components.
    #[error("it has fewer components than the program")]
    MissingComponents,
    /// The group with this index disagrees with its components.
    #[error("the components of group {0} have other occurrences than the group")]
    Group(usize),
    /// The treaty with this index disagrees with the groups that it covers.
    #[error("treaty {0} is reached by more occurrences than there are")]
    Treaty(usize),
}

/// Checks the numbers of occurrences of a result that has the program's shape.
///
/// # Errors
/// [`OccurrenceMismatch`]: the first numbers that disagree.
pub fn check(program: &Program, result: &ShardResult) -> Result<(), OccurrenceMismatch> {
    let mut components = result.components.as_slice();
    let mut occurrences = Vec::with_capacity(program.groups.len());
    for (at, group) in program.groups.iter().enumerate() {
        let Some((tallies, rest)) = components.split_at_checked(group.components.len()) else {
            return Err(OccurrenceMismatch::MissingComponents);
        };
        components = rest;
        let counted = result.details.as_ref().and_then(|details| details.groups.get(at));
        let of_group = occurrences_of(group, tallies, result.iterations);
        let matches = counted.is_none_or(|tally| of_group == Some(u128::from(tally.occurrences)));
        let Some(number) = of_group.filter(|_| matches) else {
            return Err(OccurrenceMismatch::Group(at));
        };
        occurrences.push(number);
    }
    let Some(details) = &result.details else { return Ok(()) };
    for (at, (treaty, tally)) in program.treaties.iter().zip(&details.treaties).enumerate() {
        let covered = occurrences.iter().enumerate().filter(|(group, _)| treaty.groups.contains(*group));
        if u128::from(tally.attached) > covered.map(|(_, number)| number).sum::<u128>() {
            return Err(OccurrenceMismatch::Treaty(at));
        }
    }
    Ok(())
}

/// The occurrences of a group, from the amounts of its components; `None` where these contradict
/// each other.
fn occurrences_of(group: &Group, tallies: &[Tally], iterations: u64) -> Option<u128> {
    let amounts = tallies.iter().map(|tally| u128::from(tally.occurrences));
    let all_are = |number: u128| amounts.clone().all(|amounts| amounts == number);
    match group.occurrence {
        Occurrence::Claim { .. } => Some(amounts.sum()),
        Occurrence::Strike => amounts.clone().next().filter(|&first| all_are(first)),
        Occurrence::Annual => all_are(iterations.into()).then_some(0),
    }
}
