//! Proves that a result has the same bytes for every grouping, order, repetition, merge and
//! execution of its iterations, that a short run is a prefix of a long one, and that convergence
//! always ends a run after the same number of iterations.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use common::{
    runs::{envelope, execute, hash, leaf, merge_until_end, request},
    synthetic::{AmountCount, program, result},
};
use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{LEAF_ITERATIONS, ShardId},
    shard_result::{ShardResult, Tally},
};
use forge_kernel::{
    backend::{Backend, scalar::Scalar, simd::Simd},
    convergence::StopReason,
    reduction::{Reduction, merge_results},
    request::Request,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Eleven leaves and a partial one.
const ITERATIONS: u64 = 11 * LEAF_ITERATIONS + 12_345;

/// Quickstart args with changes.
fn args(changes: Value) -> Value {
    let mut args = json!({
        "iterations": ITERATIONS, "claim_freq": 2.0, "claim_severity_mu": 6.0, "claim_severity_sig": 1.0,
        "cat_prob": 0.02, "cat_mu": 10.0, "cat_sig": 1.5, "policy_limit": 50_000, "aggregate_limit": 250_000,
    });
    for (name, value) in changes.as_object().expect("an object") {
        args[name] = value.clone();
    }
    args
}

fn quickstart(changes: Value) -> Request {
    request("insurance.v1", &args(changes), "invariance")
}

/// The result hash of a run and why it ended.
fn outcome(request: &Request, (merged, reason): (ShardResult, StopReason)) -> (Digest, u64, StopReason) {
    (hash(&request.result_document(&merged, reason)), merged.iterations, reason)
}

fn one(backend: &dyn Backend, request: &Request, id: ShardId) -> ShardResult {
    backend
        .execute(&request.program, &[request.shard(id)], &())
        .expect("the execution is not cancelled")
        .remove(0)
}

/// Cuts a run into subtrees. A subtree that straddles a checkpoint is always cut; a coin decides
/// for every other one.
fn cut(request: &Request, coins: &mut impl Iterator<Item = bool>) -> Vec<ShardId> {
    fn descend(
        request: &Request,
        id: ShardId,
        coins: &mut impl Iterator<Item = bool>,
        cut: &mut Vec<ShardId>,
    ) {
        let range = request.plan.range(id);
        if range.is_empty() {
            return;
        }
        let straddles = request.plan.checkpoints().iter().any(|&c| range.start < c && c < range.end);
        if id.height == 0 || (!straddles && coins.next().expect("endless")) {
            return cut.push(id);
        }
        for child in [2 * id.index, 2 * id.index + 1] {
            descend(request, ShardId { height: id.height - 1, index: child }, coins, cut);
        }
    }
    let mut shards = Vec::new();
    descend(request, ShardId { height: 5, index: 0 }, coins, &mut shards);
    shards
}

/// An endless sequence of pseudo-random numbers.
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    (0u64..).map(move |i| {
        let digest = Digest::hash_parts(&[b"coins", &seed.to_le_bytes(), &i.to_le_bytes()]);
        u64::from_le_bytes(*digest.0.first_chunk().expect("32 bytes"))
    })
}

fn coins(seed: u64) -> impl Iterator<Item = bool> {
    numbers(seed).map(|number| number % 3 == 0)
}

/// Every SIMD level of this CPU and every GPU of this machine.
fn backends() -> &'static [Box<dyn Backend>] {
    static BACKENDS: LazyLock<Vec<Box<dyn Backend>>> = LazyLock::new(|| {
        let adapters = forge_gpu::list_adapters();
        forge_harness::gpu::require_adapter(!adapters.is_empty());
        let open = |adapter| forge_gpu::GpuBackend::open(adapter).expect("the adapter passes its self-test");
        let gpus = adapters.iter().map(|adapter| Box::new(open(adapter)) as Box<dyn Backend>);
        Simd::supported().into_iter().map(|level| Box::new(level) as Box<dyn Backend>).chain(gpus).collect()
    });
    &BACKENDS
}

/// Those that execute a program: GPUs execute plain programs only.
fn backends_of(program: &Program) -> Vec<&'static dyn Backend> {
    backends().iter().map(Box::as_ref).filter(|backend| backend.supports(program)).collect()
}

/// Executes the run with randomly cut shards, in a random order, some of them more than once and
/// each on a different backend; sorts and deduplicates the results before the reduction.
fn shuffled(request: &Request, seed: u64) -> (ShardResult, StopReason) {
    let backends = backends_of(&request.program);
    let mut deliveries: Vec<ShardId> = cut(request, &mut coins(seed));
    let again: Vec<_> = deliveries.iter().copied().zip(coins(seed + 1)).filter(|(_, coin)| *coin).collect();
    deliveries.extend(again.into_iter().map(|(id, _)| id));
    let mut keyed: Vec<_> = numbers(seed + 2).zip(deliveries).collect();
    keyed.sort_unstable();
    let mut first = BTreeMap::new();
    for (number, id) in keyed {
        let backend = &backends[number as usize % backends.len()];
        let range = request.plan.range(id);
        first.entry(range.start).or_insert((range.end, one(*backend, request, id)));
    }
    merge_until_end(request, first.into_values())
}

/// Executes the run on several threads with one backend: each of n threads executes every n-th
/// shard of the plan.
fn threaded(request: &Request, threads: usize) -> (ShardResult, StopReason) {
    let shards: Vec<_> = request.plan.shards().collect();
    let (backend, shards) = (Simd::new(), &shards);
    let mut results = std::thread::scope(|scope| {
        let backend = &backend;
        let part = |first: usize| {
            scope.spawn(move || {
                let mine = shards.iter().skip(first).step_by(threads);
                mine.map(|&id| (request.plan.range(id).end, one(backend, request, id))).collect::<Vec<_>>()
            })
        };
        let parts: Vec<_> = (0..threads).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().expect("no panic")).collect::<Vec<_>>()
    });
    results.sort_by_key(|(end, _)| *end);
    merge_until_end(request, results)
}

/// Executes a run in all of these ways.
fn outcomes(request: &Request) -> BTreeMap<String, (Digest, u64, StopReason)> {
    let mut found = BTreeMap::new();
    let mut add = |how: String, run| found.insert(how, outcome(request, run));
    add("reference".into(), execute(request, &Scalar));
    for backend in backends_of(&request.program) {
        add(backend.name().to_owned(), execute(request, backend));
    }
    for seed in [10, 20, 30] {
        add(format!("shuffled {seed}"), shuffled(request, seed));
    }
    for threads in [1, 2, 5] {
        add(format!("{threads} threads"), threaded(request, threads));
    }
    found
}

fn assert_invariant(request: &Request) -> (Digest, u64, StopReason) {
    let found = outcomes(request);
    let expected = found["reference"];
    for (how, outcome) in found {
        assert_eq!(outcome, expected, "{how}: {}", json!(request.envelope.args));
    }
    expected
}

#[test]
fn result_bytes_do_not_depend_on_how_the_run_was_executed() {
    let (digest, performed, reason) = assert_invariant(&quickstart(json!({})));
    assert_eq!((performed, reason), (ITERATIONS, StopReason::BudgetExhausted));
    let (other, ..) = assert_invariant(&quickstart(json!({"claim_freq": 2.5})));
    assert_ne!(other, digest);
    let eta = json!({"iterations": ITERATIONS, "base_eta": 12.5, "traffic_mean": 8, "traffic_std": 3});
    assert_invariant(&request("eta.v1", &eta, "invariance"));
}

/// Two lines, groups of all kinds, an index, and treaties of all kinds in several steps. `seed`
/// chooses the amounts, which treaties there are, their steps and the number of years.
fn portfolio(seed: u64) -> Value {
    let mut random = numbers(1000 + seed);
    let mut below = |end: u64| random.next().expect("endless") % end;
    let severities = [
        json!({"pareto": {"threshold": 2000, "alpha": 1.8}}),
        json!({"lognormal": {"mu": 8.5, "sigma": 1.4}}),
        json!({"discrete": {"amounts": [0, 1500, 40_000], "probabilities": [0.2, 0.7, 0.1]}}),
        json!({"piecewise": {"amounts": [100, 5000, 90_000], "probabilities": [0, 0.9, 1]}}),
    ];
    let mut severity = || severities[below(4) as usize].clone();
    let claims = json!([
        {"line": "a", "weight": 2, "severity": severity(), "limit": 500_000},
        {"line": "b", "severity": severity(), "deductible": 1000, "index": "inflation"},
    ]);
    let strikes = json!([
        {"line": "b", "severity": severity()}, {"line": "a", "severity": severity(), "rank": "same"},
    ]);
    let annual = json!([{"line": "a", "amount": {"gamma": {"mean": 30_000, "cv": 0.2}}}]);
    let layer = json!({"kind": "occurrence_xl", "limit": 1000 * (1 + below(50)), "attachment": 500 * below(20),
        "reinstatements": [1, 0.5], "premium": 700, "placed": 0.9, "aad": 100 * (1 + below(3))});
    let treaties = [
        json!({"kind": "quota_share", "cession": (5 * (1 + below(9))) as f64 / 100.0, "event_limit": 4000}),
        json!({"kind": "quota_share", "cession": 0.3}),
        layer,
        json!({"kind": "occurrence_xl", "limit": 5000, "attachment": 3000, "aal": 9000}),
    ];
    let mut chosen = Vec::new();
    for (number, mut treaty) in treaties.into_iter().enumerate() {
        if below(4) > 0 {
            treaty["name"] = json!(format!("treaty {number}"));
            treaty["step"] = json!(1 + below(3));
            treaty["covers"] = if below(2) == 0 { json!(["a", "b"]) } else { json!(["b"]) };
            chosen.push(treaty);
        }
    }
    chosen.push(json!({"name": "stop loss", "kind": "aggregate_xl", "step": 4, "covers": ["a", "b"],
        "limit": 80_000, "attachment": 20_000, "placed": 0.85}));
    json!({
        "iterations": 2 * LEAF_ITERATIONS + 1 + below(LEAF_ITERATIONS),
        "lines": ["a", "b"],
        "indices": [{"name": "inflation", "lognormal": {"mean": 1.05, "cv": 0.1}}],
        "groups": [
            {"name": "claims", "count": {"negative_binomial": {"mean": 3, "contagion": 0.4}}, "claims": claims},
            {"name": "strikes", "count": {"poisson": 0.4}, "strikes": strikes},
            {"name": "annual", "annual": annual},
        ],
        "treaties": chosen,
        "report": {"allocation": below(2) == 0},
    })
}

#[test]
fn results_of_portfolios_do_not_depend_on_how_the_run_was_executed() {
    let mut digests = BTreeSet::new();
    for seed in 0..6 {
        let request = request("risk.compound.v1", &portfolio(seed), "invariance");
        assert!(request.program.details, "a portfolio has details");
        let (digest, performed, reason) = assert_invariant(&request);
        assert_eq!((performed, reason), (request.plan.iterations(), StopReason::BudgetExhausted));
        digests.insert(digest);
    }
    assert_eq!(digests.len(), 6);
    let mut converging = portfolio(1);
    converging["convergence"] = json!({"metric": "var", "level": 0.99, "relative_half_width": 0.5});
    let (_, performed, reason) = assert_invariant(&request("risk.compound.v1", &converging, "invariance"));
    assert_eq!((performed, reason), (LEAF_ITERATIONS, StopReason::BandReached));
}

#[test]
fn short_run_of_a_portfolio_is_a_prefix_of_a_long_run() {
    let backend = Simd::new();
    for seed in 0..3 {
        let of_length = |iterations: u64| {
            let mut args = portfolio(seed);
            args["iterations"] = json!(iterations);
            request("risk.compound.v1", &args, "invariance")
        };
        let long = of_length(5 * LEAF_ITERATIONS);
        let short = of_length(LEAF_ITERATIONS + 12_345);
        let mut last = long.shard(ShardId { height: 0, index: 1 });
        last.iterations = 12_345;
        let mut parts = vec![one(&backend, &long, ShardId { height: 0, index: 0 })];
        parts.extend(backend.execute(&long.program, &[last], &()).expect("the execution is not cancelled"));
        assert_eq!(execute(&short, &backend).0, merge_results(&long.program, &parts));
    }
}

#[test]
fn convergence_checkpoint_does_not_depend_on_how_the_run_was_executed() {
    let leaf = LEAF_ITERATIONS;
    let band = StopReason::BandReached;
    let cases = [
        (json!({"metric": "mean", "relative_half_width": 0.018}), 5 * leaf, band),
        (json!({"metric": "var", "level": 0.99, "relative_half_width": 0.049}), 8 * leaf, band),
        (json!({"metric": "tvar", "level": 0.99, "relative_half_width": 0.033}), 7 * leaf, band),
        (json!({"metric": "mean", "relative_half_width": 0.5}), leaf, band),
        (
            json!({"metric": "mean", "relative_half_width": 0.5, "min_iterations": 5 * leaf + 1}),
            6 * leaf,
            band,
        ),
        (
            json!({"metric": "var", "level": 0.99, "relative_half_width": 0.0064, "stable_checkpoints": 2}),
            7 * leaf,
            StopReason::VarianceStable,
        ),
        (
            json!({"metric": "var", "level": 0.995, "relative_half_width": 1e-6}),
            ITERATIONS,
            StopReason::BudgetExhausted,
        ),
    ];
    for (convergence, performed, reason) in cases {
        let request = quickstart(json!({"convergence": convergence.clone()}));
        let (_, found, why) = assert_invariant(&request);
        assert_eq!((found, why), (performed, reason), "{convergence}");
    }
}

#[test]
fn iterations_beyond_the_end_are_not_merged() {
    let request = quickstart(json!({"convergence": {"metric": "mean", "relative_half_width": 0.5}}));
    let (merged, _) = execute(&request, &Simd::new());
    assert_eq!(merged.digest(), one(&Simd::new(), &request, ShardId { height: 0, index: 0 }).digest());
}

#[test]
fn short_run_is_a_prefix_of_a_long_run() {
    let derived = |iterations: u64| {
        let args = args(json!({"iterations": iterations}));
        Request::from_json(&envelope("insurance.v1", &args, &json!({"mode": "derived"}))).expect("valid")
    };
    let explicit = |iterations: u64| quickstart(json!({"iterations": iterations}));
    let backend = Simd::new();
    for parse in [&derived as &dyn Fn(u64) -> Request, &explicit] {
        let long = parse(10_000_000);
        let leaves = |count: u64| -> Vec<_> {
            let ids = (0..count).map(|index| ShardId { height: 0, index });
            ids.map(|id| one(&backend, &long, id)).collect()
        };
        let short = parse(10 * LEAF_ITERATIONS);
        assert_eq!(execute(&short, &Scalar).0, merge_results(&long.program, &leaves(10)));
        // One million iterations are 15 leaves and a part of the 16th.
        let short = parse(1_000_000);
        let mut last = long.shard(ShardId { height: 0, index: 15 });
        last.iterations = 1_000_000 - 15 * LEAF_ITERATIONS;
        let mut parts = leaves(15);
        parts.extend(backend.execute(&long.program, &[last], &()).expect("the execution is not cancelled"));
        assert_eq!(execute(&short, &backend).0, merge_results(&long.program, &parts));
        assert_ne!(short.replay_key, long.replay_key);
    }
    assert_ne!(derived(1_000_000).root_seed, explicit(1_000_000).root_seed);
}

#[test]
fn a_leaf_by_its_own_seed_is_the_leaf_of_a_shard() {
    let request = quickstart(json!({}));
    let backend = Simd::new();
    let leaves: Vec<_> = (0..12).map(|i| leaf(&request, i)).collect();
    let parts = backend.execute(&request.program, &leaves, &()).expect("the execution is not cancelled");
    assert_eq!(
        merge_results(&request.program, &parts),
        one(&backend, &request, ShardId { height: 32, index: 0 })
    );
}

const MARKS: [u64; 2] = [50_000, 9_000_000];

/// Synthetic results of one program, with the amounts that they contain.
fn results() -> impl Strategy<Value = (Vec<AmountCount>, ShardResult)> {
    let amount =
        prop_oneof![0..2000u64, 0..10_000_000u64, Just(MARKS[0]), Just(MARKS[1]), Just((1 << 53) - 1)];
    let amounts = prop::collection::vec((amount, 1..1000u64), 0..12);
    (amounts, 0..1u64 << 40, 0..1u64 << 40).prop_map(|(amounts, a, b)| {
        let tally = |x: u64| Tally { occurrences: x, capped: x / 3 };
        let largests: Vec<_> = amounts.iter().map(|&(amount, times)| (amount / 2, times)).collect();
        let result = result(&MARKS, &amounts, &largests, vec![tally(a), tally(b)]);
        (amounts, result)
    })
}

proptest! {
    #[test]
    fn merging_combines_the_amounts_of_all_results(parts in prop::collection::vec(results(), 0..6)) {
        let all: Vec<AmountCount> = parts.iter().flat_map(|(amounts, _)| amounts).copied().collect();
        let halves: Vec<AmountCount> = all.iter().map(|&(amount, times)| (amount / 2, times)).collect();
        let tallies = (0..2).map(|i| Tally {
            occurrences: parts.iter().map(|(_, r)| r.components[i].occurrences).sum(),
            capped: parts.iter().map(|(_, r)| r.components[i].capped).sum(),
        });
        let expected = result(&MARKS, &all, &halves, tallies.collect());
        let results: Vec<_> = parts.into_iter().map(|(_, result)| result).collect();
        prop_assert_eq!(merge_results(&program(&MARKS, 2), &results), expected);
    }

    #[test]
    fn merging_is_commutative_associative_and_has_an_identity(
        (_, a) in results(), (_, b) in results(), (_, c) in results(),
    ) {
        let program = program(&MARKS, 2);
        let plus = |a: &ShardResult, b: &ShardResult| merge_results(&program, &[a.clone(), b.clone()]);
        prop_assert_eq!(plus(&a, &b).encode(), plus(&b, &a).encode());
        prop_assert_eq!(plus(&plus(&a, &b), &c).encode(), plus(&a, &plus(&b, &c)).encode());
        let nothing = merge_results(&program, &[]);
        prop_assert_eq!(plus(&a, &nothing).encode(), a.encode());
        prop_assert_eq!(Reduction::new(&program).result(), nothing);
    }

    #[test]
    fn result_of_another_program_is_rejected((_, a) in results(), components in 2usize..5) {
        let other = program(&[50_000], components);
        let mut reduction = Reduction::new(&other);
        prop_assert!(reduction.add(&a).is_err());
        prop_assert_eq!(reduction.result(), merge_results(&other, &[]));
    }
}
