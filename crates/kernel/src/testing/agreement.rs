//! Comparison of a backend's results with those of the scalar reference, byte for byte.

use forge_contract::{program::Program, shard::Shard, shard_result::ShardResult};

use crate::backend::{Backend, scalar::Scalar};

/// Asserts that the backend returns the same results for these shards as the scalar reference.
///
/// # Panics
/// If it does not.
pub fn assert_agrees(backend: &dyn Backend, program: &Program, shards: &[Shard], what: &str) {
    if let Err(difference) = difference(backend, program, shards) {
        panic!("{} differs from the reference on {what}: {difference}", backend.name());
    }
}

/// The first difference of the backend's results to those of the reference.
pub(super) fn difference(backend: &dyn Backend, program: &Program, shards: &[Shard]) -> Result<(), String> {
    program.validate().map_err(|rule| format!("the program is not valid: {rule}"))?;
    let expected = Scalar.execute(program, shards, &()).map_err(|error| error.to_string())?;
    let found = backend.execute(program, shards, &()).map_err(|error| error.to_string())?;
    if found.len() != expected.len() {
        return Err(format!("{} results for {} shards", found.len(), expected.len()));
    }
    for ((shard, found), expected) in shards.iter().zip(&found).zip(&expected) {
        let decoded = ShardResult::decode(&expected.encode());
        if decoded.as_ref() != Ok(expected) {
            return Err(format!("the reference's own result does not round-trip: {decoded:?}"));
        }
        if found.encode() != expected.encode() {
            return Err(format!("{shard:?}:\n{}", describe(found, expected)));
        }
    }
    Ok(())
}

/// Describes the fields in which two results differ.
fn describe(found: &ShardResult, expected: &ShardResult) -> String {
    let fields = |r: &ShardResult| {
        [
            ("iterations", format!("{}", r.iterations)),
            ("components", format!("{:?}", r.components)),
            ("capped", format!("{}", r.capped)),
            ("sum", format!("{}", r.sum)),
            ("sum_squares", format!("{}", r.sum_squares)),
            ("total", format!("{:?} {:?}", (r.total.min, r.total.max), r.total.at_marks)),
            ("total's histogram", format!("{:?} {:?}", r.total.histogram, r.total.listed)),
            ("largest", format!("{:?} {:?}", (r.largest.min, r.largest.max), r.largest.at_marks)),
            ("largest's histogram", format!("{:?} {:?}", r.largest.histogram, r.largest.listed)),
            ("details", format!("{:?}", r.details)),
        ]
    };
    let pairs = fields(found).into_iter().zip(fields(expected)).filter(|(a, b)| a != b);
    let line = |text: &str| text.chars().take(200).collect::<String>();
    pairs
        .map(|((name, a), (_, b))| format!("  {name}: {}\n    instead of {}\n", line(&a), line(&b)))
        .collect()
}
