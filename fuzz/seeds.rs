//! Writes the seed corpus: `seeds DIRECTORY` creates a folder for each target, from examples/ and
//! tests/vectors/.

use std::{error::Error, fs, path::Path};

use forge_contract::{agent::Identity, program::Program};
use forge_kernel::{
    testing::{CountRecipe, ComponentRecipe, ProgramRecipe, AmountRecipe},
    request::Request,
    workload::PROFILES,
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: seeds DIRECTORY")?;
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&directory).join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for entry in fs::read_dir(root.join("examples"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().ok_or("a file name")?.to_string_lossy().into_owned();
            write("envelope", &name, &fs::read(&path)?)?;
        }
    }
    for profile in PROFILES {
        let op = json!({"name": profile.op, "version": profile.version, "profile": profile.name});
        let mut args = (profile.example_args)();
        write("envelope", profile.name, json!({"op": op, "args": args}).to_string().as_bytes())?;
        args["convergence"] = json!({"metric": "var", "level": 0.99, "relative_half_width": 0.01});
        let envelope =
            json!({"op": op, "args": args, "seed": {"mode": "explicit", "value": "s"}}).to_string();
        assert!(Request::from_json(envelope.as_bytes()).is_ok(), "the seeds are valid envelopes");
        write("envelope", &format!("{}-convergence", profile.name), envelope.as_bytes())?;
    }
    for (file, list) in [("shards", "shards"), ("shards", "merges"), ("statistics", "distributions")] {
        let path = root.join(format!("tests/vectors/v1/{file}.json"));
        let document: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        for (i, case) in document[list].as_array().ok_or("no such list")?.iter().enumerate() {
            let text =
                case.get("bytes").or(case.get("shard_bytes")).and_then(Value::as_str).ok_or("no bytes")?;
            write("shard_result", &format!("{list}-{i}"), &hex::decode(text)?)?;
        }
    }
    for (name, message) in messages() {
        write("message", name, &serde_json::to_vec(&message)?)?;
    }
    for (name, program) in programs() {
        write("program", name, &program.encode())?;
    }
    Ok(())
}

/// One message of each kind that an untrusted agent can send, with values of the right form.
fn messages() -> [(&'static str, Value); 3] {
    let (hash, uid, agent) = ("0".repeat(64), "0".repeat(32), Identity::from_random([1; 32]).id().to_string());
    let statement = json!({"protocol": 1, "job_uid": uid, "shard_id": "0-0", "iterations": 65536, "seed": hash,
        "program": hash, "kernel": 1, "task_id": hash, "pool": "default", "agent_id": agent, "backend": "scalar",
        "result_hash": hash});
    let verdict = json!({"protocol": 1, "outcome": "confirmed", "job_uid": uid, "shard_id": "0-0", "task_id": hash,
        "pool": "default", "agent_id": agent, "result_hash": hash, "verifier_id": agent, "backend": "scalar",
        "reason": ""});
    let signature = "0".repeat(128);
    let outcomes = json!([{"outcome": "accepted", "shard_id": "0-0", "task_id": hash, "wall_us": 1}]);
    [
        ("attestation", json!({"protocol": 1, "statement": statement, "wall_us": 1, "cpu_us": 1, "signature": signature})),
        ("verdict", json!({"protocol": 1, "statement": verdict, "signature": signature})),
        ("outcomes", json!({"protocol": 1, "outcomes": outcomes})),
    ]
}

fn programs() -> [(&'static str, Program); 3] {
    let one = |counts, table| {
        ProgramRecipe { segment_bits: 1, base: 0, cap: 1 << 40, components: vec![ComponentRecipe::new(counts, table)] }.program()
    };
    let parts = (0..3).map(|i| ComponentRecipe { cap: 1000 + i, ..ComponentRecipe::new(CountRecipe::Bernoulli(0.5), AmountRecipe::Noise(i)) });
    let three = ProgramRecipe { segment_bits: 1, base: 7, cap: 5000, components: parts.collect() }.program();
    [
        ("constant", one(CountRecipe::Constant(3), AmountRecipe::Steep(1))),
        ("poisson", one(CountRecipe::Poisson(2.0), AmountRecipe::Extreme(2))),
        ("three", three),
    ]
}
