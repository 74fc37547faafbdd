//! Proves that the kernel reproduces every vector of tests/vectors/v1, which a second implementation wrote from
//! docs/determinism.md alone. A missing file, or one without cases, fails.

mod common;

use std::{fs, path::Path};

use common::{runs, synthetic};
use forge_contract::{
    canonical::to_canonical_json,
    digest::Digest,
    program::{CountTable, Program, Segment},
    shard::{ShardId, TREE_DEPTH},
    shard_result::ShardResult,
};
use forge_kernel::{
    converge::{Convergence, Metric, Monitor},
    dd::Dd,
    execute::{
        Backend,
        scalar::{self, Scalar},
        simd::Simd,
    },
    plan::Plan,
    reduce::merge,
    request::Request,
    seed,
    statistics::{Level, Moments, Ordered, interval_ranks, two_sided_z},
    tables,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};

const FILES: [&str; 10] = [
    "amounts", "convergence", "counts", "programs", "quantiles", "results", "seeds", "shards", "statistics", "streams",
];

/// The cases of a list in a vector file.
fn cases(file: &str, list: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/vectors/v1/{file}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let cases = document[list].as_array().unwrap_or_else(|| panic!("{file} has no {list}"));
    assert!(!cases.is_empty(), "{file} has no case in {list}");
    cases.clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// An integer, written as a number or, when it is large, as a string.
fn integer(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| text(value).parse().unwrap_or_else(|_| panic!("not an integer: {value}")))
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no list {name}"))
}

fn digest(value: &Value) -> Digest {
    text(value).parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A f64 by its bits; `None` for null.
fn float(value: &Value) -> Option<f64> {
    if value.is_null() {
        return None;
    }
    let bits = u64::from_str_radix(text(&value["bits"]), 16).expect("bits in hex");
    assert_eq!(f64::from_bits(bits), number(&value["f64"]), "the bits and the number of a vector differ");
    Some(f64::from_bits(bits))
}

fn parse(envelope: &Value) -> Request {
    Request::parse(envelope.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_directory_holds_the_files_that_are_read_here() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/v1");
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("readable").file_name().into_string().expect("UTF-8");
    let mut found: Vec<_> = entries.map(name).collect();
    found.sort();
    assert_eq!(found, FILES.map(|file| format!("{file}.json")));
}

#[test]
fn args_seeds_and_replay_keys() {
    for case in cases("seeds", "runs") {
        let envelope = format!(r#"{{"op":{},"args":{},"seed":{}}}"#, case["op"], text(&case["args_text"]), case["seed"]);
        let request = Request::parse(envelope.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        let canonical = |value: &Value| String::from_utf8(to_canonical_json(value).unwrap()).unwrap();
        let mut args = json!(request.envelope.args);
        assert_eq!(canonical(&args), text(&case["normalised_args"]), "{}", case["name"]);
        args.as_object_mut().unwrap().retain(|name, _| name != "iterations" && name != "convergence");
        assert_eq!(canonical(&args), text(&case["model_args"]), "{}", case["name"]);
        assert_eq!(request.root_seed, digest(&case["root_seed"]), "{}", case["name"]);
        assert_eq!(request.replay_key.to_string(), text(&case["replay_key"]), "{}", case["name"]);
    }
}

#[test]
fn seed_trees() {
    for case in cases("seeds", "trees") {
        let root = digest(&case["root_seed"]);
        let children = [0, 1].map(|bit| json!(seed::child(root, bit)));
        assert_eq!(children, list(&case, "children"));
        for leaf in list(&case, "leaves") {
            assert_eq!(seed::descend(root, integer(&leaf["leaf"]), TREE_DEPTH), digest(&leaf["seed"]));
        }
        for shard in list(&case, "shards") {
            let id = ShardId { height: integer(&shard["height"]) as u32, index: integer(&shard["index"]) };
            let node = seed::shard_seed(root, id);
            assert_eq!(node, digest(&shard["seed"]));
            if let Some(first) = seed::leaf_seeds(node, id.height, 1).next() {
                assert_eq!(first, seed::descend(root, id.leaves().start, TREE_DEPTH));
            }
        }
    }
}

#[test]
fn random_streams() {
    for case in cases("streams", "known_answers") {
        let nonce = hex::decode(text(&case["nonce"])).unwrap().try_into().unwrap();
        let mut stream = ChaCha8Rng::from_seed(digest(&case["key"]).0);
        stream.set_stream(u64::from_le_bytes(nonce));
        let mut found = vec![0; text(&case["keystream"]).len() / 2];
        stream.fill_bytes(&mut found);
        assert_eq!(hex::encode(found), text(&case["keystream"]));
    }
    for case in cases("streams", "streams") {
        let mut stream = ChaCha8Rng::from_seed(digest(&case["leaf_seed"]).0);
        stream.set_stream(integer(&case["iteration"]));
        for draw in list(&case, "draws") {
            assert_eq!(stream.next_u64(), integer(draw));
        }
    }
}

fn count_table(case: &Value) -> CountTable {
    match text(&case["law"]) {
        "poisson" => tables::poisson(number(&case["rate"])),
        "bernoulli" => tables::bernoulli(number(&case["probability"])),
        "constant" => tables::constant(integer(&case["count"]) as u32),
        law => panic!("no law {law}"),
    }
}

#[test]
fn count_tables() {
    for case in cases("counts", "tables") {
        let table = count_table(&case);
        let length = integer(&case["length"]) as usize;
        assert_eq!((u64::from(table.offset), table.thresholds.len()), (integer(&case["offset"]), length), "{case}");
        let bytes: Vec<u8> = table.thresholds.iter().flat_map(|t| t.to_le_bytes()).collect();
        assert_eq!(Digest::of(&[&bytes]), digest(&case["sha256"]), "{case}");
        if let Some(thresholds) = case.get("thresholds") {
            let thresholds: Vec<_> = thresholds.as_array().unwrap().iter().map(integer).collect();
            assert_eq!(table.thresholds, thresholds);
        }
        for pair in list(&case, "counts") {
            assert_eq!(u64::from(table.count(integer(&pair[0]))), integer(&pair[1]), "{case}");
        }
    }
}

fn quantile_table(case: &Value) -> (u32, Vec<Segment>) {
    let (bits, units) = (integer(&case["segment_bits"]) as u32, Dd::from(number(&case["units"])));
    let arg = |name: &str| Dd::from(number(&case[name]));
    let table = match text(&case["law"]) {
        "lognormal" => tables::amounts(bits, |z| (arg("mu") + z * arg("sigma")).exp() * units),
        "normal" => tables::amounts(bits, |z| (arg("mean") + z * arg("deviation")) * units),
        law => panic!("no law {law}"),
    };
    (bits, table.expect("all floors are decided"))
}

#[test]
fn quantile_tables() {
    for case in cases("quantiles", "tables") {
        let (_, table) = quantile_table(&case);
        assert_eq!(table.len() as u64, integer(&case["entries"]));
        for sample in list(&case, "sample") {
            let s = table[integer(&sample["index"]) as usize];
            let found = json!({"index": sample["index"], "left": s.left, "slope": s.slope, "curve": s.curve, "shift": s.shift});
            assert_eq!(&found, sample, "{}", case["law"]);
        }
        let words = table.iter().flat_map(|s| [s.left as u32, s.slope as u32, s.curve as u32, s.shift]);
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        assert_eq!(Digest::of(&[&bytes]), digest(&case["sha256"]), "{}", case["law"]);
    }
}

#[test]
fn amounts_of_draws() {
    for case in cases("amounts", "tables") {
        let (bits, table) = quantile_table(&case);
        for pair in list(&case, "amounts") {
            assert_eq!(scalar::amount(bits, &table, integer(&pair[0])), integer(&pair[1]), "{case}");
        }
    }
}

#[test]
fn programs() {
    for case in cases("programs", "programs") {
        let program = parse(&case["envelope"]).program;
        let components = program.components.iter().map(|c| {
            json!({"cap": c.cap, "offset": c.counts.offset, "thresholds": c.counts.thresholds.len()})
        });
        let found = (program.units.into(), program.segment_bits.into(), program.base, program.cap);
        let expected = ["units", "segment_bits", "base", "cap"].map(|name| integer(&case[name]));
        assert_eq!([found.0, found.1, found.2, found.3], expected, "{}", case["name"]);
        assert_eq!(json!(components.collect::<Vec<_>>()), case["components"], "{}", case["name"]);
        let bytes = program.encode();
        assert_eq!((bytes.len() as u64, program.digest()), (integer(&case["length"]), digest(&case["sha256"])));
        assert_eq!(Program::decode(&bytes), Ok(program));
    }
}

/// Executes a shard on all CPU backends and checks its bytes.
fn check_shard(case: &Value) -> (Program, ShardResult) {
    let request = parse(&case["envelope"]);
    let shard = request.shard(text(&case["shard"]).parse().expect("a shard id"));
    let simd = Simd::levels();
    let backends = simd.iter().map(|level| level as &dyn Backend).chain([&Scalar as &dyn Backend]);
    for backend in backends {
        let result = backend.execute(&request.program, &[shard], &()).unwrap().remove(0);
        assert_eq!(hex::encode(result.encode()), text(&case["bytes"]), "{} {}", backend.name(), case["name"]);
        assert_eq!(result.digest(), digest(&case["sha256"]));
        assert_eq!(result.iterations, integer(&case["iterations"]));
    }
    let bytes = hex::decode(text(&case["bytes"])).unwrap();
    (request.program, ShardResult::decode(&bytes).expect("canonical bytes"))
}

#[test]
fn shard_results() {
    for case in cases("shards", "shards") {
        check_shard(&case);
    }
    for case in cases("shards", "merges") {
        let (programs, parts): (Vec<_>, Vec<_>) = list(&case, "parts").iter().map(check_shard).unzip();
        let merged = merge(&programs[0], &parts);
        assert_eq!(hex::encode(merged.encode()), text(&case["bytes"]), "{}", case["name"]);
        assert_eq!((merged.digest(), merged.iterations), (digest(&case["sha256"]), integer(&case["iterations"])));
    }
}

#[test]
fn whole_results() {
    for case in cases("results", "results") {
        let request = parse(&case["envelope"]);
        let (merged, reason) = runs::execute(&request, &Simd::new());
        let document = request.result_document(&merged, reason);
        let found = String::from_utf8(to_canonical_json(&document).unwrap()).unwrap();
        assert_eq!(found, text(&case["result"]), "{}", case["name"]);
        assert_eq!(runs::hash(&document), digest(&case["result_hash"]), "{}", case["name"]);
    }
}

/// A made-up result, checked against the bytes that the vector has for it.
fn made_up(case: &Value) -> (Vec<u64>, ShardResult) {
    let marks: Vec<_> = list(case, "marks").iter().map(integer).collect();
    let amounts: Vec<_> = list(case, "amounts").iter().map(|pair| (integer(&pair[0]), integer(&pair[1]))).collect();
    let result = synthetic::result(&marks, &amounts, &amounts, vec![Default::default()]);
    assert_eq!(hex::encode(result.encode()), text(&case["shard_bytes"]), "{}", case["name"]);
    assert_eq!(result.iterations, integer(&case["n"]));
    (marks, result)
}

#[test]
fn statistics() {
    for case in cases("statistics", "distributions") {
        let (marks, result) = made_up(&case);
        assert_eq!((result.sum.to_string(), result.sum_squares.to_string()), (text(&case["sum"]).into(), text(&case["sum_of_squares"]).into()));
        let ordered = Ordered::new(&result.total, &marks);
        for statistic in list(&case, "order_statistics") {
            assert_eq!(Some(ordered.statistic(integer(&statistic["rank"]))), float(&statistic["x"]), "{}", case["name"]);
        }
        for tail in list(&case, "tails") {
            let level = Level::new(integer(&tail["a"]), integer(&tail["b"]));
            let found = (Some(ordered.var(level)), Some(ordered.tvar(level)));
            assert_eq!(found, (float(&tail["var"]), float(&tail["tvar"])), "{} {level:?}", case["name"]);
        }
        let moments = Moments::new(&result);
        let expected = &case["moments"];
        let found = [Some(moments.mean), moments.variance, moments.variance.map(f64::sqrt), moments.std_error];
        assert_eq!(found, ["mean", "variance", "std_dev", "std_error"].map(|name| float(&expected[name])));
    }
    for case in cases("statistics", "intervals") {
        let level = Level::new(integer(&case["a"]), integer(&case["b"]));
        let (low, high) = interval_ranks(integer(&case["n"]), level, number(&case["confidence"]));
        assert_eq!((json!(low), json!(high)), (case["low"].clone(), case["high"].clone()), "{case}");
    }
    for case in cases("statistics", "normal_quantiles") {
        assert_eq!(Some(two_sided_z(number(&case["confidence"]))), float(&case["z"]));
    }
}

fn settings(case: &Value) -> Convergence {
    Convergence {
        metric: match text(&case["metric"]) {
            "mean" => Metric::Mean,
            "var" => Metric::Var,
            "tvar" => Metric::Tvar,
            metric => panic!("no metric {metric}"),
        },
        level: case.get("level").and_then(Value::as_f64),
        relative_half_width: number(&case["relative_half_width"]),
        confidence: number(&case["confidence"]),
        min_iterations: integer(&case["min_iterations"]),
        stable_checkpoints: integer(&case["stable_checkpoints"]),
    }
}

#[test]
fn convergence() {
    for case in cases("convergence", "checkpoints") {
        let plan = Plan::new(integer(&case["iterations"]), 5, Some(integer(&case["min_iterations"])));
        assert_eq!(json!(plan.checkpoints()), case["checkpoints"]);
    }
    let states: Vec<_> = cases("convergence", "states").iter().map(made_up).collect();
    for case in cases("convergence", "cases") {
        let convergence = settings(&case["convergence"]);
        let (budget, marks) = (integer(&case["iterations"]), states[0].0.clone());
        let plan = Plan::new(budget, 5, Some(convergence.min_iterations));
        let mut monitor = Monitor::new(convergence.clone(), marks.clone());
        let mut evaluations = list(&case, "evaluations").iter();
        let mut end = (budget, json!("budget_exhausted"));
        for &checkpoint in plan.checkpoints() {
            let zeros = synthetic::result(&marks, &[(0, checkpoint)], &[(0, checkpoint)], vec![Default::default()]);
            let at = |(_, state): &&(_, ShardResult)| state.iterations == checkpoint;
            let state = if case["all_zero"] == true { &zeros } else { &states.iter().find(at).expect("a state").1 };
            let evaluation = evaluations.next().expect("an evaluation for every checkpoint tested");
            check_evaluation(&convergence, &marks, state, evaluation);
            if let Some(reason) = monitor.test(state) {
                end = (checkpoint, json!(reason));
                break;
            }
        }
        assert_eq!(end, (integer(&case["performed"]), case["stop_reason"].clone()), "{}", case["name"]);
        assert_eq!(evaluations.next(), None, "{} ended too early", case["name"]);
    }
}

/// Estimate, half width and variance of one checkpoint.
fn check_evaluation(convergence: &Convergence, marks: &[u64], state: &ShardResult, expected: &Value) {
    assert_eq!(state.iterations, integer(&expected["iterations"]));
    let (moments, ordered) = (Moments::new(state), Ordered::new(&state.total, marks));
    let z = two_sided_z(convergence.confidence);
    let level = || Level::new((convergence.level.expect("a level") * 1e6).round() as u64, 1_000_000);
    let (estimate, half_width) = match convergence.metric {
        Metric::Mean => (moments.mean, moments.std_error.map(|error| z * error)),
        Metric::Tvar => (ordered.tvar(level()), Some(ordered.tvar_half_width(level(), z))),
        Metric::Var => {
            let (low, high) = ordered.var_interval(level(), convergence.confidence);
            (ordered.var(level()), low.zip(high).map(|(low, high)| (high - low) / 2.0))
        }
    };
    let found = (Some(estimate), half_width, moments.variance);
    assert_eq!(found, (float(&expected["estimate"]), float(&expected["half_width"]), float(&expected["variance"])));
}
