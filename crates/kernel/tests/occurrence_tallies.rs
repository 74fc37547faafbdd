//! Results whose numbers of occurrences contradict each other are refused: no execution gives them.

use forge_contract::shard_result::ShardResult;
use forge_kernel::{
    backend::{Backend, scalar::Scalar},
    occurrence_tallies,
    request::Request,
};
use serde_json::json;

/// A portfolio with a group of each kind and a layer on the strikes, and the result of its run.
fn run() -> (Request, ShardResult) {
    let envelope = json!({
        "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
        "args": {
            "iterations": 500, "lines": ["fire", "motor"],
            "groups": [
                {"name": "claims", "count": {"poisson": 2}, "claims": [
                    {"line": "fire", "weight": 1, "severity": {"constant": 500}},
                    {"line": "motor", "weight": 2, "severity": {"constant": 300}}]},
                {"name": "storm", "count": {"poisson": 1}, "strikes": [
                    {"line": "fire", "severity": {"constant": 900}},
                    {"line": "motor", "severity": {"constant": 800}}]},
                {"name": "year", "annual": [{"line": "fire", "amount": {"constant": 1000}}]}],
            "treaties": [{"name": "layer", "kind": "occurrence_xl", "covers": ["fire"], "groups": ["storm"],
                "attachment": 100, "limit": 200}]
        }
    });
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    let shard = request.shard(request.plan.shards().next().unwrap());
    let result = Scalar.execute(&request.program, &[shard], &()).unwrap().remove(0);
    (request, result)
}

#[test]
fn numbers_of_occurrences_must_agree() {
    let (request, honest) = run();
    let check = |result: &ShardResult| occurrence_tallies::check(&request.program, result);
    assert_eq!(check(&honest), Ok(()));
    let storms = honest.details.as_ref().unwrap().groups[1].occurrences;
    assert_eq!(honest.details.as_ref().unwrap().treaties[0].attached, storms);
    type Change = fn(&mut ShardResult);
    let changes: [(Change, &str); 7] = [
        (|r| r.components[0].occurrences += 1, "group 0"),
        (|r| r.details.as_mut().unwrap().groups[0].occurrences -= 1, "group 0"),
        (|r| r.components[3].occurrences += 1, "group 1"),
        (|r| r.details.as_mut().unwrap().groups[1].occurrences += 1, "group 1"),
        (|r| r.components[4].occurrences -= 1, "group 2"),
        (|r| r.details.as_mut().unwrap().groups[2].occurrences = 500, "group 2"),
        (|r| r.details.as_mut().unwrap().treaties[0].attached += 1, "treaty 0"),
    ];
    for (number, (change, named)) in changes.into_iter().enumerate() {
        let mut forged = honest.clone();
        change(&mut forged);
        let reason = check(&forged).unwrap_err().to_string();
        assert!(reason.contains(named), "change {number}: {reason}");
    }
    let mut without = honest.clone();
    without.components.truncate(3);
    assert!(check(&without).is_err());
}
