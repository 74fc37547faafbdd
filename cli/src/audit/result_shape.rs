//! Checks everything in `result.json` that does not depend on a drawn number: its fields, names,
//! levels and return periods. It needs no shard result.

use forge_contract::{
    distribution::{Distribution, Resolution},
    program::Program,
    result_details::{AllocationClass, GroupTally},
    shard_result::{ShardResult, Tally},
};
use forge_documents::JobResult;
use forge_kernel::{convergence::StopReason, reduction::Reduction, request::Request};
use serde_json::{Map, Value};

use super::{evidence::parse_result, report::CheckProblem};

/// Larger than nearly all losses, so that the probability of one above it differs from that of one
/// above 0.
const HIGH_AMOUNT: u64 = 1 << 45;
/// Larger than all own funds, so that every probability of exceeding them differs.
const LARGE_AMOUNT: u64 = 1 << 51;

/// Compares the result with those of two invented runs of the request that differ in every figure.
/// What is equal in both does not depend on the run, so it must be equal in the result too.
///
/// # Errors
/// The first place at which the result is not one of this request, whatever was drawn.
pub fn check_shape(result: &Value, request: &Request) -> Result<(), CheckProblem> {
    let empty = sample(&request.program, 1, [0, 0], 0);
    // With this many iterations every confidence interval has both bounds.
    let full = sample(&request.program, 1 << 25, [HIGH_AMOUNT, LARGE_AMOUNT], 3);
    let document = |merged, reason| {
        let json = JobResult::new(request, merged, reason).json;
        parse_result(&json).expect("a result document is JSON")
    };
    let first = document(empty, StopReason::BudgetExhausted);
    let second = document(full, StopReason::BandReached);
    match first_deviation(result, [&first, &second], String::new()) {
        None => Ok(()),
        Some((pointer, reason)) => Err(CheckProblem::failed(format!("{pointer} {reason}"))),
    }
}

/// Iterations of a sample with the larger amount: few, so that it is rarer than the loss of any
/// return period, and the probability of exceeding that loss is not 0.
const LARGE_ITERATIONS: u64 = 16;

/// A result of `iterations` with one of two amounts in every quantity, the larger one in
/// [`LARGE_ITERATIONS`].
fn sample(program: &Program, iterations: u64, amounts: [u64; 2], count: u64) -> ShardResult {
    let most = iterations.saturating_sub(LARGE_ITERATIONS);
    let [low, high] = amounts;
    let distribution = |at_marks: &[u64], resolution: Resolution| {
        let [first, last] = amounts.map(|amount| resolution.bucket_of(amount) as u32);
        let counts = [(first, most), (last, iterations - most)];
        Distribution {
            min: low,
            max: high,
            at_marks: at_marks.to_vec(),
            histogram: counts.into_iter().skip(usize::from(low == high)).collect(),
            listed: Vec::new(),
        }
    };
    let sum = u128::from(most) * u128::from(low) + u128::from(iterations - most) * u128::from(high);
    let squared = |amount: u64| u128::from(amount) * u128::from(amount);
    let sum_squares = squared(low) * u128::from(most) + squared(high) * u128::from(iterations - most);
    let sum_squares = sum_squares.into();
    let mut result = Reduction::new(program).result();
    result.iterations = iterations;
    result.components.fill(Tally { occurrences: 2 * count, capped: count });
    result.capped = count;
    (result.sum, result.sum_squares) = (sum, sum_squares);
    result.total = distribution(&result.total.at_marks, Resolution::FINE);
    result.largest = distribution(&result.largest.at_marks, Resolution::FINE);
    if let Some(details) = &mut result.details {
        details.groups.fill(GroupTally {
            occurrences: 2 * count,
            squared_occurrences: u128::from(4 * count * count),
            without_loss: count,
            sum,
            sum_squares,
        });
        for quantity in &mut details.quantities {
            (quantity.sum, quantity.sum_squares) = (sum, sum_squares);
            quantity.distribution = distribution(&quantity.distribution.at_marks, Resolution::COARSE);
        }
        for treaty in &mut details.treaties {
            (treaty.attached, treaty.exhausted, treaty.used_up) = (2 * count, count, count);
            treaty.reinstated.fill(sum);
            (treaty.premiums, treaty.squared_premiums) = (sum, sum_squares);
        }
        if program.allocation {
            let number = Resolution::COARSE.bucket_of(high) as u64;
            // The lines less the treaties are not 0, which they are in the other sample.
            let lines = vec![sum; program.lines as usize];
            let treaties = vec![sum / 64; program.treaties.len()];
            let sums = [lines, treaties].concat();
            details.allocation = vec![AllocationClass { number, sums }];
        }
    }
    result
}

/// Pointer to the first place at which `found` is neither like one sample nor like the other, and
/// what is wrong there.
fn first_deviation(found: &Value, samples: [&Value; 2], pointer: String) -> Option<(String, String)> {
    match (found, samples) {
        (Value::Object(found), [Value::Object(a), Value::Object(b)]) => {
            let is_known = |key: &&String| a.contains_key(*key) || b.contains_key(*key);
            if let Some(unknown) = found.keys().find(|key| !is_known(key)) {
                return Some((format!("{pointer}/{unknown}"), "is no field of a result".to_owned()));
            }
            if a.contains_key("no_z_reason") && b.contains_key("no_z_reason") {
                return deviation_of_check(found, [a, b], &pointer);
            }
            a.iter().find_map(|(key, a)| {
                let pointer = format!("{pointer}/{key}");
                match (found.get(key), b.get(key)) {
                    (Some(found), b) => first_deviation(found, [a, b.unwrap_or(a)], pointer),
                    (None, _) => Some((pointer, "is missing".to_owned())),
                }
            })
        }
        (Value::Array(found), [Value::Array(a), Value::Array(b)]) => {
            if a.len() == b.len() && found.len() != a.len() {
                let reason = format!("has {} elements, but the envelope yields {}", found.len(), a.len());
                return Some((pointer, reason));
            }
            // Lists whose length depends on the run hold figures.
            let sample =
                |index| if a.len() == b.len() { [a.get(index), b.get(index)] } else { [a.first(), b.last()] };
            let mut elements = found.iter().enumerate();
            elements.find_map(|(index, found)| match sample(index) {
                [Some(a), Some(b)] => first_deviation(found, [a, b], format!("{pointer}/{index}")),
                _ => None,
            })
        }
        (found, [a, b]) if a == b => {
            (found != a).then(|| (pointer, format!("is {found}, but the envelope yields {a}")))
        }
        (found, samples) => {
            let kind = |value: &Value| std::mem::discriminant(value);
            let is_possible = samples.iter().any(|sample| kind(sample) == kind(found));
            (!is_possible).then(|| (pointer, format!("is {found}, which is no figure")))
        }
    }
}

/// Reasons why a figure of a run has no z-score that follow from the program alone.
const REASONS_OF_PROGRAMS: [&str; 3] = ["index", "strikes", "moment"];
/// Those that depend on the run. Few runs have the same ones as the samples.
const REASONS_OF_RUNS: [&str; 3] = ["single_year", "few_years", "constant"];

/// As [`first_deviation`], of a figure of the run beside that of the model.
fn deviation_of_check(
    found: &Map<String, Value>,
    samples: [&Map<String, Value>; 2],
    pointer: &str,
) -> Option<(String, String)> {
    let at = |key: &str| format!("{pointer}/{key}");
    let figure = |key: &str| {
        let Some(found) = found.get(key) else { return Some((at(key), "is missing".to_owned())) };
        first_deviation(found, samples.map(|sample| &sample[key]), at(key))
    };
    let reason_of = |check: &Map<String, Value>| check.get("no_z_reason").cloned().unwrap_or_default();
    let is_of_program = |reason: &Value| reason.as_str().is_some_and(|r| REASONS_OF_PROGRAMS.contains(&r));
    if samples.into_iter().any(|sample| is_of_program(&reason_of(sample))) {
        return ["expected", "found", "no_z_reason", "z"].into_iter().find_map(figure);
    }
    let reason = reason_of(found);
    if !reason.is_null() && !reason.as_str().is_some_and(|r| REASONS_OF_RUNS.contains(&r)) {
        return Some((at("no_z_reason"), format!("is {reason}, which no run of the envelope has")));
    }
    let has_score = found.get("z").is_some_and(Value::is_number);
    if has_score != reason.is_null() {
        return Some((
            at("z"),
            format!("is {}, with the reason {reason}", found.get("z").unwrap_or(&Value::Null)),
        ));
    }
    // The probability of an amount that the run has found: the samples' may be equal by chance.
    if pointer.contains("/largest_occurrence/") {
        let is_probability =
            |value: &Value| value.as_f64().is_some_and(|probability| (0.0..=1.0).contains(&probability));
        return match found.get("expected") {
            Some(expected) if is_probability(expected) => figure("found"),
            Some(expected) => Some((at("expected"), format!("is {expected}, which is no probability"))),
            None => Some((at("expected"), "is missing".to_owned())),
        };
    }
    ["expected", "found"].into_iter().find_map(figure)
}

#[cfg(test)]
mod tests {
    use forge_contract::envelope::Envelope;
    use forge_kernel::{
        backend::{Backend, simd::Simd},
        reduction::merge_results,
        workload::PROFILES,
    };
    use serde_json::json;

    use super::*;
    use crate::example::{envelope_of, example_envelope};

    /// Requests of every example of every profile.
    fn requests(iterations: u64) -> Vec<Request> {
        let envelopes = PROFILES.iter().flat_map(|profile| {
            let named = profile.examples.iter().map(|example| envelope_of(profile, (example.args)()));
            std::iter::once(example_envelope(profile)).chain(named)
        });
        let request = |mut envelope: Envelope| {
            envelope.args.insert("iterations".to_owned(), iterations.into());
            Request::from_envelope(envelope).unwrap()
        };
        envelopes.map(request).collect()
    }

    fn result(request: &Request) -> Value {
        let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
        let results = Simd::new().execute(&request.program, &shards, &()).unwrap();
        let merged = merge_results(&request.program, &results);
        parse_result(&JobResult::new(request, merged, StopReason::BudgetExhausted).json).unwrap()
    }

    #[test]
    fn every_example_yields_results_of_its_shape() {
        for iterations in [1, 20, 1_000, 100_000] {
            for request in requests(iterations) {
                let checked = check_shape(&result(&request), &request);
                assert_eq!(checked, Ok(()), "{iterations} of {}", request.profile().name);
            }
        }
    }

    /// The model's probability of the run's amount is the same for both samples, and another one.
    #[test]
    fn losses_above_the_samples_are_no_deviation() {
        let events = json!({"rates": [0.1, 0.1], "losses": [{"line": "a", "amounts": [4e9, 9e9]}]});
        let args = json!({"iterations": 20_000, "decimals": 4, "lines": ["a"],
            "groups": [{"name": "g", "events": events}]});
        let profile = PROFILES.iter().find(|profile| profile.name == "risk.compound.v1").unwrap();
        let request = Request::from_envelope(envelope_of(profile, args)).unwrap();
        let honest = result(&request);
        assert_eq!(check_shape(&honest, &request), Ok(()));
        let expected = "/output/checks/largest_occurrence/0/probability/expected";
        for (value, reason) in [(json!(1.5), "no probability"), (json!("0.1"), "no probability")] {
            let mut changed = honest.clone();
            *changed.pointer_mut(expected).unwrap() = value;
            let problem = check_shape(&changed, &request).unwrap_err().into_explanation();
            assert!(problem.contains(expected) && problem.contains(reason), "{problem}");
        }
    }

    #[test]
    fn a_check_has_a_score_or_a_reason_of_its_model() {
        let request = &requests(100_000)[2];
        let result = result(request);
        let check = "/output/checks/largest_occurrence/0/groups/2/probability";
        for (field, value, reason) in [
            ("no_z_reason", json!("index"), "no run of the envelope has"),
            ("no_z_reason", json!("few_years"), "with the reason \"few_years\""),
            ("z", Value::Null, "is null, with the reason null"),
            ("expected", json!("1"), "no probability"),
        ] {
            let mut changed = result.clone();
            changed.pointer_mut(check).unwrap()[field] = value;
            let problem = check_shape(&changed, request).unwrap_err().into_explanation();
            assert!(problem.contains(check) && problem.contains(reason), "{field}: {problem}");
        }
    }

    #[test]
    fn changes_of_anything_but_a_figure_are_named() {
        let request = &requests(100_000)[0];
        let result = result(request);
        let changes: [(&str, Value, &str); 7] = [
            (
                "/output/quantiles/0/level",
                json!(0.75),
                "/output/quantiles/0/level is 0.75, but the envelope yields 0.5",
            ),
            ("/output/quantiles", json!([]), "/output/quantiles has 0 elements"),
            ("/work/components/0/name", json!("premiums"), "/work/components/0/name is \"premiums\""),
            ("/output/mean_loss", json!("1"), "/output/mean_loss is \"1\", which is no figure"),
            (
                "/output/loss_distribution/counts",
                json!([1, "2"]),
                "/output/loss_distribution/counts/1 is \"2\"",
            ),
            ("/output", json!({}), "is missing"),
            ("/seed", json!({"currency": "EUR"}), "/seed/currency is no field of a result"),
        ];
        for (pointer, value, reason) in changes {
            let mut changed = result.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            let problem = check_shape(&changed, request).unwrap_err().into_explanation();
            assert!(problem.contains(reason), "{pointer}: {problem}");
        }
    }
}
