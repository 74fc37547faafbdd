//! Proves that the kernel reproduces every vector of tests/vectors/v1, which a second
//! implementation, written from docs/determinism.md alone, generated. vectors_statistics.rs and
//! vectors_portfolios.rs cover those for statistics and portfolios. A missing file, or one without
//! cases, fails.

mod common;

use std::fs;

use common::{
    runs,
    vectors::{cases, digest, directory, integer, list, number, text},
};
use forge_contract::{
    canonical::to_canonical_json,
    digest::Digest,
    plain_program::PlainProgram,
    program::{CountTable, Program, Segment},
    shard::{ShardId, TREE_DEPTH},
    shard_result::ShardResult,
};
use forge_kernel::{
    backend::{Backend, scalar::Scalar, simd::Simd},
    counts::CountLaw,
    reduction::merge_results,
    request::Request,
    seed_tree,
    severities::SeverityLaw,
    testing::amount_of_draw,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};

const FILES: [&str; 12] = [
    "amounts",
    "compound",
    "convergence",
    "counts",
    "portfolios",
    "programs",
    "quantiles",
    "results",
    "seeds",
    "shards",
    "statistics",
    "streams",
];

fn request(envelope: &Value) -> Request {
    Request::from_json(envelope.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_vector_file_is_read() {
    let directory = directory();
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("readable").file_name().into_string().expect("UTF-8")
    };
    let mut found: Vec<_> = entries.map(name).collect();
    found.sort();
    assert_eq!(found, FILES.map(|file| format!("{file}.json")));
}

#[test]
fn args_seeds_and_replay_keys() {
    for case in cases("seeds", "runs") {
        let envelope =
            format!(r#"{{"op":{},"args":{},"seed":{}}}"#, case["op"], text(&case["args_text"]), case["seed"]);
        let request = Request::from_json(envelope.as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
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
        let children = [0, 1].map(|bit| json!(seed_tree::child(root, bit)));
        assert_eq!(children, list(&case, "children"));
        for leaf in list(&case, "leaves") {
            assert_eq!(
                seed_tree::descendant(root, integer(&leaf["leaf"]), TREE_DEPTH),
                digest(&leaf["seed"])
            );
        }
        for shard in list(&case, "shards") {
            let id = ShardId { height: integer(&shard["height"]) as u32, index: integer(&shard["index"]) };
            let node = seed_tree::shard_seed(root, id);
            assert_eq!(node, digest(&shard["seed"]));
            if let Some(first) = seed_tree::leaf_seeds(node, id.height, 1).next() {
                assert_eq!(first, seed_tree::descendant(root, id.leaves().start, TREE_DEPTH));
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
    let law = match text(&case["law"]) {
        "poisson" => CountLaw::Poisson(number(&case["rate"])),
        "bernoulli" => CountLaw::Bernoulli(number(&case["probability"])),
        "constant" => CountLaw::Constant(integer(&case["count"]) as u32),
        law => panic!("no law {law}"),
    };
    law.table().unwrap()
}

#[test]
fn count_tables() {
    for case in cases("counts", "tables") {
        let table = count_table(&case);
        let length = integer(&case["length"]) as usize;
        assert_eq!(
            (u64::from(table.offset), table.thresholds.len()),
            (integer(&case["offset"]), length),
            "{case}"
        );
        let bytes: Vec<u8> = table.thresholds.iter().flat_map(|t| t.to_le_bytes()).collect();
        assert_eq!(Digest::hash_parts(&[&bytes]), digest(&case["sha256"]), "{case}");
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
    let (bits, units) = (integer(&case["segment_bits"]) as u32, number(&case["units"]) as u32);
    let arg = |name: &str| number(&case[name]);
    let law = match text(&case["law"]) {
        "lognormal" => SeverityLaw::Lognormal { mu: arg("mu"), sigma: arg("sigma") },
        "normal" => SeverityLaw::Normal { mean: arg("mean"), std_dev: arg("deviation") },
        law => panic!("no law {law}"),
    };
    (bits, law.table(units, bits).expect("every floor is decided"))
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
        assert_eq!(Digest::hash_parts(&[&bytes]), digest(&case["sha256"]), "{}", case["law"]);
    }
}

#[test]
fn amounts_of_draws() {
    for case in cases("amounts", "tables") {
        let (bits, table) = quantile_table(&case);
        for pair in list(&case, "amounts") {
            assert_eq!(amount_of_draw(bits, &table, integer(&pair[0])), integer(&pair[1]), "{case}");
        }
    }
}

#[test]
fn programs() {
    for case in cases("programs", "programs") {
        let program = request(&case["envelope"]).program;
        let plain = PlainProgram::new(&program).expect("the profiles' programs are plain");
        let components = plain.components.iter().map(
            |c| json!({"cap": c.cap, "offset": c.counts.offset, "thresholds": c.counts.thresholds.len()}),
        );
        let found = (program.units.into(), plain.segment_bits.into(), program.base, program.cap);
        let expected = ["units", "segment_bits", "base", "cap"].map(|name| integer(&case[name]));
        assert_eq!([found.0, found.1, found.2, found.3], expected, "{}", case["name"]);
        assert_eq!(json!(components.collect::<Vec<_>>()), case["components"], "{}", case["name"]);
        let bytes = program.encode();
        assert_eq!(
            (bytes.len() as u64, program.digest()),
            (integer(&case["length"]), digest(&case["sha256"]))
        );
        assert_eq!(Program::decode(&bytes), Ok(Program::clone(&program)));
    }
}

/// Executes a shard on all CPU backends and checks its bytes.
fn check_shard(case: &Value) -> (Program, ShardResult) {
    let request = request(&case["envelope"]);
    let shard = request.shard(text(&case["shard"]).parse().expect("a shard id"));
    let simd = Simd::supported();
    let backends = simd.iter().map(|level| level as &dyn Backend).chain([&Scalar as &dyn Backend]);
    for backend in backends {
        let result = backend.execute(&request.program, &[shard], &()).unwrap().remove(0);
        assert_eq!(hex::encode(result.encode()), text(&case["bytes"]), "{} {}", backend.name(), case["name"]);
        assert_eq!(result.digest(), digest(&case["sha256"]));
        assert_eq!(result.iterations, integer(&case["iterations"]));
    }
    let bytes = hex::decode(text(&case["bytes"])).unwrap();
    (Program::clone(&request.program), ShardResult::decode(&bytes).expect("canonical bytes"))
}

#[test]
fn shard_results() {
    for case in cases("shards", "shards") {
        check_shard(&case);
    }
    for case in cases("shards", "merges") {
        let (programs, parts): (Vec<_>, Vec<_>) = list(&case, "parts").iter().map(check_shard).unzip();
        let merged = merge_results(&programs[0], &parts);
        assert_eq!(hex::encode(merged.encode()), text(&case["bytes"]), "{}", case["name"]);
        assert_eq!(
            (merged.digest(), merged.iterations),
            (digest(&case["sha256"]), integer(&case["iterations"]))
        );
    }
}

#[test]
fn whole_results() {
    for case in cases("results", "results") {
        let request = request(&case["envelope"]);
        let (merged, reason) = runs::execute(&request, &Simd::new());
        let document = request.result_document(&merged, reason);
        let found = String::from_utf8(to_canonical_json(&document).unwrap()).unwrap();
        assert_eq!(found, text(&case["result"]), "{}", case["name"]);
        assert_eq!(runs::hash(&document), digest(&case["result_hash"]), "{}", case["name"]);
    }
}
